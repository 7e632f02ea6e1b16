"""What the log-probabilities of a query's options mean: its record and its distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from grace.distributions import normalised
from grace.scoring.joining import QueryPlan


def needs_terminator(options: Sequence[str]) -> bool:
    """Whether an option is the beginning of another, as "bad" is of "badly"."""
    return any(one != other and other.startswith(one) for one in options for other in options)


def measured_query(
    name: str,
    options: Sequence[str],
    plan: QueryPlan,
    token_logprobs: Sequence[Sequence[float]],
    terminator_logprobs: Sequence[float],
) -> dict[str, Any]:
    """The record of a measured query; log-probabilities are natural logs at temperature 1.

    `logprob` sums over the option's tokens, `logprob_terminated` adds the end of the turn.
    Option mass sums the options' probabilities, with the terminator if one option begins
    another (`terminated`); the residual is what the options miss.
    """
    terminated = needs_terminator(options)
    records = []
    for text, ids, values, end in zip(
        options, plan.option_token_ids, token_logprobs, terminator_logprobs, strict=True
    ):
        logprob = math.fsum(values)
        records.append(
            {
                "text": text,
                "token_ids": list(ids),
                "logprob": logprob,
                "token_logprobs": list(values),
                "logprob_terminated": logprob + end,
            }
        )
    mass = math.fsum(math.exp(_measure(record, terminated)) for record in records)
    return {
        "name": name,
        "prompt_token_ids": list(plan.prompt_token_ids),
        "options": records,
        "terminated": terminated,
        "option_mass": mass,
        "residual": 1 - mass,
        "status": "ok",
    }


def failed_query(name: str, options: Sequence[str], plan: QueryPlan, error: str) -> dict[str, Any]:
    """The record of a query that could not be measured: nulls and the reason, no numbers."""
    return {
        "name": name,
        "prompt_token_ids": list(plan.prompt_token_ids),
        "options": [
            {
                "text": text,
                "token_ids": list(ids),
                "logprob": None,
                "token_logprobs": None,
                "logprob_terminated": None,
            }
            for text, ids in zip(options, plan.option_token_ids, strict=True)
        ],
        "terminated": needs_terminator(options),
        "option_mass": None,
        "residual": None,
        "status": f"error: {error}",
    }


def _measure(option: dict[str, Any], terminated: bool) -> float:
    value: float = option["logprob_terminated" if terminated else "logprob"]
    return value


def distribution(query: dict[str, Any]) -> dict[str, float] | None:
    """{option: probability}, normalised over the options; None where the query failed."""
    if query["status"] != "ok":
        return None
    options = query["options"]
    measures = [_measure(option, query["terminated"]) for option in options]
    return dict(zip((option["text"] for option in options), normalised(measures), strict=True))
