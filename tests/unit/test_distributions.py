"""Summary statistics, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grace.scoring.distributions import entropy, jensen_shannon, mean_and_std, normalised


def test_entropy_is_in_bits() -> None:
    assert entropy([0.5, 0.25, 0.25, 0]) == 1.5
    assert entropy([1, 0]) == 0
    assert math.copysign(1, entropy([1.0])) == 1  # never -0.0


def test_mean_and_std_are_in_the_values_unit() -> None:
    assert mean_and_std({0: 0.25, 10: 0.5, 20: 0.25}) == (10, pytest.approx(math.sqrt(50)))
    assert mean_and_std({70: 1}) == (70, 0)


def test_normalised_forgets_the_mass_elsewhere() -> None:
    assert normalised([math.log(0.1), math.log(0.3)]) == pytest.approx([0.25, 0.75])


def test_normalised_survives_very_small_probabilities() -> None:
    assert normalised([-2000, -2000 + math.log(3), -math.inf]) == pytest.approx([0.25, 0.75, 0])


def test_jensen_shannon_in_bits() -> None:
    assert jensen_shannon([1, 0], [0, 1]) == 1
    assert jensen_shannon([0.2, 0.8], [0.2, 0.8]) == 0
    # By hand: H(.75, .25) - (H(1, 0) + H(.5, .5)) / 2
    assert jensen_shannon([1, 0], [0.5, 0.5]) == pytest.approx(0.311278, abs=1e-6)


def test_jensen_shannon_wants_equal_lengths() -> None:
    with pytest.raises(ValueError, match="zip"):
        jensen_shannon([1.0], [0.5, 0.5])


@given(st.lists(st.floats(-500, 0), min_size=8, max_size=8))
def test_jensen_shannon_is_symmetric_and_bounded(logprobs: list[float]) -> None:
    first = normalised(logprobs)
    second = normalised(logprobs[::-1])
    divergence = jensen_shannon(first, second)
    assert 0 <= divergence <= 1 + 1e-9
    assert divergence == pytest.approx(jensen_shannon(second, first), abs=1e-12)
