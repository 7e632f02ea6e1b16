"""Checking log-probabilities that came over the wire: a bad value is an error, never a number."""

from __future__ import annotations

import math
from collections.abc import Iterable

from grace.errors import RequestError
from grace.foreign_text import message

VLLM_NEG_INF = -9998.0
"""vLLM writes minus infinity as -9999; values there or below stand for no value at all."""
TOLERANCE = {"float64": 1e-6, "float32": 1e-3, "float16": 0.1, "bfloat16": 0.5}
"""How far log-probabilities of one model, computed in two ways, may differ, by dtype: its rounding
over a deep model, far below what a wrong mask or a mix-up does."""
_ROUNDING = 1e-3


def checked(value: object) -> float:
    """`value` where it is a log-probability. Raises `RequestError` else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"a log-probability is missing: {message(repr(value), 80)}")
    # Not (between): NaN is on neither side, and some integers are no float.
    if not VLLM_NEG_INF < value <= 0:
        raise RequestError(f"a log-probability is {message(str(value), 80)}, which is none")
    return float(value)


def check_distribution(values: Iterable[float]) -> None:
    """Log-probabilities of different tokens in one place may not sum to more than 1."""
    mass = math.fsum(math.exp(value) for value in values)
    if mass > 1 + _ROUNDING:
        raise RequestError(f"log-probabilities of one distribution sum to a probability of {mass}")


def check_not_all_zero(values: Iterable[float]) -> None:
    """All zero is how a server answers that did not compute log-probabilities."""
    if all(value == 0 for value in values):
        raise RequestError("all log-probabilities are 0: the server did not compute them")


def log_sum(values: Iterable[float]) -> float:
    """Ln of the summed probabilities, at most 0. Raises `RequestError` where there are none."""
    terms = list(values)
    if not terms:
        raise RequestError("the request names no terminator")
    top = max(terms)
    return min(0.0, top + math.log(math.fsum(math.exp(term - top) for term in terms)))
