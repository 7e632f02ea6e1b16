"""Turn experiment 2's log-probabilities into distributions and summary statistics."""

from pathlib import Path

from grace.results.records import read_records
from grace.results.tables import (
    probability_columns,
    probability_rows,
    wording_columns,
    write_rows,
)
from grace.settings.output_configs import ProbabilitiesConfig
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study


def probabilities(records: Path, table: Path, study: Study, config: ProbabilitiesConfig) -> None:
    """Write <study>_probabilities.csv."""
    wording = wording_columns(read_records(records))
    rows = probability_rows(
        read_records(records), study, config.min_option_mass, config.decoding, wording
    )
    write_rows(table, rows, (*probability_columns(study), *wording))


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        probabilities(
            Path(snakemake.input.records),
            Path(snakemake.output.table),
            study_of_job(snakemake.params.runtime["studies"][snakemake.wildcards.study]),
            ProbabilitiesConfig.model_validate(snakemake.params.output_config),
        )
