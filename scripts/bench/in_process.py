"""Experiment 2 in this process: as the original did it, and as Grace does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import torch

from bench.measuring import System
from bench.workload import (
    Answers,
    Reference,
    Workload,
    answers_of_records,
    answers_of_scores,
)
from grace.engines.base import Score, ScoreRequest
from grace.engines.scorer import COPIES, PACKED, Scorer
from grace.errors import GraceError
from grace.experiments.measurement import run_scoring
from grace.settings.config import ScoringConfig

Scored = tuple[list[ScoreRequest], list[Score]]


def naive(model: Any, work: Workload) -> Answers:
    """One pass without a cache over plain text for every option, logits of every token."""
    found: Answers = {}
    for asking in work.asking():
        prompt = work.render(asking.query)
        start = len(prompt.token_ids)
        options = found[asking.key] = []
        for option in asking.query.options:
            ids = work.tokenizer.tokenise(prompt.text + option)
            with torch.inference_mode():
                output = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
                logprobs = torch.log_softmax(output.logits[0].float(), -1)
                places = range(start - 1, len(ids) - 1)
                options.append((tuple(ids), float(logprobs[places, ids[start:]].sum())))
    return found


def _scorer(model: Any, path: str) -> Scorer:
    """A scorer that has checked itself already."""
    scorer = Scorer("bench", model, ScoringConfig())
    scorer.path = path
    return scorer


def _trial_by_trial(model: Any, work: Workload, path: str) -> Scored:
    """Each trial on its own, so that none gains from what another has read."""
    scorer = _scorer(model, path)
    found: Scored = ([], [])
    for _, asking in groupby(work.asking(), key=lambda asking: asking.trial):
        requests = [work.request(one, grouped=path == PACKED) for one in asking]
        found[0].extend(requests)
        found[1].extend(scorer.score(requests))
    return found


def _together(model: Any, work: Workload) -> Scored:
    """All trials at once, as a run hands them over."""
    requests = [work.request(asking, grouped=True) for asking in work.asking()]
    return requests, list(_scorer(model, PACKED).score(requests))


def _whole(model: Any, work: Workload) -> list[dict[str, Any]]:
    """Experiment 2 of the whole study as a run does it: self-check, joined repeats, records."""
    scorer = Scorer("bench", model, ScoringConfig())
    engine: Any = SimpleNamespace(score=lambda requests: scorer.score(list(requests)))
    records = list(run_scoring(work.run, work.items, work.tokenizer, engine))
    if scorer.path != PACKED:
        raise GraceError(f"bench: the scorer does not read packed forests: {scorer.reason}.")
    return records


def systems(model: Any, work: Workload, reference: Reference) -> list[System]:
    """The systems of this process, the naive one first."""

    def system(
        key: str, name: str, run: Callable[[], Any], answers: Callable[[Any], Answers]
    ) -> System:
        return System(key, name, run, lambda result: reference.check(key, answers(result)))

    def scored(result: Scored) -> Answers:
        return answers_of_scores(*result)

    return [
        system("naive", "one pass an option", lambda: naive(model, work), lambda found: found),
        system(
            "per-prompt",
            "ours, a prompt at a time on copies of its cache",
            lambda: _trial_by_trial(model, work, COPIES),
            scored,
        ),
        system(
            "per-trial",
            "ours, a trial at a time",
            lambda: _trial_by_trial(model, work, PACKED),
            scored,
        ),
        system(
            "together",
            "ours, the same trials in one call",
            lambda: _together(model, work),
            scored,
        ),
        system(
            "whole",
            f"ours, whole study of {len(work.items)} trials, repeats joined",
            lambda: _whole(model, work),
            answers_of_records,
        ),
    ]
