"""What filled-in review sheets say of how answers were read, as a table for the report."""

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from grace.results.review_agreement import agreement, current_rows, write_agreements
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study


def reviewed(
    sheets: Iterable[Path],
    structured: Sequence[Path],
    table: Path,
    studies: Mapping[str, Study],
) -> None:
    """Write the agreement of each study's answers with its sheet.

    Raises `RecordError`, with row and column, for a sheet that is filled in wrongly.
    """
    found = []
    for sheet in sheets:
        study = studies[sheet.stem]
        rows: list[dict[str, str]] = []
        for path in (path for path in structured if path.name == f"{study.name}_structured.csv"):
            with path.open(encoding="utf-8", newline="") as file:
                rows += csv.DictReader(file)
        compared, problems = agreement(study, sheet, current_rows(study.name, rows))
        for problem in problems:
            logging.warning("%s: %s", sheet, problem)
        for one in compared:
            logging.info("%s", one.said())
        found += compared
    write_agreements(table, found)


if __name__ == "__main__":
    from grace.runs.scripting import job

    jobs = dict(snakemake.params.runtime["studies"])
    sheets = [Path(path) for path in snakemake.input.sheets]
    with job(snakemake, __file__):
        reviewed(
            sheets,
            [Path(path) for path in snakemake.input.structured],
            Path(snakemake.output.table),
            {sheet.stem: study_of_job(jobs[sheet.stem]) for sheet in sheets},
        )
