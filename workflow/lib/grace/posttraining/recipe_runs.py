"""What of the recipes a run needs: whose checkpoints are among its models, and what they ask."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grace.errors import ConfigError
from grace.places import located
from grace.posttraining.approvals import Approval, approval
from grace.posttraining.checkpoints import (
    DPO,
    FOLDER,
    SFT,
    Checkpoint,
    Registry,
    pairs_folder,
    round_of,
    stages_of,
)
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

    @property
    def held_out(self) -> tuple[str, ...]:
        """The types of its bank that it never trains on."""
        return self.bank.held_out(self.recipe.instructions.held_out_types)

    @property
    def trained_types(self) -> set[str]:
        """The other types of its bank."""
        return {one.name for one in self.bank.types} - set(self.held_out)

    def needed(self, models: Collection[str], seed: int) -> list[str]:
        """The stages of a training seed up to the last of which the checkpoint is among these."""
        stages = stages_of(self.recipe)
        found = [Checkpoint(self.name, stage, seed).key in models for stage in stages]
        return stages[: len(found) - found[::-1].index(True)] if any(found) else []

    def rounds(self, models: Collection[str], seed: int) -> int:
        """How many online rounds of a training seed these models need."""
        return max(map(round_of, self.needed(models, seed)), default=0)

    def pairs_needed(self, models: Collection[str]) -> list[str]:
        """The files with the pairs of all trainings that these models need."""
        return [
            self.pairs_file(stage, seed)
            for seed in self.seeds
            for stage in self.needed(models, seed)
            if stage != SFT
        ]

    def pairs_file(self, stage: str, seed: int) -> str:
        """The pairs that a stage after SFT was trained on, as texts."""
        return f"{self.folder}/seed-{seed}/{pairs_folder(stage)}pairs.json"

    def checkpoint(self, stage: str, seed: int) -> tuple[str, ModelEntry]:
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
            for stage in stages_of(self.recipe)
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
        stage, _, seed = evaluated.partition("-")
        if stage in stages_of(self.recipe):
            return self.checkpoint(stage, int(seed))
        return self.base, self.base_entry

    def trained_on(self, evaluated: str, runs: Mapping[str, RecipeRun]) -> list[str]:
        """Files with what a checkpoint was trained on, those of the recipe's own base first."""
        before = self.before
        found = []
        if before is not None:
            found = runs[before.recipe].trained_on(f"{before.stage}-{before.seed}", runs)
        stage, _, seed = evaluated.partition("-")
        stages = stages_of(self.recipe)
        if stage in stages:
            found.append(f"{self.folder}/selection.json")
            found += [
                self.pairs_file(one, int(seed)) for one in stages[1 : stages.index(stage) + 1]
            ]
        return found

    def gate(self, gate: str, seed: int | None = None, stage: str = DPO) -> list[Approval]:
        """The approval of a decision point, where the recipe has it; of a stage after SFT."""
        if gate not in self.recipe.approve:
            return []
        return [approval(self.results, self.name, gate, seed, stage)]

    def gate_after(self, stage: str, seed: int) -> list[Approval]:
        """What has to be approved before a checkpoint is used."""
        return self.gate(SFT, seed) if stage == SFT else self.gate(DPO, seed, stage)

    def gates(self, gate: str) -> list[Approval]:
        """The approvals of a decision point over all seeds, and stages where it is of several."""
        if gate == "sample":
            return self.gate(gate)
        stages = [DPO] if gate == SFT else stages_of(self.recipe)[1:]
        return [
            one for seed in self.seeds for stage in stages for one in self.gate(gate, seed, stage)
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
        refuse_trained_types(found[name], found)
    return found


def refuse_trained_types(run: RecipeRun, runs: Mapping[str, RecipeRun]) -> None:
    """Raise `ConfigError` where a type that a recipe holds out is one that its base learnt.

    The other types need no such check: which of their instructions belong to evaluation follows
    from type and values alone, in every recipe.
    """
    before = run.before
    while before is not None:
        earlier = runs[before.recipe]
        if learnt := sorted(set(run.held_out) & earlier.trained_types):
            raise ConfigError(
                f"config/recipes.yaml: recipe '{run.name}' holds out the type '{learnt[0]}' of its"
                f" bank, but recipe '{earlier.name}', whose checkpoint it begins with, trains on"
                f" it. Give both the same `instructions.held_out_types` and bank, or give the types"
                f" of {run.recipe.instructions.bank} names of their own where they are other ones."
            )
        before = earlier.before
