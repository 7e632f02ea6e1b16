"""Turn experiment 2's log-probabilities into distributions, summaries, and ways of scoring."""

from pathlib import Path

from grace.results.records import read_records
from grace.results.scoring_methods import baselines, method_columns, method_rows
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


def scoring_methods(records: Path, table: Path, study: Study) -> None:
    """Write <study>_scoring_methods.csv."""
    expected = baselines(read_records(records), study)
    rows = method_rows(read_records(records), study, expected)
    write_rows(table, rows, method_columns(study))


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        study = study_of_job(snakemake.params.runtime["studies"][snakemake.wildcards.study])
        probabilities(
            Path(snakemake.input.records),
            Path(snakemake.output.table),
            study,
            ProbabilitiesConfig.model_validate(snakemake.params.output_config),
        )
        scoring_methods(
            Path(snakemake.input.records), Path(snakemake.output.scoring_methods), study
        )
