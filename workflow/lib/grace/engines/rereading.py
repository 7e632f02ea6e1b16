"""Reading queries again, in another way than the first time where an engine has two.

An engine that has says so by a method `reread`; any other is asked to score the same queries in
another order and without their groups. What is read again is no answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

from grace.digests import digest
from grace.engines.base import Engine, Score, ScoreRequest
from grace.scoring.bounds import Interval
from grace.scoring.rereading import Difference

#: How an engine without `reread` reads again.
SAME_WAY = "the same way, in other company"


@dataclass(frozen=True)
class Rereading:
    """A query that was read again, or some of its options.

    Args:
        score: Of the options that were read.
        options: Their places in the request's `continuations`, in the order of the score.
        way: How they were read.
        has_ends: Whether `score.terminator_logprobs` are those of all the request's terminators.
        company: Keys of the requests that were read together, this one among them, in order.
    """

    score: Score
    options: tuple[int, ...]
    way: str
    has_ends: bool = True
    company: tuple[str, ...] = ()

    def written(self) -> dict[str, Any]:
        """As JSON can hold it, the score apart."""
        found = asdict(replace(self, score=Score("", None, None)))
        del found["score"]
        return found


@runtime_checkable
class ReadsAgain(Protocol):
    """An engine that can read in another way than `score` did."""

    def reread(self, requests: Sequence[ScoreRequest]) -> Iterator[Rereading]:
        """All requests once more, together, in any order.

        One that cannot be read yields a score whose `error` says why.
        """
        ...


class SecondSource(Protocol):
    """What second readings come from: an engine behind a journal."""

    @property
    def opened(self) -> bool:
        """Whether an answer was missing, so that the engine is there to be asked."""
        ...

    def begin_rereading(self, requests: Sequence[ScoreRequest]) -> bool:
        """Note that these are to be read again, if the engine is open; whether it was noted before.

        A job that was killed has not read them all.
        """
        ...

    def was_reread(self, request: ScoreRequest) -> bool:
        """Whether a second reading is kept."""
        ...

    def reread(self, requests: Sequence[ScoreRequest]) -> Iterator[Rereading]:
        """As `ReadsAgain.reread`; what is kept is given back."""
        ...


def whole(request: ScoreRequest, score: Score, way: str) -> Rereading:
    """A reading of all options."""
    return Rereading(score, tuple(range(len(request.continuations))), way)


def picked(request: ScoreRequest, of: int) -> int:
    """A number below `of` that follows from what a request asks."""
    asked = [list(request.prompt_token_ids), [list(ids) for ids in request.continuations]]
    return int(digest(asked)[:8], 16) % of


def one_option(request: ScoreRequest) -> tuple[ScoreRequest, int]:
    """The request with one of its options alone, and which: for ways that cost a pass an option."""
    which = picked(request, len(request.continuations))
    return replace(request, continuations=(request.continuations[which],)), which


def reread(engine: Engine, requests: Sequence[ScoreRequest]) -> Iterator[Rereading]:
    """Read requests again with an open engine, together and in this order."""
    company = tuple(request.key for request in requests)
    found: Iterable[Rereading]
    if isinstance(engine, ReadsAgain):
        found = engine.reread(requests)
    else:
        known = {request.key: request for request in requests}
        alone = [replace(request, group=None) for request in requests]
        found = (whole(known[score.key], score, SAME_WAY) for score in engine.score(alone))
    return (replace(one, company=company) for one in found)


def rereading_of(score: Score, kept: Mapping[str, Any]) -> Rereading:
    """A reading from what the journal holds of it. Raises `KeyError` or `TypeError` else."""
    return Rereading(
        score,
        tuple(kept["options"]),
        str(kept["way"]),
        bool(kept["has_ends"]),
        tuple(kept["company"]),
    )


def differences(first: Score, again: Rereading) -> Iterator[Difference]:
    """Both readings of every value that was read twice; nothing where one of them failed."""
    if first.error is not None or again.score.error is not None:
        return
    known, found = _intervals(first), _intervals(again.score)
    for place, option in enumerate(again.options):
        tokens, end = known[option]
        for number, (one, other) in enumerate(zip(tokens, found[place][0], strict=True)):
            yield Difference(option, number, one, other)
        if again.has_ends:
            yield Difference(option, None, end, found[place][1])


def _intervals(score: Score) -> list[tuple[tuple[Interval, ...], Interval]]:
    """What a score says of each option's tokens, and of the end after it."""
    if score.bounds is not None:
        return [(bound.tokens, bound.terminators) for bound in score.bounds]
    assert score.token_logprobs is not None
    assert score.terminator_logprobs is not None
    # None was asked for: both readings say the same of it.
    ends = score.terminator_logprobs or (0.0,) * len(score.token_logprobs)
    return [
        (tuple(Interval(value, value) for value in tokens), Interval(end, end))
        for tokens, end in zip(score.token_logprobs, ends, strict=True)
    ]
