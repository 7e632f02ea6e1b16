"""Train pico, the bundled model, from nothing: about 40 minutes on 2 cores."""

from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from grace.pico.settings import Settings
from grace.pico.training import build
from grace.prompts.variants import PromptSet


def train_pico(prompts: Path, folder: Path, settings: dict[str, Any]) -> None:
    """Write the model to `folder`.

    `prompts` is a variant's folder of templates; `settings` is what
    `grace.pico.settings.Settings.as_dict` gives.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    build(PromptSet(prompts), folder, Settings.from_dict(settings))


if __name__ == "__main__":
    from grace.runs.scripting import logged

    with logged(snakemake.log[0]):
        train_pico(
            Path(snakemake.params.prompts),
            Path(snakemake.output.model).parent,
            dict(snakemake.params.output_config["settings"]),
        )
