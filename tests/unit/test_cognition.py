"""The models of people, against the numbers published or computed for them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from grace.pico.trained_on import theory
from grace.scoring.distributions import jensen_shannon

REFERENCE = Path(__file__).parents[2] / "resources" / "reference"
rsa, polite = theory("study1"), theory("study2")
LEXICON = polite.read_lexicon(REFERENCE / "politeness_lexicon.csv")
WEIGHTS = polite.read_weights(REFERENCE / "politeness_weights.csv")


@pytest.mark.parametrize(
    ("access", "observe", "percent"),
    [
        (1, 1, [0, 14.4, 47.1, 38.4]),
        (2, 1, [0, 31.7, 58.0, 10.3]),
        (2, 2, [0, 0, 38.0, 62.0]),
        (3, 1, [0, 71.2, 28.2, 0.6]),
        (3, 2, [0, 0, 98.0, 2.0]),
        (3, 3, [0, 0, 0, 100]),
    ],
)
def test_listener_gives_the_expected_row(access: int, observe: int, percent: list[float]) -> None:
    assert np.round(100 * rsa.listener(access, observe), 1).tolist() == percent


@pytest.mark.parametrize(
    ("access", "observe", "percent"),
    [
        (1, 1, [0, 14.44, 47.12, 38.44]),
        (2, 1, [0, 38, 62, 0]),
        (2, 2, [0, 0, 38, 62]),
        (3, 1, [0, 100, 0, 0]),
        (3, 2, [0, 0, 100, 0]),
        (3, 3, [0, 0, 0, 100]),
    ],
)
def test_exact_report_leaves_open_only_what_was_not_seen(
    access: int, observe: int, percent: list[float]
) -> None:
    assert 100 * rsa.exact_report(access, observe) == pytest.approx(percent)


def test_prior_is_binomial() -> None:
    assert rsa.prior(0.5) == pytest.approx([1 / 8, 3 / 8, 3 / 8, 1 / 8])
    assert rsa.prior(0.9)[3] == pytest.approx(0.729)


def test_alpha_zero_leaves_only_lower_bounds() -> None:
    """A speaker who picks any true word at random: 'one' with full access excludes only 0."""
    belief = rsa.listener(3, 1, alpha=0, base_rate=0.5)
    # 1, 2 and 3 true words in states 1, 2 and 3; prior 3, 3, 1 eighths.
    assert belief == pytest.approx(np.array([0, 3, 3 / 2, 1 / 3]) / (3 + 3 / 2 + 1 / 3))


def test_a_better_prior_raises_the_belief_in_all_three() -> None:
    assert rsa.listener(2, 2, base_rate=0.9)[3] > rsa.listener(2, 2, base_rate=0.6)[3]


@pytest.mark.parametrize(("access", "observe"), [(0, 0), (1, 2), (4, 1), (3, 0), (2, -1)])
def test_impossible_cells_are_refused(access: int, observe: int) -> None:
    for model in (rsa.listener, rsa.exact_report):
        with pytest.raises(ValueError, match=f"access {access}, observe {observe}"):
            model(access, observe)


@pytest.mark.parametrize("rate", [0, 1, -0.2, 1.5])
def test_base_rate_must_be_a_chance(rate: float) -> None:
    with pytest.raises(ValueError, match="base_rate"):
        rsa.prior(rate)


def _fit(costs: dict[str, float]) -> tuple[float, float, float]:
    """r², RMSE and mean JSD in bits of the polite speaker against the human cells."""
    human: dict[tuple[str, int], list[float]] = {}
    with (REFERENCE / "study2_human_cells.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            cell = human.setdefault((row["goal"], int(row["state"])), [])
            utterance = (row["polarity"].replace("wasnt", "wasn't"), row["adjective"])
            assert utterance == polite.UTTERANCES[len(cell)]
            cell.append(int(row["n"]) / int(row["total"]))
    model = {
        (goal, state): polite.speaker(goal, lexicon=LEXICON, weights=WEIGHTS, costs=costs)[state]
        for goal, state in human
    }
    x = np.array([model[cell] for cell in human])
    y = np.array([human[cell] for cell in human])
    assert x.shape == y.shape == (12, 8)
    r = np.corrcoef(x.ravel(), y.ravel())[0, 1]
    jsd = [jensen_shannon(p.tolist(), q.tolist()) for p, q in zip(x, y, strict=True)]
    return float(r**2), float(np.sqrt(np.mean((x - y) ** 2))), float(np.mean(jsd))


def test_polite_speaker_fits_the_human_cells() -> None:
    r2, rmse, jsd = _fit(polite.COSTS)
    assert r2 == pytest.approx(0.970, abs=0.0005)
    assert rmse == pytest.approx(0.038, abs=0.0005)
    assert jsd == pytest.approx(0.021, abs=0.0005)


def test_cost_stands_outside_alpha() -> None:
    inside = {frame: polite.ALPHA * cost for frame, cost in polite.COSTS.items()}
    assert _fit(inside)[0] == pytest.approx(0.733, abs=0.001)


@pytest.mark.parametrize("goal", ["informative", "social", "both"])
def test_polite_speaker_is_a_distribution_in_every_state(goal: str) -> None:
    table = polite.speaker(goal, lexicon=LEXICON, weights=WEIGHTS)
    assert table.shape == (4, 8)
    assert table.sum(axis=1) == pytest.approx(np.ones(4))
    cells = polite.cells(goal, lexicon=LEXICON, weights=WEIGHTS)
    assert cells[0, "wasn't", "terrible"] == table[0, 4]
    assert list(cells) == [(s, *utterance) for s in range(4) for utterance in polite.UTTERANCES]


def test_unknown_goal_is_refused() -> None:
    with pytest.raises(KeyError, match="rude"):
        polite.speaker("rude", lexicon=LEXICON, weights=WEIGHTS)


def test_lexicon_with_a_missing_or_repeated_row_is_refused(tmp_path: Path) -> None:
    lines = (REFERENCE / "politeness_lexicon.csv").read_text(encoding="utf-8").splitlines()
    for bad in (lines[:-1], [*lines, lines[-1]], [*lines[:-1], lines[-2]]):
        path = tmp_path / "lexicon.csv"
        path.write_text("\n".join(bad) + "\n", encoding="utf-8")
        with pytest.raises(ValueError, match=r"lexicon\.csv: must hold each"):
            polite.read_lexicon(path)
