"""Where a recipe is trained: the tags whose memory a training fits, and by which method. Pure.

An adapter's numbers depend on how it is trained, so a training may move to another tag only where
the method is the same. How many rows are taken at a time follows from the memory there, and is
recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from grace.cluster.plan.placement import Placement, placement_for
from grace.cluster.plan.settings import Cluster
from grace.errors import ConfigError, GraceError, TrainingError
from grace.models.precision import likely_shape
from grace.places import located
from grace.settings.config import ModelEntry
from grace.settings.recipes import Recipe
from grace.training.base_shape import BaseShape, base_shape
from grace.training.memory import GIB, MemoryPlan, memory_plan
from grace.training.settings import Kind, Method

#: Ids of a vocabulary where the base's files are not here: those of today's models are 128,000 to
#: 262,000.
ASSUMED_VOCABULARY = 152_064
KINDS: tuple[Kind, ...] = ("sft", "dpo")


@dataclass(frozen=True)
class TrainingPlace:
    """A tag that a recipe may be trained on, with one GPU of it, and how.

    `methods` and `micro_batch`, the rows at a time, are by kind; `arithmetic` shows why.
    """

    placement: Placement
    methods: dict[Kind, Method]
    micro_batch: dict[Kind, int]
    arithmetic: tuple[str, ...]


def shape_of(entry: ModelEntry, root: Path) -> BaseShape | None:
    """The base's shape by its files, else as its number of parameters lets expect; None without.

    Assumed are 12 x hidden size squared parameters a layer, four of them in attention.
    """
    folder = located(entry.name, root)
    if folder.is_dir():
        try:
            return base_shape(folder)
        except GraceError:
            return None
    if entry.parameters_b is None:
        return None
    parameters = entry.parameters_b * 1e9
    layers, hidden = (round(value) for value in likely_shape(parameters))
    inner = 8 * hidden // 3
    linear: dict[str, tuple[int, int]] = {}
    for layer in range(layers):
        linear |= {f"{layer}.{name}_proj": (hidden, hidden) for name in "qkvo"}
        linear |= {f"{layer}.{name}_proj": (inner, hidden) for name in ("gate", "up")}
        linear[f"{layer}.down_proj"] = (hidden, inner)
    return BaseShape(round(parameters), linear, layers, hidden, ASSUMED_VOCABULARY, None)


def plan_on(
    shape: BaseShape, recipe: Recipe, kind: Kind, memory_gib: float, number_bytes: int = 2
) -> MemoryPlan:
    """How a recipe's training fits into so much memory. Raises `TrainingError`."""
    stage = recipe.sft if kind == "sft" else recipe.dpo
    return memory_plan(
        shape, kind, method=recipe.sft.method, rank=recipe.sft.rank, length=recipe.sft.max_length,
        batch=stage.batch, memory=memory_gib * GIB, number_bytes=number_bytes,
    )  # fmt: skip


def training_places(
    name: str, recipe: Recipe, entry: ModelEntry, cluster: Cluster, tags: Sequence[str], root: Path
) -> list[TrainingPlace]:
    """The tags on which a recipe is trained, in order: the first, and those of the same method.

    `tags` are those that its base runs on. Raises `ConfigError`, with the arithmetic, where a
    training fits none of them.
    """
    shape = shape_of(entry, root)
    found: list[TrainingPlace] = []
    refused: list[str] = []
    for tag in tags:
        one = placement_for(entry, tag)
        plain = replace(placement_for(entry.model_copy(update={"placements": {}}), tag), gpus=1)
        own = replace(plain, tensor_parallel_size=1, name=one.name, revision=one.revision)
        own = replace(own, cpu=4, memory_mib=16_384, shm_mib=1024)
        if shape is None:
            methods = dict.fromkeys(KINDS, recipe.sft.method)
            found.append(TrainingPlace(own, methods, dict.fromkeys(KINDS, 1), ()))
            continue
        try:
            plans = {kind: plan_on(shape, recipe, kind, cluster.gpus[tag].memory_gib)
                     for kind in KINDS}  # fmt: skip
        except TrainingError as error:
            refused.append(f"  {tag}: {error}")
            continue
        methods = {kind: plan.method for kind, plan in plans.items()}
        if found and found[0].methods != methods:
            refused.append(f"  {tag}: would train by another method.")
            continue
        shown = tuple(line for plan in plans.values() for line in plan.arithmetic)
        micro = {kind: plan.micro_batch for kind, plan in plans.items()}
        found.append(TrainingPlace(own, methods, micro, shown))
    if not found:
        raise ConfigError(
            "\n".join(
                [
                    f"config/recipes.yaml: recipe '{name}' can be trained on none of the tags that"
                    f" its base '{recipe.base}' runs on:",
                    *refused,
                    "Name others in `gpus`, with 80 GiB for example, or set `sft.method: auto`.",
                ]
            )
        )
    return found
