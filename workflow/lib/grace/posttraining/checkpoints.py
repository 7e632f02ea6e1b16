"""Checkpoints of recipes as entries of the registry: `demo.sft-1` is recipe demo's, of seed 1.

Each is an adapter over the recipe's base, in the folder of results. A recipe may begin with
another's checkpoint: then its adapter is that one's, trained on.

A stage is "sft", "dpo", or "online<k>": round k of DPO on pairs of the checkpoint before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from grace.errors import ConfigError
from grace.settings.config import ModelEntry
from grace.settings.explain import explain, nearest
from grace.settings.recipes import Recipe
from grace.training.settings import Kind

SFT, DPO, ONLINE = "sft", "dpo", "online"
#: The folder of all that recipes make, below the results.
FOLDER = "training"
#: Steps before all stages, of all training seeds; those before DPO; and those of a round after it.
SHARED = ("instructions", "answers", "judge", "sample", "select")
_OF_PAIRS = ("candidates", "judge_pairs", "pairs", "dpo")
_OF_ROUND = ("online_candidates", "online_judge", "online_pairs", "online_dpo")
#: The steps that train, and how.
TRAINS: Mapping[str, Kind] = {"sft": "sft", "dpo": "dpo", "online_dpo": "dpo"}


def online(number: int) -> str:
    """The stage of a round, the first of which has number 1."""
    return f"{ONLINE}{number}"


def round_of(stage: str) -> int:
    """The number of a stage's round; 0 for those before the rounds."""
    return int(stage.removeprefix(ONLINE)) if stage.startswith(ONLINE) else 0


def stages_of(recipe: Recipe) -> list[str]:
    """The stages of a recipe, in order."""
    return [SFT, DPO, *(online(1 + number) for number in range(recipe.online_rounds))]


def stage_before(stage: str) -> str:
    """The stage whose checkpoint gives the candidates of this one, and is trained on by it."""
    number = round_of(stage)
    return SFT if number == 0 else DPO if number == 1 else online(number - 1)


def kind_of_stage(stage: str) -> Kind:
    """How a stage is trained: rounds are DPO again."""
    return "sft" if stage == SFT else "dpo"


def pairs_folder(stage: str) -> str:
    """Where the candidates and pairs of a stage lie, below the folder of its seed, with a slash."""
    number = round_of(stage)
    return f"round-{number}/" if number else ""


@dataclass(frozen=True)
class Checkpoint:
    """What a stage of a recipe leaves, by training seed."""

    recipe: str
    stage: str
    seed: int

    @property
    def key(self) -> str:
        """The key of its model."""
        return f"{self.recipe}.{self.stage}-{self.seed}"

    def folder(self, results: str) -> str:
        """Of its adapter."""
        return f"{results}/{FOLDER}/{self.recipe}/seed-{self.seed}/{self.stage}"


def all_checkpoints(recipes: Mapping[str, Recipe]) -> dict[str, Checkpoint]:
    """Every checkpoint that the recipes can make, by key."""
    found = (
        Checkpoint(name, stage, seed)
        for name, recipe in recipes.items()
        for seed in recipe.seeds
        for stage in stages_of(recipe)
    )
    return {checkpoint.key: checkpoint for checkpoint in found}


def named_step(step: str, wildcards: Mapping[str, str]) -> str:
    """A step as forecasts and costs call it: "online_dpo 2" of a round, "evaluate sft-1"."""
    which = wildcards.get("round", wildcards.get("evaluated"))
    return step if which is None else f"{step} {which}"


def needs(stage: str, step: str, number: int = 0) -> bool:
    """Whether a stage cannot be without a step of its recipe, of a round if it has a `number`."""
    if step in (*SHARED, "sft"):
        return True
    if step in _OF_ROUND:
        return round_of(stage) >= number
    return step in _OF_PAIRS and stage != SFT


class Registry:
    """Entries of models.yaml, and those that follow from recipes.

    Raises `ConfigError` where a checkpoint has the key of an entry.
    """

    def __init__(
        self, entries: Mapping[str, ModelEntry], recipes: Mapping[str, Recipe], results: str
    ) -> None:
        self._entries = entries
        self._recipes = recipes
        self._results = results
        self.checkpoints = all_checkpoints(recipes)
        if twice := sorted(self.checkpoints.keys() & entries.keys()):
            raise ConfigError(
                f"config/models.yaml: model '{twice[0]}' has the name of a checkpoint of recipe"
                f" '{self.checkpoints[twice[0]].recipe}' in config/recipes.yaml. Rename one."
            )

    def with_checkpoints(self, keys: Iterable[str]) -> dict[str, ModelEntry]:
        """All entries, with those of the named keys that are checkpoints. Raises `ConfigError`."""
        found = dict(self._entries)
        for key in keys:
            if key in self.checkpoints:
                found[key] = self.entry(key)
        return found

    def recipes_of(self, keys: Iterable[str]) -> list[str]:
        """The recipes that make these models, those that they build on before them."""
        found: dict[str, None] = {}
        for key in keys:
            if key in self.checkpoints:
                recipe = self.checkpoints[key].recipe
                for before in self.recipes_of([self._recipes[recipe].base]):
                    found[before] = None
                found[recipe] = None
        return list(found)

    def seeds_of(self, recipe: str, keys: Iterable[str]) -> list[int]:
        """The training seeds of a recipe that these models need, in order."""
        keys = list(keys)
        wanted = [*keys, *(self._recipes[name].base for name in self.recipes_of(keys))]
        checkpoints = (self.checkpoints[key] for key in wanted if key in self.checkpoints)
        return sorted({one.seed for one in checkpoints if one.recipe == recipe})

    def chain(self, key: str) -> list[Checkpoint]:
        """A checkpoint and those that it was trained on from; none of any other model."""
        if key not in self.checkpoints:
            return []
        found = self.checkpoints[key]
        return [found, *self.chain(self._recipes[found.recipe].base)]

    def entry(self, key: str, above: tuple[str, ...] = ()) -> ModelEntry:
        """The entry of a model or checkpoint. Raises `ConfigError` where it cannot be trained."""
        if key in self._entries:
            return self._entries[key]
        checkpoint = self.checkpoints[key]
        name = checkpoint.recipe
        recipe = self._recipes[name]
        where = f"config/recipes.yaml: recipe '{name}': base '{recipe.base}'"
        if recipe.base not in self._entries and recipe.base not in self.checkpoints:
            known = [*self._entries, *self.checkpoints]
            raise ConfigError(
                f"{where} is no entry of config/models.yaml and no checkpoint of another"
                f" recipe.{nearest(recipe.base, known)}"
            )
        if name in above:
            raise ConfigError(
                f"{where} builds on the recipe itself ({' -> '.join([*above, name])}). Begin one"
                " of them with a model of config/models.yaml."
            )
        base = self.entry(recipe.base, (*above, name))
        self._check_base(recipe, base, where)
        values = base.model_dump() | {
            "adapter": checkpoint.folder(self._results),
            "adapter_revision": None,
            "adapter_gib": None,
            "trained": key,
        }
        try:
            return ModelEntry.model_validate(values)
        except ValidationError as error:
            raise explain(f"{where}, for model '{key}'", error, ModelEntry) from None

    def _check_base(self, recipe: Recipe, base: ModelEntry, where: str) -> None:
        if base.prompting != "completion":
            raise ConfigError(
                f"{where} is not asked as a base model. Give its entry in config/models.yaml"
                " `prompting: completion` (docs/base_models.md)."
            )
        if base.quantization is not None:
            raise ConfigError(
                f"{where} is quantised (`quantization: {base.quantization}`), and an adapter is"
                " trained on plain weights. Name the entry of these; `sft.method: qlora` quantises"
                " while it trains."
            )
        if base.adapter is not None and base.trained is None:
            raise ConfigError(
                f"{where} has an `adapter` that no recipe trained. Name its base, or merge it."
            )
        if recipe.sft.max_length > base.max_model_len:
            raise ConfigError(
                f"{where} holds {base.max_model_len} tokens (`max_model_len`), but"
                f" `sft.max_length` is {recipe.sft.max_length}. Lower it."
            )
        if base.trained is not None:
            before = self._recipes[self.checkpoints[base.trained].recipe].sft
            if (before.rank, before.alpha) != (recipe.sft.rank, recipe.sft.alpha):
                raise ConfigError(
                    f"{where} is an adapter of rank {before.rank} and alpha {before.alpha:g}, which"
                    f" is trained on; `sft` says {recipe.sft.rank} and {recipe.sft.alpha:g}. Write"
                    " the same."
                )
