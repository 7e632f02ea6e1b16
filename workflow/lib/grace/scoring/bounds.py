"""What is known of log-probabilities where not every one can be read: bounds, never guesses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Interval(NamedTuple):
    """A natural log of a probability lies between these, both included.

    `lower` is minus infinity where nothing but the upper bound is known.
    """

    lower: float
    upper: float

    @property
    def exact(self) -> bool:
        """Whether it is a number after all."""
        return self.lower == self.upper


NOTHING_KNOWN = Interval(float("-inf"), 0.0)


@dataclass(frozen=True)
class Bounds:
    """One continuation: each token's probability after those before it, and the terminators'."""

    tokens: tuple[Interval, ...]
    terminators: Interval
