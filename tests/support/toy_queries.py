"""Queries that toy language models of a few tokens are asked; every log-probability is read."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from grace.scoring.joining import QueryPlan
from grace.scoring.records import measured_query

END = 0
Model = Callable[[tuple[int, ...]], list[float]]


def toy(seed: int, vocabulary: int, peaked: float) -> Model:
    """Next-token probabilities after any prefix; the greater `peaked`, the surer."""

    def after(prefix: tuple[int, ...]) -> list[float]:
        random_numbers = random.Random(f"{seed} {prefix}")
        weights = [math.exp(peaked * random_numbers.gauss(0, 1)) for _ in range(vocabulary)]
        return [weight / sum(weights) for weight in weights]

    return after


def texts_of(option: str, forms: Sequence[str]) -> list[tuple[int, ...]]:
    """A digit is a token."""
    return [tuple(map(int, form.replace("{}", option))) for form in forms]


def asked(model: Model, options: Sequence[str], forms: Sequence[str] = ("{}",)) -> dict[str, Any]:
    """The record of a query of which every log-probability is read."""
    ids = [text for option in options for text in texts_of(option, forms)]
    plan = QueryPlan(
        (9,), tuple(form.replace("{}", o) for o in options for form in forms), tuple(ids)
    )
    tokens = [
        tuple(math.log(model(text[:place])[token]) for place, token in enumerate(text))
        for text in ids
    ]
    ends = [math.log(model(text)[END]) for text in ids]
    return measured_query("q", options, plan, tokens, ends)


OPTIONS = st.lists(st.text("1234", min_size=1, max_size=4), min_size=2, max_size=5, unique=True)
FORMS = st.sampled_from([("{}",), ("{}", "5{}"), ("{}", "5{}", "56{}")])
