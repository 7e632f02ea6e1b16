"""An engine that is never asked twice: what the journal holds is given back, the rest is kept.

The engine is opened at the first request that the journal does not hold, so that a job without any
loads no model and takes no GPU.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, fields
from types import TracebackType
from typing import Any, Self

from grace.digests import digest
from grace.engines.answer_keys import AnswerKeys, Request
from grace.engines.base import (
    ComputesElsewhere,
    Decoding,
    Engine,
    Generation,
    GenerationRequest,
    Score,
    ScoreRequest,
)
from grace.engines.former_keys import FormerKeys
from grace.engines.rereading import Rereading, reread, rereading_of
from grace.engines.sampling_check import ChecksSampling
from grace.journal import Journal
from grace.scoring.bounds import Bounds, Interval

logger = logging.getLogger(__name__)

Value = dict[str, Any]


class JournaledEngine:
    """What an engine offers, through a journal. Use it as a context manager.

    `opened` gives the engine, which leaving this one closes. `keys` are those of its answers, and
    `former` those that they once had; `session` are the facts of this job, of which every answer
    keeps the digest; `label` says what it was asked for. Failures are not kept. Raises
    `JournalError` where an answer cannot be kept, and what opening the engine raises.
    """

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[Engine]],
        journal: Journal,
        *,
        keys: AnswerKeys,
        session: Mapping[str, Any],
        label: str,
        former: FormerKeys | None = None,
    ) -> None:
        self._opened = opened
        self._journal = journal
        self._keys = keys
        self._facts = dict(session)
        self._label = label
        self._former = former
        self._stack = ExitStack()
        self._engine: Engine | None = None
        self._opened_at: tuple[float, float] | None = None
        self._session: str | None = None
        self._answers: dict[str, int] = {}
        self._answer_keys: dict[str, str] = {}
        self._sampling: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(exc_type, exc, traceback)
        self._engine = None

    def describe(self) -> dict[str, Any]:
        """Facts of the engine; where it was not opened, of that which gave most of the answers.

        `sampling` says how its server draws, where that was looked at.
        """
        if self._engine is not None:
            return {**self._engine.describe(), **self._sampling}
        most = max(self.sessions(), key=lambda one: int(one["answers"]), default={})
        facts: dict[str, Any] = most.get("engine", {})
        return {**facts, **self._sampling} if facts else {}

    @property
    def opened(self) -> bool:
        """Whether an answer was missing, so that the engine was needed."""
        return self._engine is not None

    @property
    def own_share(self) -> float:
        """Share of the answers so far that this job's engine gave, and the journal did not hold."""
        own = self._answers.get(self._session or "", 0)
        return own / max(1, sum(self._answers.values()))

    def sessions(self) -> list[dict[str, Any]]:
        """The jobs that gave the answers so far: their facts, and how many answers each gave."""
        found = []
        for session, count in self._answers.items():
            facts = self._journal.get(session)
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
            keys[request.key] = self._keys.of(request)
            value = self._known(keys[request.key], request)
            if value is None:
                asked.append(request)
            else:
                self._answer_keys[request.key] = keys[request.key]
                yield generation_of(request.key, value["answer"])
        self._report(len(keys), len(asked))
        if keys:
            self._look_at_sampling(request.decoding, may_ask=bool(asked))
        if not asked:
            return
        for generation in map(Generation.writable, self._open().generate(asked)):
            if generation.error is None:
                key = keys[generation.key]
                self._answer_keys[generation.key] = key
                # Two requests that are one to the model have one answer, that which is kept.
                value = self._journal.get(key)
                if value is not None:
                    self._count(value["session"])
                    yield generation_of(generation.key, value["answer"])
                    continue
                self._keep(key, "generation", _generated(generation))
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
            keys[request.key] = self._keys.of(request)
            value = self._known(keys[request.key], request)
            if value is not None:
                answered.add(request.key)
                self._answer_keys[request.key] = keys[request.key]
                yield score_of(request.key, value["answer"])
        left = len(requests) - len(answered)
        self._report(len(keys), left)
        if not left:
            return
        for score in self._open().score(requests, answered):
            if score.error is None:
                key = keys[score.key]
                self._answer_keys[score.key] = key
                value = self._journal.get(key)
                if value is not None:
                    self._count(value["session"])
                    yield score_of(score.key, value["answer"])
                    continue
                self._keep(key, "score", _answer(score))
            yield score

    def begin_rereading(self, requests: Sequence[ScoreRequest]) -> bool:
        """Note that these are to be read again; see `grace.engines.rereading.SecondSource`."""
        key = self._keys.of_rereading_plan(requests)
        known = key in self._journal
        if not known and self.opened:
            plan = {"planned": [self._keys.of(request) for request in requests]}
            self._journal.add(key, {"kind": "rereading plan", "label": self._label, **plan})
        return known

    def was_reread(self, request: ScoreRequest) -> bool:
        """Whether the journal holds a second reading."""
        return self._keys.of_rereading(request) in self._journal

    def reread(self, requests: Sequence[ScoreRequest]) -> Iterator[Rereading]:
        """Second readings of answers, together and in this order, each kept at once.

        They are no answers: they have keys of their own, and no session counts them. One that the
        journal holds is given back.
        """
        asked = []
        for request in requests:
            value = self._journal.get(self._keys.of_rereading(request))
            if value is None:
                asked.append(request)
            else:
                yield rereading_of(score_of(request.key, value["answer"]), value["rereading"])
        if not asked:
            return
        known = {request.key: request for request in asked}
        for found in reread(self._open(), asked):
            if found.score.error is None:
                self._journal.add(
                    self._keys.of_rereading(known[found.score.key]),
                    {
                        "kind": "rereading",
                        "label": self._label,
                        "session": self._this_session(),
                        "of": self._keys.of(known[found.score.key]),
                        "rereading": found.written(),
                        "answer": _answer(found.score),
                    },
                )
            yield found

    def sentinels(self, requests: Sequence[GenerationRequest]) -> dict[str, str | None]:
        """How the model continues sentinels, by their keys: no answers, and asked once.

        None where a request failed; then all are asked again the next time.
        """
        bank = {
            request.key: [list(request.prompt_token_ids), request.decoding.key()]
            for request in requests
        }
        key = self._keys.of_sentinels(bank)
        known = self._journal.get(key)
        if known is not None:
            return {name: str(text) for name, text in known["texts"].items()}
        found = list(map(Generation.writable, self._open().generate(requests))) if requests else []
        texts = {one.key: one.text if one.error is None else None for one in found}
        if None not in texts.values():
            self._journal.add(key, {"kind": "sentinels", "label": self._label, "texts": texts})
        return texts

    def _look_at_sampling(self, decoding: Decoding, *, may_ask: bool) -> None:
        """Note how a server draws, which is seen once, before anything else is asked of it."""
        if decoding.temperature == 0:
            return
        key = self._keys.of_sampling(decoding)
        known = self._journal.get(key)
        if known is not None:
            self._sampling = {"sampling": known["sampling"]}
        elif may_ask and isinstance(engine := self._open(), ChecksSampling):
            found = engine.check_sampling(decoding)
            self._sampling = {"sampling": asdict(found)}
            if found.error is None:
                self._journal.add(key, {"kind": "sampling", "label": self._label, **self._sampling})

    def _open(self) -> Engine:
        if self._engine is None:
            self._engine = self._stack.enter_context(self._opened())
            self._opened_at = (time.monotonic(), self._cpu_time_s())
        return self._engine

    def timing(self) -> dict[str, float] | None:
        """Seconds since the engine was opened, by the clock and of the processes that compute, and
        the answers that it gave since; None before.
        """
        if self._opened_at is None:
            return None
        wall, cpu = self._opened_at
        return {
            "with_model_s": round(time.monotonic() - wall, 3),
            "with_model_cpu_s": round(self._cpu_time_s() - cpu, 3),
            "answers": self._answers.get(self._session or "", 0),
        }

    def _cpu_time_s(self) -> float:
        """Of this process, and of that of an engine which computes in another on this machine."""
        elsewhere = self._engine.cpu_time_s() if isinstance(self._engine, ComputesElsewhere) else 0
        return time.process_time() + elsewhere

    def _report(self, wanted: int, left: int) -> None:
        if self._former is not None:
            self._former.report(self._label)
        if wanted and not left:
            logger.info(
                "%s: the journal holds all %d answers; no model is loaded", self._label, wanted
            )
        elif left < wanted:
            logger.info(
                "%s: the journal holds %d of %d answers", self._label, wanted - left, wanted
            )

    def _known(self, key: str, request: Request) -> Value | None:
        value = self._journal.get(key)
        if value is None and self._former is not None:
            value = self._taken_over(key, request, self._former)
        if value is not None:
            self._count(value["session"])
        return value

    def _taken_over(self, key: str, request: Request, former: FormerKeys) -> Value | None:
        """An answer that is kept under a former key, which gets its new one, too."""
        for old in former.of(request):
            value = self._journal.get(old)
            if value is not None and former.accepts(self._journal.get(value["session"])):
                self._journal.add(key, value)
                return value
        return None

    def _keep(self, key: str, kind: str, answer: Mapping[str, Any]) -> None:
        session = self._this_session()
        self._count(session)
        self._journal.add(
            key, {"kind": kind, "label": self._label, "session": session, "answer": answer}
        )

    def _this_session(self) -> str:
        """The key of this job's facts, which the journal holds from the first answer on."""
        if self._session is None:
            # Only now: an engine knows how it reads log-probabilities when it has read some.
            facts = {**self._facts, "engine": self._open().describe()}
            self._session = digest(facts)
            self._journal.add(self._session, {"kind": "session", **facts})
        return self._session

    def _count(self, session: str) -> None:
        self._answers[session] = self._answers.get(session, 0) + 1


def _generated(generation: Generation) -> Value:
    """A sampled answer as the journal holds it; what few have is left out of the others."""
    answer = asdict(generation)
    del answer["key"]
    for name in ("token_ids", "reasoning_closed"):
        if answer[name] is None:
            del answer[name]
    return answer


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
        "reported_model": score.reported_model,
        "system_fingerprint": score.system_fingerprint,
    }


def _ends(interval: Interval) -> list[float | None]:
    """Lower and upper bound; minus infinity, which JSON has not, is None."""
    return [value if math.isfinite(value) else None for value in interval]


def generation_of(key: str, answer: Mapping[str, Any]) -> Generation:
    """A sampled answer from what the journal holds of it. Raises `TypeError` for anything else.

    One of an earlier version has fewer fields, and may hold what no file can.
    """
    known = {one.name for one in fields(Generation)} - {"key"}
    own = {name: value for name, value in answer.items() if name in known}
    if own.get("token_ids") is not None:
        own["token_ids"] = tuple(own["token_ids"])
    return Generation(key, **own).writable()


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
        reported_model=answer.get("reported_model"),
        system_fingerprint=answer.get("system_fingerprint"),
    )


def _bounds(values: list[list[float | None]]) -> Bounds:
    intervals = [
        Interval(*(-math.inf if value is None else value for value in ends)) for ends in values
    ]
    return Bounds(tuple(intervals[:-1]), intervals[-1])
