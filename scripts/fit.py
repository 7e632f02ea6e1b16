"""Parameters of a study's cognitive models, fitted to every language model's answers."""

from pathlib import Path

from grace.settings.output_configs import FitConfig
from grace.studies.catalogue import study_of_job
from grace.studies.theory_of_models import write_fits

if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        write_fits(
            study_of_job(snakemake.params.runtime["studies"][snakemake.wildcards.study]),
            Path(snakemake.input.ready),
            Path(snakemake.output.table),
            temperature=FitConfig.model_validate(snakemake.params.output_config).temperature,
        )
