"""Scores from `prompt_logprobs`, which vLLM-like servers report for a prompt's own tokens.

Each continuation is sent as the end of a prompt, once for each terminator. Pure: no HTTP.
"""

from __future__ import annotations

import re
from typing import Any

from grace.engines.base import Score, ScoreRequest
from grace.engines.logprobs import check_distribution, check_not_all_zero, checked, log_sum
from grace.errors import RequestError

_NOT_OFFERED = re.compile(r"status (404|405|501):|prompt_logprobs")


def prompts(request: ScoreRequest) -> list[tuple[int, ...]]:
    """Prompt, continuation and one terminator, for every continuation and terminator."""
    return [
        (*request.prompt_token_ids, *continuation, terminator)
        for continuation in request.continuations
        for terminator in _terminators(request)
    ]


def is_refusal(error: str) -> bool:
    """Whether the server said that it has no completions or no `prompt_logprobs`."""
    return _NOT_OFFERED.search(error) is not None


def are_missing(answer: dict[str, Any]) -> bool:
    """Whether an answer came without `prompt_logprobs`, so that all would."""
    choices = answer.get("choices")
    if not isinstance(choices, list):
        return True
    return any(not isinstance(c, dict) or not c.get("prompt_logprobs") for c in choices)


def score(request: ScoreRequest, answer: dict[str, Any]) -> Score:
    """The score that an answer to `prompts` gives; an impossible value makes it an error."""
    terminators = _terminators(request)
    try:
        rows = _rows(answer, len(request.continuations) * len(terminators))
        token_logprobs = []
        terminator_logprobs = []
        for number, continuation in enumerate(request.continuations):
            own = rows[number * len(terminators) : (number + 1) * len(terminators)]
            ends = [
                _values(row, request.prompt_token_ids, (*continuation, terminator))
                for row, terminator in zip(own, terminators, strict=True)
            ]
            if not ends:
                raise RequestError("the request names no terminator")
            at_end = [values[-1] for values in ends]
            check_distribution(at_end)
            token_logprobs.append(ends[0][:-1])
            terminator_logprobs.append(log_sum(at_end))
        check_not_all_zero(value for values in token_logprobs for value in values)
    except RequestError as error:
        return Score(request.key, None, None, error=str(error))
    return Score(request.key, tuple(token_logprobs), tuple(terminator_logprobs))


def _terminators(request: ScoreRequest) -> list[int]:
    return sorted(set(request.terminator_ids))


def _rows(answer: dict[str, Any], count: int) -> list[list[Any]]:
    """The `prompt_logprobs` of every prompt, in the order asked."""
    try:
        found = {choice["index"]: list(choice["prompt_logprobs"]) for choice in answer["choices"]}
    except (LookupError, TypeError, ValueError):
        raise RequestError("the server's answer has another shape than vLLM's") from None
    if len(answer["choices"]) != count or found.keys() != set(range(count)):
        raise RequestError("the server answered another number of prompts than it was asked")
    return [found[number] for number in range(count)]


def _values(row: list[Any], prompt: tuple[int, ...], tail: tuple[int, ...]) -> tuple[float, ...]:
    """Log-probabilities of the last tokens of a prompt, which must be the one that was sent."""
    if len(row) != len(prompt) + len(tail):
        raise RequestError("the server read another number of tokens than it was sent")
    for token, place in zip(prompt[1:], row[1:], strict=False):  # nothing is reported for the first
        if not isinstance(place, dict) or str(token) not in place:
            raise RequestError("the server read other tokens than it was sent")
    values = []
    for token, place in zip(tail, row[len(prompt) :], strict=True):
        entry = place.get(str(token)) if isinstance(place, dict) else None
        values.append(checked(entry.get("logprob") if isinstance(entry, dict) else None))
    return tuple(values)
