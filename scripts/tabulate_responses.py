"""Tabulate experiment 1's records: one row a trial and variant."""

from pathlib import Path

from grace.results.records import read_records
from grace.results.tables import raw_columns, raw_rows, wording_columns, write_rows
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study


def tabulate(records: Path, table: Path, study: Study) -> None:
    """Write <study>_raw_responses.csv."""
    wording = wording_columns(read_records(records))
    rows = raw_rows(read_records(records), study, wording)
    write_rows(table, rows, (*raw_columns(study), *wording))


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        tabulate(
            Path(snakemake.input.records),
            Path(snakemake.output.table),
            study_of_job(snakemake.params.runtime["studies"][snakemake.wildcards.study]),
        )
