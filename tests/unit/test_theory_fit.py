"""Fitting a cognitive model to counts: simulated truths are recovered, and published fits."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from grace.studies.theory_fit import Range, fit

REFGAME = Path(__file__).parents[2] / "studies" / "refgame"


def coin(values):
    return [{"heads": values["bias"], "tails": 1 - values["bias"]}]


def test_a_posterior_is_the_one_that_is_known_in_closed_form():
    (bias,) = fit(coin, [{"heads": 7, "tails": 3}], {"bias": Range(0, 1)})
    assert bias.mean == pytest.approx(8 / 12, abs=1e-3)  # Beta(8, 4)
    assert bias.most_likely == pytest.approx(0.7, abs=2e-3)
    assert (bias.low, bias.high) == pytest.approx((0.4120, 0.9066), abs=2e-3)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    truths = rng.uniform(0, 1, 400)  # drawn from the prior, as coverage of a posterior asks
    covered = 0
    for truth in truths:
        heads = int(rng.binomial(30, truth))
        (bias,) = fit(coin, [{"heads": heads, "tails": 30 - heads}], {"bias": Range(0, 1)})
        covered += bias.low <= truth <= bias.high
    assert 0.92 <= covered / len(truths) <= 0.98


def test_counts_that_no_parameters_can_have_given_are_refused():
    with pytest.raises(ValueError, match="no values of the parameters"):
        fit(lambda values: [{"heads": 1.0}], [{"tails": 3}], {"bias": Range(0, 1)})
    with pytest.raises(ValueError, match="4 parameters"):
        fit(coin, [{"heads": 1}], dict.fromkeys("abcd", Range(0, 1)))


@pytest.mark.parametrize(
    ("role", "alpha", "error"),
    [
        ("production", (3.14, 2.62, 3.70), 0.121),
        ("interpretation", (0.678, 0.268, 1.13), 0.136),
    ],
)
def test_the_reference_games_fits_are_those_published(role, alpha, error):
    """Franke, Tsvilodub & Carcassi (2024): estimate and interval of alpha, estimate of error."""
    specification = importlib.util.spec_from_file_location("refgame_theory", REFGAME / "theory.py")
    theory = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(theory)
    with (REFGAME / "people.csv").open(encoding="utf-8", newline="") as file:
        counts = {
            row["label"]: int(row["n"]) for row in csv.DictReader(file) if row["role"] == role
        }
    with (REFGAME / "stimuli.csv").open(encoding="utf-8", newline="") as file:
        trial = next(row for row in csv.DictReader(file) if row["role"] == role)
    objects = [trial[f"object_{place}"] for place in (1, 2, 3)]
    words = [trial[f"word_{place}"] for place in (1, 2, 3, 4)]
    asked = [trial[name] for name in ("given", "target", "competitor")]
    found = fit(
        lambda values: [theory.choice(role, objects, words, *asked, **values)],
        [counts],
        {"alpha": Range(0, 10), "error": Range(0, 1)},
    )
    by_name = {one.parameter: one for one in found}
    estimate, low, high = alpha
    assert low <= by_name["alpha"].mean <= high
    assert by_name["alpha"].low <= estimate <= by_name["alpha"].high
    assert by_name["alpha"].mean == pytest.approx(estimate, abs=0.1)
    assert by_name["alpha"].low == pytest.approx(low, abs=0.1)
    assert by_name["alpha"].high == pytest.approx(high, abs=0.15)
    assert by_name["error"].mean == pytest.approx(error, abs=0.02)
