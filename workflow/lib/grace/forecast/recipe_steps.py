"""Seconds, GPU-hours and money of each step of a recipe, where it is computed. Pure but for files.

A `RecipeSite` is plain values, so that a job can be given it and say what it is about to take from
what the steps before it have made by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from grace.forecast.hardware import Hardware
from grace.forecast.model_size import ModelSize
from grace.forecast.recipe_amounts import (
    RecipeNumbers,
    RecipeTexts,
    asked_work,
    known_of,
    training_work,
)
from grace.forecast.throughput import IN_PROCESS, SERVED, seconds, start_seconds
from grace.forecast.training_throughput import training_seconds
from grace.posttraining.checkpoints import TRAINS, round_of
from grace.training.settings import Kind

#: The steps of a recipe that take time, in their order; those of `SEEDED` are of a training seed,
#: those of `ROUND` of each of its rounds, such as "online_dpo 2".
SHARED = ("instructions", "answers", "judge")
SEEDED = ("sft", "candidates", "judge_pairs", "dpo")
ROUND = ("online_candidates", "online_judge", "online_dpo")
#: What is evaluated is a step each, such as "evaluate sft-1".
EVALUATE = "evaluate"
#: Steps that find the server of the step before them, where both are done.
SHARES_SERVER = {
    "answers": "instructions", "judge": "answers", "judge_pairs": "candidates",
    "online_judge": "online_candidates",
}  # fmt: skip
#: Steps of a round that do what one before DPO does, as much of it.
_AS = {"online_candidates": "candidates", "online_judge": "judge_pairs"}
SECONDS_AN_HOUR = 3600.0


def evaluations(evaluated: Iterable[str]) -> list[str]:
    """The steps that evaluate."""
    return [f"{EVALUATE} {one}" for one in evaluated]


def seeded(stages: Sequence[str]) -> list[str]:
    """The steps that take time of a training seed, up to the last of these stages."""
    if not stages:
        return []
    before = SEEDED if len(stages) > 1 else SEEDED[:1]
    rounds = max(map(round_of, stages))
    return [*before, *(f"{step} {1 + number}" for number in range(rounds) for step in ROUND)]


def rule_of(step: str) -> str:
    """The step's rule, without what it is of."""
    return step.partition(" ")[0]


def shares_server(step: str) -> str | None:
    """The step whose server it finds, if that is done; None for one that finds none."""
    rule, _, which = step.partition(" ")
    before = SHARES_SERVER.get(rule)
    return f"{before} {which}".strip() if before else None


@dataclass(frozen=True)
class RecipeSite:
    """Where a recipe's steps are computed, and all else that their times follow from.

    Attributes:
        folder: Of what the recipe has made.
        served: A server answers, which steps share.
        concurrency: Most requests at a time.
        size: Of the base, None where it is not known, which `why` says.
        asking, training: What computes; None where its speed is not known.
        asking_gpus, training_gpus: GPUs that a step takes, 0 for cores.
        four_bits, micro_batch: By kind of training.
        price: Of an hour of one GPU; None where nobody said one.
        held: By how much work took longer than this arithmetic, by `kind_of` step, and how many
            past steps say so.
    """

    recipe: str
    folder: str
    numbers: RecipeNumbers
    texts: RecipeTexts
    served: bool
    concurrency: int
    size: ModelSize | None
    asking: Hardware | None
    training: Hardware | None
    asking_gpus: int
    training_gpus: int
    four_bits: dict[Kind, bool]
    micro_batch: dict[Kind, int]
    price: float | None = None
    why: str = ""
    held: dict[str, tuple[float, int]] = field(default_factory=dict)

    def dump(self) -> dict[str, Any]:
        """As values that a rule's params can hold."""
        return asdict(self)

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Self:
        """What `dump` gave."""
        own = dict(values)
        own["numbers"] = RecipeNumbers(**own["numbers"])
        own["texts"] = RecipeTexts(**own["texts"])
        for name, kind in (("size", ModelSize), ("asking", Hardware), ("training", Hardware)):
            own[name] = kind(**own[name]) if own[name] else None
        own["held"] = {name: (ratio, jobs) for name, (ratio, jobs) in own["held"].items()}
        return cls(**own)

    def gpus(self, step: str) -> int:
        """GPUs that a step takes."""
        return self.training_gpus if rule_of(step) in TRAINS else self.asking_gpus

    def on(self, step: str) -> Hardware | None:
        """What computes a step."""
        return self.training if rule_of(step) in TRAINS else self.asking


@dataclass(frozen=True)
class StepEstimate:
    """What a step of a recipe is to take. `seconds` is None where that is not known."""

    recipe: str
    step: str
    seed: int | None
    seconds: float | None
    gpus: int
    on: str
    price: float | None
    past: int

    @property
    def gpu_hours(self) -> float | None:
        return None if self.seconds is None else self.seconds / SECONDS_AN_HOUR * self.gpus

    @property
    def usd(self) -> float | None:
        """Money, by the price of a GPU's hour."""
        return money(self.gpu_hours, self.price)


def money(gpu_hours: float | None, price: float | None) -> float | None:
    """What GPU-hours cost; nothing where there are none, None where no price is known."""
    if gpu_hours == 0:
        return 0.0
    return None if gpu_hours is None or price is None else gpu_hours * price


def kind_of(step: str) -> str:
    """What of a past step says something of this one: sampling, reading, or training."""
    rule = rule_of(step)
    rule = _AS.get(rule, rule)
    return TRAINS.get(rule) or ("judge" if rule.startswith("judge") else "answers")


def arithmetic(site: RecipeSite, step: str, seed: int | None) -> tuple[float, float] | None:
    """Seconds of a step until its model is there, and of its work; None where not known.

    A start that the step finds done by the one before it is not counted by `estimate`.
    """
    hardware = site.on(step)
    if site.size is None or hardware is None:
        return None
    known = known_of(Path(site.folder), seed, site.texts)
    rule = rule_of(step)
    if rule in TRAINS:
        kind = TRAINS[rule]
        work = training_work(kind, site.numbers, site.texts, known, site.micro_batch[kind])
        return 0.0, training_seconds(work, site.size, hardware, four_bits=site.four_bits[kind])
    asked = asked_work(_AS.get(rule, rule), site.numbers, site.texts, known, served=site.served)
    if not asked.requests:
        return 0.0, 0.0
    costs = SERVED if site.served else IN_PROCESS
    took = seconds(asked, site.size, hardware, costs, site.concurrency)
    return costs.job + start_seconds(site.size, costs), took


def estimate(site: RecipeSite, step: str, seed: int | None, *, starts: bool = True) -> StepEstimate:
    """A step, held to past ones where there are any; `starts`: it finds no server that runs."""
    found = arithmetic(site, step, seed)
    ratio, past = site.held.get(kind_of(step), (1.0, 0))
    took = None
    if found is not None:
        start, work = found
        took = (start if starts or not site.served else 0.0) + work * ratio
    hardware = site.on(step)
    return StepEstimate(
        site.recipe, step, seed, took, site.gpus(step), hardware.name if hardware else "?",
        site.price, past,
    )  # fmt: skip
