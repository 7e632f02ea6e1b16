"""Turn experiment 2's log-probabilities into distributions and summary statistics."""

from pathlib import Path

from grace.results.records import read_records
from grace.results.tables import probability_columns, probability_rows, write_rows
from grace.studies import STUDIES


def probabilities(records: Path, table: Path, study: str, min_option_mass: float) -> None:
    """Write <study>_probabilities.csv."""
    rows = probability_rows(read_records(records), STUDIES[study], min_option_mass)
    write_rows(table, rows, probability_columns(STUDIES[study]))


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        probabilities(
            Path(snakemake.input.records),
            Path(snakemake.output.table),
            snakemake.wildcards.study,
            snakemake.params.output_config["min_option_mass"],
        )
