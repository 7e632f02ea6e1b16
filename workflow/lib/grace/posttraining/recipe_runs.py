"""What of the recipes a run needs: whose checkpoints are among its models, and what they ask."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grace.places import located
from grace.posttraining.approvals import Approval, approval
from grace.posttraining.checkpoints import FOLDER, STAGES, Checkpoint, Registry, TrainingStage
from grace.posttraining.constitution import Constitution, read_constitution
from grace.posttraining.instruction_bank import InstructionBank, read_bank
from grace.settings.config import Config, ModelEntry
from grace.settings.recipes import Recipe

#: The base as it is evaluated: without examples, and after those that it answers with.
BASE, BASE_FEW_SHOT = "base", "base-few-shot"


@dataclass(frozen=True)
class RecipeRun:
    """A recipe of a run. `seeds` are the training seeds that are needed.

    `base` is the key of the model that asks, answers and judges, `base_entry` its entry as it runs
    here; `before` is the checkpoint that it is, None for a model of models.yaml.
    """

    name: str
    recipe: Recipe
    seeds: tuple[int, ...]
    base: str
    base_entry: ModelEntry
    before: Checkpoint | None
    constitution: Constitution
    bank: InstructionBank
    results: str

    @property
    def folder(self) -> str:
        """Of all that it makes."""
        return f"{self.results}/{FOLDER}/{self.name}"

    def sft(self, seed: int) -> tuple[str, ModelEntry]:
        """Key and entry of the checkpoint that answers with candidates."""
        return self.checkpoint("sft", seed)

    def checkpoint(self, stage: TrainingStage, seed: int) -> tuple[str, ModelEntry]:
        """Key and entry of a checkpoint."""
        checkpoint = Checkpoint(self.name, stage, seed)
        own = {"adapter": checkpoint.folder(self.results), "trained": checkpoint.key}
        return checkpoint.key, self.base_entry.model_copy(update={**own, "adapter_gib": None})

    def evaluated(self, models: Collection[str]) -> list[str]:
        """What is evaluated in a run of these models: the recipe's among them, with the base.

        Empty where none of them is the recipe's.
        """
        shown = self.shown(models)
        found = [
            f"{stage}-{seed}"
            for stage, seed in zip(shown.get("stages", ()), shown.get("seeds", ()), strict=True)
        ]
        bases = [BASE, *([BASE_FEW_SHOT] if self.recipe.answers.shots else [])]
        return [*bases, *found] if found else []

    def shown(self, models: Collection[str]) -> dict[str, Any]:
        """For the report: the base, and the checkpoints among these models, side by side."""
        found = [
            Checkpoint(self.name, stage, seed)
            for stage in STAGES
            for seed in self.seeds
            if Checkpoint(self.name, stage, seed).key in models
        ]
        if not found:
            return {}
        return {
            "base": self.base,
            "models": [one.key for one in found],
            "stages": [one.stage for one in found],
            "seeds": [one.seed for one in found],
        }

    def model_of(self, evaluated: str) -> tuple[str, ModelEntry]:
        """Key and entry of one of `evaluated`."""
        for stage in STAGES:
            if evaluated.startswith(f"{stage}-"):
                return self.checkpoint(stage, int(evaluated.removeprefix(f"{stage}-")))
        return self.base, self.base_entry

    def trained_on(self, evaluated: str, runs: Mapping[str, RecipeRun]) -> list[str]:
        """Files with what a checkpoint was trained on, those of the recipe's own base first."""
        before = self.before
        found = []
        if before is not None:
            found = runs[before.recipe].trained_on(f"{before.stage}-{before.seed}", runs)
        stage, _, seed = evaluated.partition("-")
        if stage in STAGES:
            found.append(f"{self.folder}/selection.json")
        if stage == "dpo":
            found.append(f"{self.folder}/seed-{seed}/pairs.json")
        return found

    def gate(self, gate: str, seed: int | None = None) -> list[Approval]:
        """The approval of a decision point, where the recipe has it."""
        if gate not in self.recipe.approve:
            return []
        return [approval(self.results, self.name, gate, seed)]

    def gates(self, gate: str) -> list[Approval]:
        """The approvals of a decision point over all seeds."""
        return [
            one
            for seed in ((None,) if gate == "sample" else self.seeds)
            for one in self.gate(gate, seed)
        ]


def recipe_runs(
    registry: Registry,
    recipes: Mapping[str, Recipe],
    config: Config,
    root: Path,
    entry_here: Callable[[str], ModelEntry],
) -> dict[str, RecipeRun]:
    """The recipes behind the configured models, those that others build on first.

    `entry_here` gives an entry as it runs on this machine. Raises `ConfigError`.
    """
    found = {}
    for name in registry.recipes_of(config.models):
        recipe = recipes[name]
        found[name] = RecipeRun(
            name=name,
            recipe=recipe,
            seeds=tuple(registry.seeds_of(name, config.models)),
            base=recipe.base,
            base_entry=entry_here(recipe.base),
            before=registry.checkpoints.get(recipe.base),
            constitution=read_constitution(
                located(recipe.constitution, root), recipe.answers.shots, recipe.judge.shots
            ),
            bank=read_bank(
                located(recipe.instructions.bank, root), recipe.instructions.held_out_types
            ),
            results=config.results,
        )
    return found
