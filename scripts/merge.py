"""Merge a study's tables over models and replications, if they are valid."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import pandas as pd

from grace.errors import RecordError
from grace.results.records import read_json, replacing
from grace.results.tables import TEXT_COLUMNS, CsvLines, analysis_ready
from grace.results.validation import NAMED, check_draws, read_report
from grace.settings.config import GenerationConfig
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study


def refuse_invalid(validations: list[Path], on_invalid: str, also: Sequence[str] = ()) -> None:
    """Raise `RecordError` with a readable summary of failed checks, or only log it."""
    failures = [line for path in validations for line in read_report(read_json(path)).failures()]
    failures += also
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
        dtype=dict.fromkeys((*study.key_columns, *TEXT_COLUMNS), "string"),
        low_memory=False,
    )


def repeated_draws(
    structured: list[Path], probabilities: list[Path], study: Study,
    decoding: Mapping[str, Any] | None,
) -> Iterator[str]:  # fmt: skip
    """A line for each model whose replications repeat each other, which none of them shows alone.

    The lists are those of `merge`; `decoding` is None where no answers were sampled.
    """
    tables: dict[str, list[tuple[pd.DataFrame, pd.DataFrame | None]]] = {}
    for index, path in enumerate(structured):
        found = read_table(path, study)
        measured = read_table(probabilities[index], study) if probabilities else None
        tables.setdefault(str(found["model_key"].iloc[0]), []).append((found, measured))
    for model, pairs in tables.items():
        if len(pairs) > 1:
            scored = [table for _, table in pairs if table is not None]
            checks = check_draws(
                pd.concat([found for found, _ in pairs]),
                pd.concat(scored) if scored else None,
                study,
                GenerationConfig.model_validate(decoding),
            )
            whose = f"{model}, all {len(pairs)} replications"
            yield from (check.failure(whose) for check in checks if not check.passed)


def mixed_versions(
    structured: list[Path], probabilities: list[Path], study: Study
) -> Iterator[str]:
    """A line for each model whose experiments or replications come from several versions of it.

    Each table has one alone, which its own validation saw to.
    """
    found: dict[str, Counter[str]] = {}
    for path in (*structured, *probabilities):
        table = read_table(path, study)
        names = table["reported_model"].dropna().astype(str).str.casefold().str.split(";").explode()
        found.setdefault(str(table["model_key"].iloc[0]), Counter()).update(names)
    for model, versions in found.items():
        if len(versions) > 1:
            told = ", ".join(
                f"{count} from '{name}'" for name, count in versions.most_common(NAMED)
            )
            yield (
                f"{model}, {study.name}, all replications: versions of the model that answers come"
                f" from ({told}): {len(versions)}, must be <= 1. Name one of them in `name`"
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
        merged.to_csv(cast("IO[str]", CsvLines(file)), index=False, lineterminator="\r\n")
    merged.to_parquet(parquet, index=False)


if __name__ == "__main__":
    from grace.runs.scripting import job

    study = study_of_job(snakemake.params.runtime["studies"][snakemake.wildcards.study])
    structured = [Path(path) for path in snakemake.input.get("structured", [])]
    probabilities = [Path(path) for path in snakemake.input.get("probabilities", [])]
    with job(snakemake, __file__):
        refuse_invalid(
            [Path(path) for path in snakemake.input.validations],
            snakemake.params.cell["on_invalid"],
            [
                *repeated_draws(
                    structured, probabilities, study, snakemake.params.cell["decoding"]
                ),
                *mixed_versions(structured, probabilities, study),
            ],
        )
        merge(
            structured,
            probabilities,
            study,
            Path(snakemake.output.csv),
            Path(snakemake.output.parquet),
        )
