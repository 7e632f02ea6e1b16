"""Train pico, the bundled model, from nothing: about 20 minutes on 2 idle cores."""

from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from grace.pico.training import Settings, build
from grace.prompts import PromptSet


def train_pico(prompts: Path, folder: Path, settings: dict[str, Any]) -> None:
    """Write the model to `folder`; `settings` are fields of `grace.pico.training.Settings`."""
    transformers_logging.disable_progress_bar()
    build(PromptSet(prompts), folder, Settings(**settings))


if __name__ == "__main__":
    from snakemake.script import snakemake

    from grace.scripting import logged

    with logged(snakemake.log[0]):
        train_pico(
            Path(snakemake.params.prompts),
            Path(snakemake.output.model).parent,
            dict(snakemake.params.cell),
        )
