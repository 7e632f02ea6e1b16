"""Experiment 2: measure the distribution over every query's options."""

from pathlib import Path

from grace.experiments.inference import infer

if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__) as record:
        record |= infer(
            Path(snakemake.input.stimuli),
            dict(snakemake.params.cell),
            dict(snakemake.params.runtime),
            snakemake.params.code["digest"],
            Path(snakemake.output.records),
            Path(snakemake.output.provenance),
        )
