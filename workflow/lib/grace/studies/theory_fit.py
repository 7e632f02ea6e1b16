"""Fitting a cognitive model to people's counts: posterior of its parameters on a grid.

Counts of each group of cells are multinomial, priors flat over the declared ranges. Two or three
parameters make a grid that is evaluated whole, so that nothing depends on chains or seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: Probabilities of one cell's outcomes.
Prediction = Sequence[float]
#: Points along each parameter, by how many parameters there are: of the grid over the whole range,
#: and of the one over the part of it that the first has not ruled out.
POINTS = {1: (200, 1000), 2: (40, 100), 3: (16, 40)}
#: Points this much less likely than the best (natural log) are ruled out.
NEGLIGIBLE = 15.0


@dataclass(frozen=True)
class Range:
    """Where a parameter may lie; its flat prior."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A parameter's posterior mean, its 95% highest-density interval, and its best value."""

    parameter: str
    mean: float
    low: float
    high: float
    most_likely: float


def fit(
    predict: Callable[[Mapping[str, float]], Sequence[Prediction]],
    counts: Sequence[Sequence[int]],
    parameters: Mapping[str, Range],
) -> list[Estimate]:
    """The posterior of every parameter, given people's counts in each cell.

    `predict` gives, for values of all parameters, each cell's distribution over outcomes; `counts`
    people's answers in the same cells and order. Raises `ValueError` for more than three
    parameters, and where no point of the grid can have given the counts.
    """
    if len(parameters) not in POINTS:
        raise ValueError(f"{len(parameters)} parameters: a grid can hold 1 to {max(POINTS)}")
    names, ranges = list(parameters), list(parameters.values())
    for points in POINTS[len(names)]:
        # Midpoints: at the very ends an outcome may be impossible.
        axes = [
            one.low + (one.high - one.low) * (np.arange(points) + 0.5) / points for one in ranges
        ]
        logs = np.array(
            [
                _log_likelihood(predict(dict(zip(names, map(float, values), strict=True))), counts)
                for values in product(*axes)
            ]
        ).reshape([points] * len(names))
        if not np.isfinite(logs).any():
            raise ValueError("no values of the parameters can have given these counts")
        kept = np.argwhere(logs >= logs.max() - NEGLIGIBLE)
        ranges = [
            _around(axis, int(places.min()), int(places.max()), one)
            for axis, places, one in zip(axes, kept.T, ranges, strict=True)
        ]
    weights = np.exp(logs - logs.max())
    best = np.unravel_index(int(logs.argmax()), logs.shape)
    found = []
    for place, name in enumerate(names):
        others = tuple(axis for axis in range(len(names)) if axis != place)
        density = weights.sum(axis=others)
        density /= density.sum()
        low, high = _highest_density(axes[place], density)
        mean = float((axes[place] * density).sum())
        found.append(Estimate(name, mean, low, high, float(axes[place][best[place]])))
    return found


def _around(axis: Array, first: int, last: int, within: Range) -> Range:
    """The range from one place of an axis to another, and a step more on each side."""
    step = float(axis[1] - axis[0])
    return Range(
        max(within.low, float(axis[first]) - step), min(within.high, float(axis[last]) + step)
    )


def _log_likelihood(cells: Sequence[Prediction], counts: Sequence[Sequence[int]]) -> float:
    """Ln of the probability of the counts, but for a constant."""
    total = 0.0
    for cell, seen in zip(cells, counts, strict=True):
        for chance, count in zip(cell, seen, strict=True):
            if not count:
                continue
            if chance <= 0:
                return -np.inf
            total += count * float(np.log(chance))
    return total


def _highest_density(values: Array, density: Array, mass: float = 0.95) -> tuple[float, float]:
    """The shortest interval of the grid with this mass; for densities with one peak."""
    order = np.argsort(density)[::-1]
    inside = order[: int(np.searchsorted(np.cumsum(density[order]), mass)) + 1]
    return float(values[inside].min()), float(values[inside].max())
