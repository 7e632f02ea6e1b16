"""Parse raw answers into structured ones; a row is never dropped."""

from pathlib import Path

from grace.results.tables import (
    own_columns,
    raw_columns,
    read_rows,
    structured_columns,
    structured_rows,
    write_rows,
)
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study


def structure(raw: Path, table: Path, study: Study, percentage_tolerance: float) -> None:
    """Write <study>_structured.csv."""
    columns = own_columns(raw, raw_columns(study))
    wording = columns[len(raw_columns(study)) :]
    structured = structured_rows(read_rows(raw, columns), study, percentage_tolerance)
    write_rows(table, structured, (*structured_columns(study), *wording))


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        structure(
            Path(snakemake.input.raw),
            Path(snakemake.output.table),
            study_of_job(snakemake.params.runtime["studies"][snakemake.wildcards.study]),
            snakemake.params.output_config["percentage_tolerance"],
        )
