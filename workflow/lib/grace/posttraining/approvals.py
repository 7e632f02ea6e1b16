"""Decision points: what a person has to read and approve before a recipe goes on.

An approval holds the digest of what was approved, so that it counts for that and nothing else:
where a step before it makes something else, it is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grace.digests import file_digest
from grace.errors import ConfigError, RecordError
from grace.posttraining.checkpoints import DPO, FOLDER, pairs_folder
from grace.provenance import environment
from grace.results.records import read_json, write_json


@dataclass(frozen=True)
class Approval:
    """What is to be approved at a gate of a recipe.

    Attributes:
        of: The file whose digest is approved.
        page: What a person reads.
        note: The file with the approvals of this gate, by `of`.
    """

    recipe: str
    gate: str
    of: str
    page: str
    note: str

    def dump(self) -> dict[str, str]:
        return dict(vars(self))

    @property
    def is_made(self) -> bool:
        return Path(self.of).is_file()


def approval(results: str, recipe: str, gate: str, seed: int | None, stage: str = DPO) -> Approval:
    """The approval of a gate. Those behind SFT are of a training seed, and of a stage after it."""
    folder = f"{results}/{FOLDER}/{recipe}"
    own = folder if seed is None else f"{folder}/seed-{seed}"
    data = f"{own}/{pairs_folder(stage)}"
    of, page = {
        "sample": (f"{own}/sample.json", f"{own}/sample.html"),
        "sft": (f"{own}/sft/adapter_model.safetensors", f"{own}/sft/training_curve.csv"),
        "pairs": (f"{data}pairs.json", f"{data}pairs.html"),
        "dpo": (f"{own}/{stage}/adapter_model.safetensors", f"{own}/{stage}/training_curve.csv"),
    }[gate]
    return Approval(recipe, gate, of, page, f"{data}approved_{gate}.json")


def _is_approved(one: Approval) -> bool:
    try:
        values: Any = read_json(Path(one.note))
    except (OSError, RecordError):
        return False
    return isinstance(values, dict) and values.get("sha256") == file_digest(Path(one.of))


def require(approvals: Iterable[Mapping[str, str]]) -> None:
    """Raise `ConfigError` where one is not there, with the page to read and what to type."""
    for values in approvals:
        one = Approval(**values)
        if not _is_approved(one):
            before = " What was approved before is another." if Path(one.note).exists() else ""
            raise ConfigError(
                f"recipe '{one.recipe}' waits for a decision at `{one.gate}`: read {one.page}, then"
                f" `snakemake approve --config gate={one.gate} note='why'` and run again; or stop"
                f" here.{before} `approve: []` in config/recipes.yaml switches decision points off."
            )


def approve(approvals: Iterable[Approval], note: str) -> list[str]:
    """Approve what is there; a line for each. Raises `ConfigError` where nothing is.

    What is approved already keeps its note, unless there is nothing else.
    """
    approvals = list(approvals)
    made = [one for one in approvals if one.is_made]
    made = [one for one in made if not _is_approved(one)] or made
    if not made:
        waited = ", ".join(one.of for one in approvals) or "any recipe of the run"
        raise ConfigError(f"There is nothing to approve yet: no {waited}. Run the recipe first.")
    recipes = sorted({one.recipe for one in made})
    if len(recipes) > 1:
        raise ConfigError(
            f"Recipes {', '.join(recipes)} wait at `{made[0].gate}`. Say which with its models,"
            f" such as `--config models={recipes[0]}.sft-1`."
        )
    lines = []
    for one in made:
        found = file_digest(Path(one.of))
        write_json(
            Path(one.note),
            {
                "recipe": one.recipe, "gate": one.gate, "file": one.of, "sha256": found,
                "note": note, "approved": environment.now(),
            },
        )  # fmt: skip
        lines.append(f"Approved at `{one.gate}` of recipe '{one.recipe}': {one.of} ({found[:12]})")
    return lines
