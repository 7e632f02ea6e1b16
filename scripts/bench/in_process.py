"""Experiment 2 in this process: in plain transformers, and as Grace does it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby
from types import SimpleNamespace
from typing import Any

from bench import plain
from bench.measuring import System
from bench.workload import (
    Answers,
    Reference,
    Workload,
    answers_of_records,
    answers_of_scores,
)
from grace.engines.base import Score, ScoreRequest
from grace.engines.transformers.scorer import COPIES, PACKED, Scorer
from grace.errors import GraceError
from grace.experiments.measurement import run_scoring
from grace.settings.config import ScoringConfig

Scored = tuple[list[ScoreRequest], list[Score]]

#: Systems that read the end of the turn after every option too.
WITH_ENDS = ("per-trial-ends", "together-ends", "whole-ends")


def _scorer(model: Any, path: str) -> Scorer:
    """A scorer that has checked itself already."""
    scorer = Scorer("bench", model, ScoringConfig())
    scorer.path = path
    return scorer


def _trial_by_trial(model: Any, work: Workload, path: str, *, ends: bool = False) -> Scored:
    """Each trial on its own, so that none gains from what another has read."""
    scorer = _scorer(model, path)
    found: Scored = ([], [])
    for _, asking in groupby(work.asking(), key=lambda asking: asking.trial):
        requests = [work.request(one, grouped=path == PACKED, ends=ends) for one in asking]
        found[0].extend(requests)
        found[1].extend(scorer.score(requests))
    return found


def _together(model: Any, work: Workload, *, ends: bool) -> Scored:
    """All trials at once, as a run hands them over."""
    requests = [work.request(asking, grouped=True, ends=ends) for asking in work.asking()]
    return requests, list(_scorer(model, PACKED).score(requests))


def _whole(model: Any, work: Workload, *, ends: bool) -> list[dict[str, Any]]:
    """Experiment 2 of the whole study as a run does it: self-check, joined repeats, records."""
    scorer = Scorer("bench", model, ScoringConfig())
    engine: Any = SimpleNamespace(score=lambda requests: scorer.score(list(requests)))
    records = list(
        run_scoring(
            work.run, work.items, work.tokenizer, engine, terminators="all" if ends else "needed"
        )
    )
    if scorer.path != PACKED:
        raise GraceError(f"bench: the scorer does not read packed forests: {scorer.reason}.")
    return records


def systems(model: Any, work: Workload, reference: Reference) -> list[System]:
    """The systems of this process, the naive one first."""

    def system(
        key: str, name: str, run: Callable[[], Any], answers: Callable[[Any], Answers]
    ) -> System:
        return System(
            key,
            name,
            run,
            lambda result: reference.check(key, answers(result)),
            here=model.device.type == "cpu",
        )

    def theirs(key: str, name: str, run: Callable[[Any, Workload], Answers]) -> System:
        return system(key, name, lambda: run(model, work), lambda found: found)

    def ours(key: str, name: str, run: Callable[[], Scored]) -> System:
        return system(key, f"ours, {name}", run, lambda result: answers_of_scores(*result))

    def whole(key: str, ends: bool) -> System:
        name = f"ours, whole study of {len(work.items)} trials, repeats joined{_ENDS * ends}"
        return system(key, name, lambda: _whole(model, work, ends=ends), answers_of_records)

    return [
        theirs("naive", "one pass an option, its own logits alone", plain.naive),
        theirs("every-position", "one pass an option, all logits", plain.every_position),
        theirs("batch", "a query's options as one batch", plain.one_batch),
        theirs("copies", "a query's prompt once, options on copies of its cache", plain.copies),
        theirs(
            "packed",
            "prompts and options of a trial in one pass",
            partial(plain.packed, whole=True),
        ),
        theirs(
            "packed-lean",
            "the same without options' last tokens",
            partial(plain.packed, whole=False),
        ),
        ours(
            "per-prompt",
            "a prompt at a time on copies of its cache",
            lambda: _trial_by_trial(model, work, COPIES),
        ),
        ours("per-trial", "a trial at a time", lambda: _trial_by_trial(model, work, PACKED)),
        ours(
            "per-trial-ends",
            f"a trial at a time{_ENDS}",
            lambda: _trial_by_trial(model, work, PACKED, ends=True),
        ),
        ours("together", "the same trials in one call", lambda: _together(model, work, ends=False)),
        ours(
            "together-ends",
            f"the same trials in one call{_ENDS}",
            lambda: _together(model, work, ends=True),
        ),
        whole("whole", ends=False),
        whole("whole-ends", ends=True),
    ]


_ENDS = ", with the ends of options"
