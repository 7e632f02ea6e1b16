"""What every engine offers: `generate` (experiment 1) and `score` (experiment 2).

An engine computes tokens and log-probabilities and knows nothing of studies, records or
Snakemake. Both methods take any number of requests, keep a bounded number of them in flight and
yield each result as it is ready, in any order; `key` joins it back to its request. A request that
fails for good yields a result whose `error` says why; a failure that makes all further requests
pointless raises `EngineError`.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from grace import foreign_text
from grace.models.reasoning_formats import Closing
from grace.scoring.bounds import Bounds

Message = dict[str, str]


@dataclass(frozen=True)
class Decoding:
    """How an answer is sampled. `temperature` 0 is greedy; an answer ends before a `stop` text."""

    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...] = ()

    def key(self) -> dict[str, Any]:
        """Its part of a journal's key; what is not set is left out, as before there was such."""
        found = asdict(self)
        if not self.stop:
            del found["stop"]
        return found


@dataclass(frozen=True)
class GenerationRequest:
    """One answer to sample, with a seed of its own.

    `prompt_token_ids` is what in-process engines and own servers are sent; `messages` is what a
    remote chat API is sent. With `closing` a trace of reasoning alone is wanted: it ends where its
    last tokens are these, and comes with its `token_ids`. An engine that `holds_to_schema` gives
    JSON by `schema`, a JSON schema as JSON, and nothing else.
    """

    key: str
    messages: tuple[Message, ...]
    prompt_token_ids: tuple[int, ...]
    decoding: Decoding
    seed: int
    closing: Closing | None = None
    schema: str | None = None


@dataclass(frozen=True)
class Generation:
    """A sampled answer. `text` excludes the end-of-turn token; times are UTC and ms.

    `reported_model` and `system_fingerprint` are what a server says of itself in this answer, if
    it does. `replaced_characters` counts those in all texts that no file could hold. `token_ids`
    are all that were sampled, where they were asked for. `reasoning_closed` is None unless the
    model reasons in a declared format; where it is False the trace has no end, and `text` is empty.
    """

    key: str
    text: str | None
    finish_reason: str | None
    usage: dict[str, int] = field(default_factory=dict)
    reasoning: str | None = None
    completed_at: str | None = None
    processing_time_ms: float | None = None
    error: str | None = None
    reported_model: str | None = None
    system_fingerprint: str | None = None
    replaced_characters: int = 0
    token_ids: tuple[int, ...] | None = None
    reasoning_closed: bool | None = None

    def writable(self) -> Self:
        """This answer as files can hold it; what is replaced is counted in addition."""
        count = self.replaced_characters
        texts: dict[str, Any] = {}
        for name in ("text", "reasoning", "error"):
            if getattr(self, name) is not None:
                texts[name], replaced = foreign_text.writable(getattr(self, name))
                count += replaced
        return replace(self, **texts, replaced_characters=count)


@dataclass(frozen=True)
class ScoreRequest:
    """The continuations of one prompt whose log-probabilities are wanted.

    Every continuation is a non-empty token sequence. `terminator_ids` are the tokens that end an
    answer (end of turn); their summed probability after each continuation is measured too. Without
    any, none is.

    `messages` is the chat behind `prompt_token_ids`; only an API that takes nothing else is sent
    it. Neighbours of one `group`, such as the queries of a trial, begin alike: an engine may read
    them together. None stands alone.
    """

    key: str
    prompt_token_ids: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    terminator_ids: tuple[int, ...]
    group: str | None = None
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Score:
    """Log-probabilities (natural log, full vocabulary, temperature 1) for one `ScoreRequest`.

    `token_logprobs[i][j]` is ln P(continuations[i][j] | prompt, continuations[i][:j]);
    `terminator_logprobs[i]` is ln of the summed probability of the terminators after
    continuation i; there are none where the request names no terminator. Both are None when
    `error` is set: a failed read is never a number. They are
    None too where an API reports too little to compute them; then `bounds[i]` says what is known of
    continuation i. `reported_model` and `system_fingerprint` are as in `Generation`.
    """

    key: str
    token_logprobs: tuple[tuple[float, ...], ...] | None
    terminator_logprobs: tuple[float, ...] | None
    error: str | None = None
    bounds: tuple[Bounds, ...] | None = None
    reported_model: str | None = None
    system_fingerprint: str | None = None


def grouped(requests: Iterable[ScoreRequest]) -> Iterator[list[ScoreRequest]]:
    """Runs of neighbours with one group; requests without a group stand alone."""
    for group, found in groupby(requests, key=lambda request: request.group):
        if group is None:
            yield from ([request] for request in found)
        else:
            yield list(found)


def finite_score(
    key: str, tokens: tuple[tuple[float, ...], ...], terminators: tuple[float, ...]
) -> Score:
    """The score, or an error where a log-probability is NaN or infinite."""
    if all(map(math.isfinite, (*terminators, *(value for row in tokens for value in row)))):
        return Score(key, tokens, terminators)
    return Score(key, None, None, error="a log-probability is not a number (NaN or infinite)")


class Engine(Protocol):
    """An open engine. Use it as a context manager; leaving it frees the model or the server."""

    def describe(self) -> dict[str, Any]:
        """Facts for the provenance: engine, version, device, dtype, endpoint without secrets."""
        ...

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Generation]: ...

    def score(
        self, requests: Iterable[ScoreRequest], known: Container[str] = frozenset()
    ) -> Iterator[Score]:
        """The scores of all requests but those whose keys are `known`.

        Those need no answer, but an engine may use them to form the same batches as without: the
        last digits of a value depend on its company.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class ComputesElsewhere(Protocol):
    """An engine whose answers another process of this machine computes, and counts its time."""

    def cpu_time_s(self) -> float:
        """Seconds of processor time of that process so far."""
        ...
