"""Tables of the people and models of people that a study's report shows beside language models."""

from pathlib import Path

from grace.studies.catalogue import study_of_job
from grace.studies.theory import write_reference

if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        write_reference(
            study_of_job(snakemake.params.runtime["studies"][snakemake.wildcards.study]),
            Path(snakemake.output.table),
        )
