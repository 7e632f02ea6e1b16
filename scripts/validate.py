"""Check a replication's tables against the number of trials and the thresholds."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grace.results.records import write_json
from grace.results.validation import Check, read_checked, report, study_checks
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
    checks: list[Check] = []
    for name, trials in cell["trials"].items():
        found_in = (structured.get(name), probabilities.get(name))
        answers, measured = (None if path is None else read_checked(path) for path in found_in)
        checks += study_checks(studies[name], answers, measured, {**cell, "trials": trials})
    found = report(model_key, replication, checks)
    for line in found.failures():
        logging.warning("%s", line)
    if found.passed:
        logging.info("all %d checks passed", len(found.checks))
    write_json(output, found.model_dump())


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
