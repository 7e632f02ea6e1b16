"""What both experiments share: which trial is asked when, and how its record opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grace import seeds
from grace.digests import digest
from grace.errors import EngineError
from grace.prompts.variants import PromptSet
from grace.studies.asking import StudyDesign
from grace.studies.trials import Trial


@dataclass(frozen=True)
class Run:
    """One experiment of one study for one model and replication."""

    model_key: str
    model_name: str
    study: StudyDesign
    experiment: str
    replication: int
    base_seed: int
    shuffle: bool

    @property
    def seed(self) -> int:
        """The experiment's seed."""
        return seeds.experiment_seed(
            self.base_seed, self.replication, self.study.seed_offset(self.experiment)
        )

    @property
    def label(self) -> str:
        """The name that its outputs carry, such as `study1_exp1`."""
        return f"{self.study.name}_{self.experiment}"


@dataclass(frozen=True)
class TrialPrompt:
    """A trial under one variant, and its place in the order of asking."""

    position: int
    trial_index: int
    trial: Trial
    prompts: PromptSet


def trial_prompts(
    run: Run, trials: Sequence[Trial], variants: Sequence[PromptSet]
) -> list[TrialPrompt]:
    """Every trial under every variant, in the order asked; variants of a trial stand together."""
    order = seeds.trial_order(run.seed, len(trials), run.shuffle)
    pairs = [(index, variant) for index in order for variant in variants]
    return [
        TrialPrompt(position, index, trials[index], variant)
        for position, (index, variant) in enumerate(pairs)
    ]


def prompt_id(messages: Sequence[Sequence[Mapping[str, str]]]) -> str:
    """The same for identical prompts: 16 hex digits."""
    return digest([list(chat) for chat in messages])[:16]


def record_header(run: Run, item: TrialPrompt, started: str) -> dict[str, Any]:
    """The fields that records of both experiments open with."""
    return {
        "model_key": run.model_key,
        "model_name": run.model_name,
        "experiment_name": run.label,
        "variant": item.prompts.variant,
        **run.study.wording_facts(item.trial, item.prompts),
        "replication": run.replication,
        "replication_id": f"replication-{run.replication}",
        "replication_seed": seeds.replication_seed(run.base_seed, run.replication),
        "experiment_seed": run.seed,
        "trial_index": item.trial_index,
        "trial_order_in_replication": item.position,
        "trial_order_shuffled": run.shuffle,
        "run_timestamp": started,
        "trial": item.trial.row(),
    }


def refuse_total_failure(errors: Sequence[str | None], run: Run) -> None:
    """Nothing but failures is no result to keep."""
    if errors and all(errors):
        raise EngineError(
            f"{run.model_key} {run.label}: all {len(errors)} requests failed; the first:"
            f" {errors[0]}"
        )
