"""Merge a study's tables over models and replications, if they are valid."""

import logging
from pathlib import Path

import pandas as pd

from grace.errors import RecordError
from grace.records import read_json, replacing
from grace.studies import STUDIES, Study
from grace.tables import analysis_ready
from grace.validation import read_report


def refuse_invalid(validations: list[Path], on_invalid: str) -> None:
    """Raise `RecordError` with a readable summary of failed checks, or only log it."""
    failures = [line for path in validations for line in read_report(read_json(path)).failures()]
    if not failures:
        return
    summary = "\n".join(
        [
            f"validation failed ({len(failures)} checks):",
            *failures,
            "The rows to review are listed in each replication's validation.json. To analyse"
            " the results all the same: --config on_invalid=warn; the limits are `thresholds` in"
            " config/config.yaml.",
        ]
    )
    if on_invalid == "fail":
        raise RecordError(summary)
    logging.warning("%s", summary)


def read_table(path: Path, study: Study) -> pd.DataFrame:
    """A table of ours; identifiers stay text and only empty cells are missing values."""
    return pd.read_csv(
        path,
        keep_default_na=False,
        na_values=[""],
        dtype=dict.fromkeys((*study.key_columns, "variant", "prompt_id"), "string"),
        low_memory=False,
    )


def merge(
    structured: list[Path], probabilities: list[Path], study: Study, csv: Path, parquet: Path
) -> None:
    """Write the study's analysis-ready table as CSV and Parquet.

    The lists run over the same models and replications, in the same order; one may be empty.
    """
    pairs = max(len(structured), len(probabilities))
    tables = [
        analysis_ready(
            study,
            read_table(structured[index], study) if structured else None,
            read_table(probabilities[index], study) if probabilities else None,
        )
        for index in range(pairs)
    ]
    merged = pd.concat(tables, ignore_index=True)
    with replacing(csv) as file:
        merged.to_csv(file, index=False)
    merged.to_parquet(parquet, index=False)


if __name__ == "__main__":
    from grace.scripting import job

    with job(snakemake, __file__):
        refuse_invalid(
            [Path(path) for path in snakemake.input.validations],
            snakemake.params.cell["on_invalid"],
        )
        merge(
            [Path(path) for path in snakemake.input.get("structured", [])],
            [Path(path) for path in snakemake.input.get("probabilities", [])],
            STUDIES[snakemake.wildcards.study],
            Path(snakemake.output.csv),
            Path(snakemake.output.parquet),
        )
