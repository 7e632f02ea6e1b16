"""Train an adapter of a recipe, in the environment of trainings."""

from pathlib import Path
from typing import Any

from grace.posttraining import approvals
from grace.posttraining.trainings import Training
from grace.settings.training_configs import TrainStep


def train(
    rows: Path, parent: Path | None, folder: Path, config: TrainStep, settings: dict[str, Any]
) -> dict[str, Any]:
    """Put the adapter into a folder. `parent` is that of the adapter to begin with, if any."""
    approvals.require(settings["approvals"])
    return Training(settings["trained"], config, rows, parent, settings).run(folder)


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__) as record:
        before = list(snakemake.input.get("adapter", []))
        record |= train(
            Path(snakemake.input.rows),
            Path(before[0]).parent if before else None,
            Path(snakemake.output[0]).parent,
            TrainStep.model_validate(snakemake.params.output_config),
            dict(snakemake.params.runtime),
        )
