"""Fitting a cognitive model to counts: simulated truths are recovered, and published fits."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from bundled_studies import bundled_study

from grace.studies.theory import write_reference
from grace.studies.theory_fit import Range, fit

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "reference_refgame.csv"
    write_reference(bundled_study("refgame"), path)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def coin(values):
    return [[values["bias"], 1 - values["bias"]]]


def test_a_posterior_is_the_one_that_is_known_in_closed_form():
    (bias,) = fit(coin, [[7, 3]], {"bias": Range(0, 1)})
    assert bias.mean == pytest.approx(8 / 12, abs=1e-3)  # Beta(8, 4)
    assert bias.most_likely == pytest.approx(0.7, abs=2e-3)
    assert (bias.low, bias.high) == pytest.approx((0.4120, 0.9066), abs=2e-3)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    truths = rng.uniform(0, 1, 400)  # drawn from the prior, as coverage of a posterior asks
    covered = 0
    for truth in truths:
        heads = int(rng.binomial(30, truth))
        (bias,) = fit(coin, [[heads, 30 - heads]], {"bias": Range(0, 1)})
        covered += bias.low <= truth <= bias.high
    assert 0.92 <= covered / len(truths) <= 0.98


def test_counts_that_no_parameters_can_have_given_are_refused():
    with pytest.raises(ValueError, match="no values of the parameters"):
        fit(lambda values: [[1.0, 0.0]], [[0, 3]], {"bias": Range(0, 1)})
    with pytest.raises(ValueError, match="4 parameters"):
        fit(coin, [[1, 0]], dict.fromkeys("abcd", Range(0, 1)))


@pytest.mark.parametrize(
    ("role", "alpha", "error"),
    [
        ("production", (3.14, 2.62, 3.70), 0.121),
        ("interpretation", (0.678, 0.268, 1.13), 0.136),
    ],
)
def test_the_reference_games_fits_are_those_published(role, alpha, error, reference):
    """Franke, Tsvilodub & Carcassi (2024): estimate and interval of alpha, estimate of error."""
    rsa = next(row for row in reference if row["source"] == "rsa" and row["role"] == role)
    found = {name: float(rsa[name]) for name in ("alpha", "alpha_low", "alpha_high", "error")}
    estimate, low, high = alpha
    assert low <= found["alpha"] <= high
    assert found["alpha_low"] <= estimate <= found["alpha_high"]
    assert found["alpha"] == pytest.approx(estimate, abs=0.1)
    assert found["alpha_low"] == pytest.approx(low, abs=0.1)
    assert found["alpha_high"] == pytest.approx(high, abs=0.15)
    assert found["error"] == pytest.approx(error, abs=0.02)


def test_people_and_theory_of_the_reference_game_stand_in_one_table(reference):
    people = [row for row in reference if row["source"] == "human"]
    counts = {(row["role"], row["outcome"]): (row["n"], row["total"]) for row in people}
    assert counts["production", "target"] == ("500", "604")
    assert counts["production", "competitor"] == ("79", "604")
    assert counts["production", "distractor"] == ("25", "604")
    assert counts["interpretation", "target"] == ("321", "604")
    assert counts["interpretation", "competitor"] == ("254", "604")
    assert counts["interpretation", "distractor"] == ("29", "604")
    rsa = {(row["role"], row["outcome"]): float(row["probability"]) for row in reference[6:]}
    for cell, (n, total) in counts.items():
        assert rsa[cell] == pytest.approx(int(n) / int(total), abs=0.02)
