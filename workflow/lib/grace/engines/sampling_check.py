"""Whether a server draws answers as it is asked to, seen before the first trial is asked and paid.

A server that ignores temperature or seed gives one answer to every draw, so that replications
repeat each other. Two requests show the most: they differ in nothing but their seeds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from grace.engines.base import Decoding, Generation, GenerationRequest
from grace.errors import EngineError

logger = logging.getLogger(__name__)

PROMPT = (
    "Write twelve words that have nothing to do with each other, in one line, and nothing else."
)
MOST_TOKENS = 48
LEAST_CHARACTERS = 20
"""Shorter answers, as of a server that only reasons so far, may be alike by chance."""
HOT = 2.0
"""A temperature at which no model says the same long text twice, however sure it is."""

Ask = Callable[[Iterable[GenerationRequest]], Iterator[Generation]]


@dataclass(frozen=True)
class Sampling:
    """What was seen; None where it could not be seen. `reason` says why in words."""

    draws_vary: bool | None
    seed_honoured: bool | None
    reason: str
    requests: int
    #: Of a request that failed, so that it is worth looking again.
    error: str | None = None


@runtime_checkable
class ChecksSampling(Protocol):
    """An engine whose server someone else runs, so that it has to be seen how it draws."""

    def check_sampling(self, decoding: Decoding) -> Sampling:
        """At most four short requests. Raises `EngineError` where all draws are one."""
        ...


def check_sampling(model_key: str, ask: Ask, decoding: Decoding) -> Sampling:
    """Whether draws at the temperature of `decoding`, above 0, vary with their seeds.

    Two draws with different seeds, at most two more. Raises `EngineError` where they are the same,
    at a high temperature too: answers would be worth nothing. A seed that has no effect on a server
    that does draw is a warning.
    """
    found = _check(model_key, ask, replace(decoding, max_tokens=MOST_TOKENS))
    level = logging.INFO if found.draws_vary and found.seed_honoured else logging.WARNING
    logger.log(level, "model '%s': %s", model_key, found.reason)
    return found


def _check(model_key: str, ask: Ask, decoding: Decoding) -> Sampling:
    first, second = _draws(ask, decoding, 1, 2)
    if first.error or second.error:
        return _failed(None, "how it draws is not known", 2, first, second)
    if _said(first) != _said(second):
        (again,) = _draws(ask, decoding, 1)
        if again.error:
            return _failed(True, "its draws vary, whether with their seeds is not known", 3, again)
        if _said(again) == _said(first):
            return Sampling(True, True, "its draws vary with their seeds", 3)
        reason = (
            "its draws vary, but not with their seeds: the same request with the same seed got two"
            " answers, so that no one can repeat this run's answers"
        )
        return Sampling(True, False, reason, 3)
    if len(_said(first)) < LEAST_CHARACTERS:
        reason = "how it draws is not known: two short answers to different seeds are the same"
        return Sampling(None, None, reason, 2)
    hot = replace(decoding, temperature=HOT, top_p=1.0)
    third, fourth = _draws(ask, hot, 3, 4)
    if third.error or fourth.error:
        reason = "two answers to different seeds are the same, whether always is not known"
        return _failed(None, reason, 4, third, fourth)
    if _said(third) == _said(fourth):
        ignored = "the seed" if _said(third) != _said(first) else "temperature and seed"
        raise EngineError(
            f"model '{model_key}': its server ignores {ignored}: different seeds got the same"
            f" answer of {len(_said(first))} characters at temperature {decoding.temperature:g},"
            f" and so they did at {HOT:g}. Every replication would repeat the first one, so nothing"
            " was asked. Look for an option of the server's, or for a cache between, that fixes its"
            " answers, or set `generation.temperature` to 0, which asks for one answer to a prompt."
        )
    reason = f"its draws vary at temperature {HOT:g}; at {decoding.temperature:g} two were the same"
    return Sampling(True, None, reason, 4)


def _failed(vary: bool | None, reason: str, requests: int, *draws: Generation) -> Sampling:
    error = next(draw.error for draw in draws if draw.error)
    return Sampling(vary, None, f"{reason}: {error}", requests, error)


def _draws(ask: Ask, decoding: Decoding, *seeds: int) -> list[Generation]:
    messages = ({"role": "user", "content": PROMPT},)
    requests = [
        GenerationRequest(str(place), messages, (), decoding, seed)
        for place, seed in enumerate(seeds)
    ]
    found = {answer.key: answer for answer in ask(requests)}
    return [found[request.key] for request in requests]


def _said(answer: Generation) -> str:
    return f"{answer.reasoning or ''}{answer.text or ''}".strip()
