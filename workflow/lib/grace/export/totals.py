"""What samples amount to: counts, tokens and the mean of each score."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from grace.export.samples import Sample


@dataclass
class ScoreTotal:
    """A score over the samples that have one; values are added up without loss."""

    values: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Samples that have the score."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean of its values."""
        return math.fsum(self.values) / len(self.values)


@dataclass
class Totals:
    """Of all samples of a log; `failed` ones have no answer."""

    samples: int = 0
    failed: int = 0
    scores: dict[str, ScoreTotal] = field(default_factory=dict)
    _tokens: list[tuple[int, int]] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        """Count one more sample."""
        self.samples += 1
        self.failed += sample.error is not None
        if sample.tokens:
            self._tokens.append(sample.tokens)
        for name, measured in sample.scores.items():
            self.scores.setdefault(name, ScoreTotal()).values.append(measured.value)

    @property
    def tokens(self) -> tuple[int, int] | None:
        """Tokens of all prompts and of all answers; None where none were counted."""
        if not self._tokens:
            return None
        return sum(one for one, _ in self._tokens), sum(two for _, two in self._tokens)
