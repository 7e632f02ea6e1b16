"""Check a replication's tables against the number of trials and the thresholds."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from grace.results.records import write_json
from grace.results.tables import TEXT_COLUMNS
from grace.results.validation import (
    Check,
    check_draws,
    check_models,
    check_probabilities,
    check_structured,
    report,
)
from grace.settings.config import GenerationConfig, Thresholds
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study


def validate(
    studies: Mapping[str, Study],
    structured: Mapping[str, Path],
    probabilities: Mapping[str, Path],
    output: Path,
    model_key: str,
    replication: int,
    cell: Mapping[str, Any],
) -> None:
    """Write validation.json and log every failed check. The files are given by study.

    `cell` is what `Project.validation_cell` gives.
    """
    thresholds = Thresholds.model_validate(cell["thresholds"])
    checks: list[Check] = []
    for name, trials in cell["trials"].items():
        study, expected = studies[name], trials * len(cell["variants"])
        answers, measured = _read(structured.get(name)), _read(probabilities.get(name))
        if answers is not None:
            checks += check_structured(answers, study, expected, thresholds)
            checks += check_models(answers, study, "exp1", cell["answers_as"])
            decoding = GenerationConfig.model_validate(cell["decoding"])
            checks += check_draws(answers, measured, study, decoding)
        if measured is not None:
            checks += check_probabilities(measured, study, expected, thresholds)
            checks += check_models(measured, study, "exp2", cell["answers_as"])
    found = report(model_key, replication, checks)
    for line in found.failures():
        logging.warning("%s", line)
    if found.passed:
        logging.info("all %d checks passed", len(found.checks))
    write_json(output, found.model_dump())


def _read(path: Path | None) -> pd.DataFrame | None:
    """A table; an answer "NA" or "null" is an answer, not a missing value."""
    if path is None:
        return None
    return pd.read_csv(
        path,
        keep_default_na=False,
        na_values=[""],
        dtype=dict.fromkeys(TEXT_COLUMNS, "string"),
        low_memory=False,
    )


if __name__ == "__main__":
    from grace.runs.scripting import job

    studies = snakemake.params.cell["trials"]

    def by_study(files: list[str]) -> dict[str, Path]:
        """The files in the order of the configured studies."""
        return {study: Path(path) for study, path in zip(studies, files, strict=bool(files))}

    with job(snakemake, __file__):
        validate(
            {name: study_of_job(snakemake.params.runtime["studies"][name]) for name in studies},
            by_study(snakemake.input.get("structured", [])),
            by_study(snakemake.input.get("probabilities", [])),
            Path(snakemake.output.validation),
            snakemake.wildcards.model,
            int(snakemake.wildcards.replication),
            dict(snakemake.params.cell),
        )
