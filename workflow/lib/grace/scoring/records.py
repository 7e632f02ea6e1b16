"""What the log-probabilities of a query's options mean: its record and its distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from grace.scoring.bounds import Bounds, Interval
from grace.scoring.distributions import log_sum, normalised
from grace.scoring.joining import QueryPlan

Record = dict[str, Any]
#: The status of a query of which only bounds are known.
BOUNDS = "bounds"


def needs_terminator(texts: Sequence[str]) -> bool:
    """Whether a text is the beginning of another, as "bad" is of "badly"."""
    return any(one != other and other.startswith(one) for one in texts for other in texts)


def measured_query(
    name: str,
    options: Sequence[str],
    plan: QueryPlan,
    token_logprobs: Sequence[Sequence[float]],
    terminator_logprobs: Sequence[float],
) -> Record:
    """The record of a measured query; log-probabilities are natural logs at temperature 1.

    `logprob` sums over the option's tokens, `logprob_terminated` adds the end of the turn; it is
    None where no end was asked for, which only a query that does without may do.
    Option mass sums the options' probabilities, with the terminator if one text begins another
    (`terminated`); the residual is what the options miss.

    Where the plan writes options otherwise than as asked, each lists its `surface_forms`, its own
    fields are the first form's, and `logprob_summed` is ln of its forms' summed probabilities.
    """
    terminated = needs_terminator(plan.texts)
    ends: Sequence[float | None] = terminator_logprobs or [None] * len(plan.texts)
    texts = []
    for text, ids, values, end in zip(
        plan.texts, plan.option_token_ids, token_logprobs, ends, strict=True
    ):
        logprob = math.fsum(values)
        ended = None if end is None else logprob + end
        texts.append(_text(text, ids, logprob, list(values), ended))
    records = _options(options, plan, texts)
    for option in records:
        if "surface_forms" in option:
            forms = option["surface_forms"]
            option["logprob_summed"] = log_sum([measure(form, terminated) for form in forms])
    mass = math.fsum(math.exp(measure(option, terminated)) for option in records)
    return _query(name, plan, records, mass, "ok")


def bounded_query(
    name: str, options: Sequence[str], plan: QueryPlan, bounds: Sequence[Bounds]
) -> Record:
    """The record of a query whose log-probabilities are known within bounds.

    Where all of them turn out to be exact it is a measured query; where only the terminators that
    its distribution does without are not, it is one without `logprob_terminated`. Else its numbers
    are null, and fields that end in `_lower` and `_upper` hold the bounds (natural logs, null for
    minus infinity; option mass as a probability).
    """
    if all(one.exact for own in bounds for one in (*own.tokens, own.terminators)):
        tokens = [[one.lower for one in own.tokens] for own in bounds]
        return measured_query(
            name, options, plan, tokens, [own.terminators.lower for own in bounds]
        )
    terminated = needs_terminator(plan.texts)
    exact = not terminated and all(one.exact for own in bounds for one in own.tokens)
    texts, measures = [], []
    for text, ids, own in zip(plan.texts, plan.option_token_ids, bounds, strict=True):
        whole = _sum(own.tokens)
        ended = _sum([whole, own.terminators])
        measures.append(ended if terminated else whole)
        values = [one.lower for one in own.tokens] if exact else None
        texts.append(
            {
                **_text(text, ids, whole.lower if exact else None, values, None),
                **_limits("logprob", whole),
                **_limits("logprob_terminated", ended),
            }
        )
    records = _options(options, plan, texts)
    count = len(texts) // len(options)
    for place, option in enumerate(records):
        if "surface_forms" in option:
            forms = _total(measures[place * count : (place + 1) * count])
            option["logprob_summed"] = forms.lower if exact else None
            option |= _limits("logprob_summed", forms)
    lower = math.fsum(math.exp(measure.lower) for measure in measures)
    if exact:
        return _query(name, plan, records, lower, "ok")
    upper = _most(list(zip(plan.option_token_ids, bounds, strict=True)), terminated)
    return {
        **_query(name, plan, records, None, BOUNDS),
        "option_mass_lower": min(1.0, lower),
        "option_mass_upper": upper,
    }


def _sum(parts: Sequence[Interval]) -> Interval:
    """Of one event after the other."""
    return Interval(
        math.fsum(part.lower for part in parts), math.fsum(part.upper for part in parts)
    )


def _total(parts: Sequence[Interval]) -> Interval:
    """Of events that exclude each other."""
    lower = log_sum([part.lower for part in parts])
    return Interval(min(0.0, lower), min(0.0, log_sum([part.upper for part in parts])))


def _limits(name: str, interval: Interval) -> Record:
    lower = interval.lower if math.isfinite(interval.lower) else None
    return {f"{name}_lower": lower, f"{name}_upper": interval.upper}


def _most(
    texts: Sequence[tuple[tuple[int, ...], Bounds]], terminated: bool, depth: int = 0
) -> float:
    """The most probability that texts with the same first `depth` tokens can have together.

    What they share is counted once, so this is less than the sum of their upper bounds.
    """
    branches: dict[int, list[tuple[tuple[int, ...], Bounds]]] = {}
    for ids, bounds in texts:
        branches.setdefault(ids[depth], []).append((ids, bounds))
    found = 0.0
    for branch in branches.values():
        here = [bounds for ids, bounds in branch if len(ids) == depth + 1]
        further = [(ids, bounds) for ids, bounds in branch if len(ids) > depth + 1]
        below = _most(further, terminated, depth + 1) if further else 0.0
        if here:
            below += math.exp(here[0].terminators.upper) if terminated else 1.0
        found += math.exp(branch[0][1].tokens[depth].upper) * min(1.0, below)
    return min(1.0, found)


def failed_query(name: str, options: Sequence[str], plan: QueryPlan, error: str) -> Record:
    """The record of a query that could not be measured: nulls and the reason, no numbers."""
    texts = [
        _text(text, ids, None, None, None)
        for text, ids in zip(plan.texts, plan.option_token_ids, strict=True)
    ]
    return _query(name, plan, _options(options, plan, texts), None, f"error: {error}")


def _text(
    text: str,
    ids: Sequence[int],
    logprob: float | None,
    values: list[float] | None,
    logprob_terminated: float | None,
) -> Record:
    return {
        "text": text,
        "token_ids": list(ids),
        "logprob": logprob,
        "token_logprobs": values,
        "logprob_terminated": logprob_terminated,
    }


def _options(options: Sequence[str], plan: QueryPlan, texts: Sequence[Record]) -> list[Record]:
    """The options' records; `logprob_summed` is yet to be filled in."""
    if plan.texts == tuple(options):
        return list(texts)
    count = len(texts) // len(options)
    forms = [list(texts[start : start + count]) for start in range(0, len(texts), count)]
    return [
        {**own[0], "text": option, "surface_forms": own, "logprob_summed": None}
        for option, own in zip(options, forms, strict=True)
    ]


def _query(
    name: str, plan: QueryPlan, options: list[Record], mass: float | None, status: str
) -> Record:
    return {
        "name": name,
        "prompt_token_ids": list(plan.prompt_token_ids),
        "options": options,
        "terminated": needs_terminator(plan.texts),
        "option_mass": mass,
        "residual": None if mass is None else 1 - mass,
        "status": status,
    }


def measure(option: Record, terminated: bool) -> float:
    """An option's log-probability: all its forms', or its only one's, to the end where needed."""
    if "logprob_summed" in option:
        summed: float = option["logprob_summed"]
        return summed
    value: float = option["logprob_terminated" if terminated else "logprob"]
    return value


def distribution(query: Record) -> dict[str, float] | None:
    """{option: probability}, normalised over the options.

    None where the query failed or only bounds are known.
    """
    if query["status"] != "ok":
        return None
    options = query["options"]
    measures = [measure(option, query["terminated"]) for option in options]
    return dict(zip((option["text"] for option in options), normalised(measures), strict=True))
