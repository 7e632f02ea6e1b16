"""The model card of a checkpoint, beside its adapter."""

import csv
from pathlib import Path
from typing import Any

from grace.digests import file_digest
from grace.forecast.recipe_steps import EVALUATE
from grace.posttraining.checkpoints import needs
from grace.posttraining.model_card import CardFacts, model_card
from grace.results.records import read_json, replacing


def write_card(
    adapter: list[Path], data: Path, costs: Path, rates: list[Path], card: Path,
    config: dict[str, Any],
) -> None:  # fmt: skip
    """Write README.md. `adapter` are the files of the training."""
    named = {path.name: path for path in adapter}
    with named["training_curve.csv"].open(encoding="utf-8", newline="") as file:
        curve = list(csv.DictReader(file))
    seeds, name = (None, config["seed"]), f"{config['stage']}-{config['seed']}"
    facts = CardFacts(
        **config,
        record=read_json(named["grace_adapter.json"]),
        digests={name: file_digest(path) for name, path in sorted(named.items())
                 if name.startswith("adapter")},
        training=read_json(named["training.json"]),
        curve=curve[-1] if curve else {},
        data=read_json(data),
        costs=[row for row in read_json(costs)["steps"]
               if row["seed"] in seeds and _led_to(row["step"], config["stage"], name)],
        rates=[row for path in rates for row in _rates(path, name)],
    )  # fmt: skip
    with replacing(card) as file:
        file.write(model_card(facts))


def _led_to(step: str, stage: str, name: str) -> bool:
    """Whether a step is behind a stage's checkpoint, or evaluates it by its name."""
    rule, _, which = step.partition(" ")
    if rule == EVALUATE:
        return which == name
    return needs(stage, rule, int(which or 0))


def _rates(path: Path, name: str) -> list[dict[str, str]]:
    """The rows of a checkpoint, of whichever column names it."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if name in row.values()]


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        write_card(
            [Path(path) for path in snakemake.input.adapter],
            Path(snakemake.input.data),
            Path(snakemake.input.costs),
            [Path(path) for path in snakemake.input.rates],
            Path(snakemake.output.card),
            dict(snakemake.params.output_config),
        )
