"""Bounds from the likeliest tokens, which is all that most remote APIs report of a distribution.

A token that is shown has its log-probability. One that is not shown is at most as likely as the
least likely token shown, and as what all that are shown leave over of 1. Names of tokens that are
not those of one token alone, or of none that we know, only widen the bounds. Pure: no HTTP.

Shapes: OpenAI's API reference, "Completions" (`logprobs`) and "Chat" (`top_logprobs`); vLLM 0.32,
entrypoints/openai/completion and chat_completion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grace.engines.base import Score, ScoreRequest
from grace.engines.logprobs import VLLM_NEG_INF, check_distribution, check_not_all_zero, checked
from grace.errors import RequestError
from grace.scoring.bounds import NOTHING_KNOWN, Bounds, Interval
from grace.scoring.distributions import log_sum

MOST_SHOWN = (20, 5)
"""Tokens to ask for: the most that APIs grant (chats; vLLM), then what completions grant."""
ROUNDING = 1e-5
"""Probability that rounded log-probabilities may hide; no bound by what is left over is below."""

Context = tuple[int, ...]
Names = Mapping[str, frozenset[int]]
"""The tokens that a server may mean by a name."""

_ABOUT_LOGPROBS = re.compile(r"status (400|422):.*logprobs", re.I)
_NOT_OFFERED = re.compile(r"status (404|405|501):|status (400|422):.*\bstring\b", re.I)


@dataclass(frozen=True)
class Shown:
    """The likeliest tokens in one place: names and log-probabilities (natural log).

    `drawn` is the name of the token that was sampled. It may be less likely than tokens that are
    not shown.
    """

    entries: tuple[tuple[str, float], ...]
    drawn: str | None

    def probability(self) -> float:
        return math.fsum(math.exp(value) for _, value in self.entries)


def is_refusal(error: str) -> bool:
    """Whether the server said that it has no such path, log-probabilities or token-id prompts."""
    return is_about_logprobs(error) or _NOT_OFFERED.search(error) is not None


def is_about_logprobs(error: str) -> bool:
    """Whether the server refuses log-probabilities, or so many of them."""
    return _ABOUT_LOGPROBS.search(error) is not None


def contexts(request: ScoreRequest) -> list[Context]:
    """Every place at which something of the request is read: the nodes of its trie."""
    found: dict[Context, None] = {}
    for continuation in request.continuations:
        for end in range(len(continuation) + 1):
            found.setdefault(request.prompt_token_ids + continuation[:end])
    return list(found)


def of_completions(answer: dict[str, Any], count: int) -> list[Shown] | None:
    """What is shown after each of `count` prompts; None where the server shows nothing."""
    try:
        by_index = {choice["index"]: choice["logprobs"] for choice in answer["choices"]}
        places = [by_index[index] for index in sorted(by_index)]
        shows = [bool(place) and bool(place.get("top_logprobs")) for place in places]
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    if not all(shows):
        return None
    if len(answer["choices"]) != count or by_index.keys() != set(range(count)):
        raise RequestError("the server answered another number of prompts than it was asked")
    found = []
    for place in places:
        try:
            at, drawn = place["top_logprobs"][0], (place.get("tokens") or [None])[0]
        except (LookupError, TypeError):
            at = None
        if not isinstance(at, dict):
            raise RequestError("the server's answer has no log-probabilities")
        found.append(_shown(list(at.items()), drawn))
    return found


def of_chat(answer: dict[str, Any]) -> Shown | None:
    """What is shown as a chat's first token; None where the server shows nothing."""
    try:
        place = answer["choices"][0]["logprobs"]["content"][0]
        entries = [(_name(entry), entry["logprob"]) for entry in place["top_logprobs"]]
        drawn = _name(place)
    except (LookupError, TypeError):
        return None
    if not entries:
        return None
    if drawn not in dict(entries):
        entries.append((drawn, place["logprob"]))
    return _shown(entries, drawn)


def _name(entry: dict[str, Any]) -> str:
    """A token's text: of its bytes if they are text, else as the server writes it."""
    raw = entry.get("bytes")
    try:
        # Of a number, `bytes` would be so many zeros.
        return bytes(raw).decode() if raw and isinstance(raw, list) else str(entry["token"])
    except (TypeError, ValueError):
        return str(entry["token"])


def _shown(entries: list[tuple[str, Any]], drawn: str | None) -> Shown:
    """Raises `RequestError` where a value is no log-probability.

    APIs write -9999 for tokens that they know nothing of; such an entry shows nothing.
    """
    known = [
        (name, checked(value))
        for name, value in entries
        if not (isinstance(value, int | float) and value <= VLLM_NEG_INF)
    ]
    check_distribution(value for _, value in known)
    return Shown(tuple(known), drawn)


def interval(shown: Shown, token: int, names: Names) -> Interval:
    """What is known of one token."""
    no_tokens: frozenset[int] = frozenset()
    own = [e for e in shown.entries if token in names.get(e[0], no_tokens)]
    if len(own) == 1 and len(names[own[0][0]]) == 1:
        return Interval(own[0][1], own[0][1])
    # An unknown name may be this token's.
    strangers = [value for name, value in shown.entries if not names.get(name)]
    mine = math.fsum(math.exp(value) for value in [*strangers, *(value for _, value in own)])
    left = math.log(min(1.0, max(0.0, 1 - (shown.probability() - mine)) + ROUNDING))
    if own:  # under a name that other tokens share, one of which may hide behind the other
        return Interval(-math.inf, left)
    ranked = [value for name, value in shown.entries if name != shown.drawn]
    return Interval(-math.inf, min(left, max([min(ranked, default=0.0), *strangers])))


def _any_of(intervals: list[Interval]) -> Interval:
    """What is known of the sum of different tokens' probabilities."""
    lowers, uppers = zip(*intervals, strict=True)
    return Interval(min(0.0, log_sum(lowers)), min(0.0, log_sum(uppers)))


def score(request: ScoreRequest, reads: Mapping[Context, Shown], names: Names) -> Score:
    """The bounds that the reads give; of a place that was not read nothing is known."""
    terminators = sorted(set(request.terminator_ids))

    def at(context: Context, token: int) -> Interval:
        shown = reads.get(context)
        return NOTHING_KNOWN if shown is None else interval(shown, token, names)

    try:
        if not terminators:
            raise RequestError("the request names no terminator")
        if reads:
            check_not_all_zero(value for shown in reads.values() for _, value in shown.entries)
    except RequestError as error:
        return Score(request.key, None, None, error=str(error))
    bounds = []
    for continuation in request.continuations:
        context = request.prompt_token_ids
        along = []
        for token in continuation:
            along.append(at(context, token))
            context = (*context, token)
        ends = _any_of([at(context, token) for token in terminators])
        bounds.append(Bounds(tuple(along), ends))
    return Score(request.key, None, None, bounds=tuple(bounds))
