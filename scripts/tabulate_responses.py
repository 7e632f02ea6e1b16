"""Tabulate experiment 1's records: one row a trial and variant."""

from pathlib import Path

from grace.results.records import read_records
from grace.results.tables import raw_columns, raw_rows, write_rows
from grace.studies import STUDIES


def tabulate(records: Path, table: Path, study: str) -> None:
    """Write <study>_raw_responses.csv."""
    columns = raw_columns(STUDIES[study])
    write_rows(table, raw_rows(read_records(records), STUDIES[study]), columns)


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        tabulate(
            Path(snakemake.input.records),
            Path(snakemake.output.table),
            snakemake.wildcards.study,
        )
