"""An engine that is never asked twice: what the journal holds is given back, the rest is kept.

The key of an answer is a digest of everything that determines it: the model and what is done to
it, the engine and its version, the code that reads it, and the request. Which machine answered is
not among it, nor which trial, so that whoever asks the same again gets the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from grace.digests import digest
from grace.engines.base import Engine, Generation, GenerationRequest, Score, ScoreRequest
from grace.journal import Journal
from grace.scoring.bounds import Bounds, Interval

Value = dict[str, Any]


class JournaledEngine:
    """What an open engine offers, through a journal.

    `identity` is what determines an answer beside the request; `session` are the facts of this
    job, of which every answer keeps the digest; `label` says what it was asked for. Failures are
    not kept. Raises `JournalError` where an answer cannot be kept.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        *,
        identity: Mapping[str, Any],
        session: Mapping[str, Any],
        label: str,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._identity = digest(identity)
        self._session = digest(session)
        self._facts = dict(session)
        self._label = label
        self._answers: dict[str, int] = {}
        self._answer_keys: dict[str, str] = {}

    def describe(self) -> dict[str, Any]:
        """Facts of the engine."""
        return self._engine.describe()

    def sessions(self) -> list[dict[str, Any]]:
        """The jobs that gave the answers so far: their facts, and how many answers each gave."""
        found = []
        for session, count in self._answers.items():
            facts = self._facts if session == self._session else self._journal.get(session)
            found.append({"session": session, "answers": count, **(facts or {})})
        return found

    def answer_keys(self) -> dict[str, str]:
        """The journal's key of each answer so far, by its request's key."""
        return dict(self._answer_keys)

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Generation]:
        """What the journal holds first, then what the engine is asked, each kept at once."""
        asked = []
        keys = {}
        for request in requests:
            keys[request.key] = self._key({**asdict(request), "key": None})
            value = self._known(keys[request.key])
            if value is None:
                asked.append(request)
            else:
                self._answer_keys[request.key] = keys[request.key]
                yield generation_of(request.key, value["answer"])
        for generation in self._engine.generate(asked):
            if generation.error is None:
                answer = asdict(generation)
                del answer["key"]
                self._keep(keys[generation.key], "generation", answer)
                self._answer_keys[generation.key] = keys[generation.key]
            yield generation

    def score(
        self, requests: Iterable[ScoreRequest], known: Container[str] = frozenset()
    ) -> Iterator[Score]:
        """What the journal holds first, then what the engine is asked, each kept at once."""
        requests = list(requests)
        keys = {}
        answered = set()
        for request in requests:
            if request.key in known:
                answered.add(request.key)
                continue
            # A request's company decides nothing but rounding.
            keys[request.key] = self._key({**asdict(request), "key": None, "group": None})
            value = self._known(keys[request.key])
            if value is not None:
                answered.add(request.key)
                self._answer_keys[request.key] = keys[request.key]
                yield score_of(request.key, value["answer"])
        for score in self._engine.score(requests, answered):
            if score.error is None:
                self._keep(keys[score.key], "score", _answer(score))
                self._answer_keys[score.key] = keys[score.key]
            yield score

    def _key(self, request: Mapping[str, Any]) -> str:
        return digest([self._identity, request])

    def _known(self, key: str) -> Value | None:
        value = self._journal.get(key)
        if value is not None:
            self._count(value["session"])
        return value

    def _keep(self, key: str, kind: str, answer: Mapping[str, Any]) -> None:
        if self._session not in self._answers:
            self._journal.add(self._session, {"kind": "session", **self._facts})
        self._count(self._session)
        self._journal.add(
            key,
            {"kind": kind, "label": self._label, "session": self._session, "answer": answer},
        )

    def _count(self, session: str) -> None:
        self._answers[session] = self._answers.get(session, 0) + 1


def _answer(score: Score) -> Value:
    """A score as JSON can hold it."""
    bounds = None
    if score.bounds is not None:
        bounds = [
            [_ends(one) for one in (*bound.tokens, bound.terminators)] for bound in score.bounds
        ]
    return {
        "token_logprobs": score.token_logprobs,
        "terminator_logprobs": score.terminator_logprobs,
        "bounds": bounds,
    }


def _ends(interval: Interval) -> list[float | None]:
    """Lower and upper bound; minus infinity, which JSON has not, is None."""
    return [value if math.isfinite(value) else None for value in interval]


def generation_of(key: str, answer: Mapping[str, Any]) -> Generation:
    """A sampled answer from what the journal holds of it. Raises `TypeError` for anything else."""
    return Generation(key, **answer)


def score_of(key: str, answer: Mapping[str, Any]) -> Score:
    """A score from what the journal holds of it.

    Raises `KeyError` or `TypeError` for anything else.
    """
    tokens, ends, bounds = (
        answer[name] for name in ("token_logprobs", "terminator_logprobs", "bounds")
    )
    return Score(
        key,
        None if tokens is None else tuple(map(tuple, tokens)),
        None if ends is None else tuple(ends),
        bounds=None if bounds is None else tuple(map(_bounds, bounds)),
    )


def _bounds(values: list[list[float | None]]) -> Bounds:
    intervals = [
        Interval(*(-math.inf if value is None else value for value in ends)) for ends in values
    ]
    return Bounds(tuple(intervals[:-1]), intervals[-1])
