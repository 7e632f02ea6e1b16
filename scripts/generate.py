"""Experiment 1: sample a raw answer to every trial's prompt."""

from pathlib import Path

from grace.inference import infer

if __name__ == "__main__":
    from grace.scripting import logged

    with logged(snakemake.log[0]):
        infer(
            Path(snakemake.input.stimuli),
            dict(snakemake.params.cell),
            dict(snakemake.params.runtime),
            snakemake.params.code,
            Path(snakemake.output.records),
            Path(snakemake.output.provenance),
        )
