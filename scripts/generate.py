"""Experiment 1: sample a raw answer to every trial's prompt."""

from pathlib import Path

from grace.experiments.inference import infer
from grace.settings.output_configs import SamplingConfig

if __name__ == "__main__":
    from grace.models.tokenizers_alone import use_tokenizers_alone
    from grace.runs.scripting import job

    use_tokenizers_alone()
    with job(snakemake, __file__) as record:
        record |= infer(
            Path(snakemake.input.stimuli),
            SamplingConfig.model_validate(snakemake.params.output_config),
            dict(snakemake.params.runtime),
            snakemake.params.code,
            Path(snakemake.output.records),
            Path(snakemake.output.provenance),
        )
