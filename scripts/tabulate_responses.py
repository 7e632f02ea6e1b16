"""Tabulate experiment 1's records: one row a trial and variant."""

from pathlib import Path

from grace.results.records import read_records
from grace.results.tables import raw_columns, raw_rows, write_rows
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study


def tabulate(records: Path, table: Path, study: Study) -> None:
    """Write <study>_raw_responses.csv."""
    columns = raw_columns(study)
    write_rows(table, raw_rows(read_records(records), study), columns)


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        tabulate(
            Path(snakemake.input.records),
            Path(snakemake.output.table),
            study_of_job(snakemake.params.runtime["studies"][snakemake.wildcards.study]),
        )
