"""Summary statistics of discrete distributions. Entropies are in bits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence


def entropy(probabilities: Iterable[float]) -> float:
    """Shannon entropy in bits; 0 log 0 is 0."""
    return max(0.0, -sum(p * math.log2(p) for p in probabilities if p > 0))


def mean_and_std(distribution: Mapping[float, float]) -> tuple[float, float]:
    """Mean and standard deviation of {value: probability}, in the values' unit."""
    mean = sum(value * p for value, p in distribution.items())
    variance = sum(p * (value - mean) ** 2 for value, p in distribution.items())
    return mean, math.sqrt(max(0.0, variance))


def log_sum(logs: Sequence[float]) -> float:
    """Ln of the summed exponentials; NaN stays NaN."""
    if any(map(math.isnan, logs)):
        return math.nan
    highest = max(logs)
    if len(logs) == 1 or math.isinf(highest):
        return highest
    return highest + math.log(math.fsum(math.exp(value - highest) for value in logs))


def normalised(logprobs: Sequence[float]) -> list[float]:
    """Probabilities of the options given that one of them is the answer.

    `logprobs` are natural logs and need not sum to 1; at least one must be finite.
    """
    highest = max(logprobs)
    weights = [math.exp(value - highest) for value in logprobs]
    total = sum(weights)
    return [weight / total for weight in weights]


def jensen_shannon(first: Sequence[float], second: Sequence[float]) -> float:
    """Jensen-Shannon divergence in bits (Lin 1991, IEEE Trans. Inf. Theory 37:145-151)."""
    middle = [(p + q) / 2 for p, q in zip(first, second, strict=True)]
    return max(0.0, entropy(middle) - (entropy(first) + entropy(second)) / 2)
