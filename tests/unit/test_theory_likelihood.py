"""Cognitive models fitted to each model: known parameters come back, with intervals that hold
them; what cannot be fitted is empty and says why."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bundled_studies import bundled_study

from grace.studies.analysis_parts import Fit, Theory
from grace.studies.fit_findings import fit_findings
from grace.studies.fitted_theory import FittedTheory
from grace.studies.theory_checks import goodness
from grace.studies.theory_fit import Range
from grace.studies.theory_likelihood import Space, most_likely, search, student
from grace.studies.theory_of_models import COLUMNS, people_answers, write_fits

ROOT = Path(__file__).parents[2]
STUDIES = {name: bundled_study(name) for name in ("study1", "study2")}
#: Yoon et al. (2020), by goal: informational, social, presentational, phi.
PUBLISHED = {
    "both": (0.357745, 0.106110, 0.536146, 0.356035),
    "informative": (0.359210, 0.019147, 0.621643, 0.489543),
    "social": (0.246148, 0.312511, 0.441341, 0.366845),
}
WEIGHTS = ("w_informational", "w_social", "w_presentational", "phi")
TRUTH = {
    **{
        f"{name} {goal}": value
        for goal, values in PUBLISHED.items()
        for name, value in zip(WEIGHTS, values, strict=True)
    },
    "alpha ": 4.470302,
    "negation_cost ": 2.640959,
}


@cache
def polite() -> FittedTheory:
    return FittedTheory(STUDIES["study2"], STUDIES["study2"].declaration.theory[0], "theory.0")


@cache
def listener() -> FittedTheory:
    return FittedTheory(STUDIES["study1"], STUDIES["study1"].declaration.theory[0], "theory.0")


def coins(values):
    """Two cells with a bias each that share a part."""
    return np.array(
        [[values["a"], 1 - values["a"]], [values["a"] * values["b"], 1 - values["a"] * values["b"]]]
    )


COINS = Space({"a": Range(0, 1), "b": Range(0, 1)}, [], {})


def test_the_published_speaker_is_the_reference_and_the_fitted_one_is_closer_to_people():
    """Science: r² .970 with the published parameters, about .977 where they are fitted freely."""
    (people,) = people_answers(polite())
    fitted = most_likely(polite().predict, people.weights, polite().space())
    assert goodness(fitted, people.weights, drawn=True)["r2"] == pytest.approx(0.9773, abs=2e-4)
    assert fitted.predicted is not None
    published = replace(fitted, predicted=polite().predict(TRUTH))
    found = goodness(published, people.weights, drawn=True)
    assert found["r2"] == pytest.approx(0.970, abs=1e-3)
    assert found["rmse"] == pytest.approx(0.038, abs=1e-3)
    by_name = {one.name: one for one in fitted.parameters}
    assert by_name["w_social informative"].note.endswith("at its bound, 0")
    assert "independent" in by_name["alpha "].note


def test_the_reference_game_gives_what_is_published_of_its_people_by_likelihood_too():
    """Franke, Tsvilodub & Carcassi (2024): alpha 3.14 [2.62, 3.70] and .678 [.268, 1.13]."""
    study = bundled_study("refgame")
    game = FittedTheory(study, study.declaration.theory[0], "theory.0")
    (people,) = people_answers(game)
    fitted = most_likely(game.predict, people.weights, game.space())
    found = {one.name: one for one in fitted.parameters}
    produced, heard = found["alpha production"], found["alpha interpretation"]
    assert (produced.estimate, produced.low, produced.high) == pytest.approx(
        (3.14, 2.62, 3.70), abs=0.02
    )
    assert heard.estimate == pytest.approx(0.678, abs=0.01)
    assert found["error production"].estimate == pytest.approx(0.121, abs=0.005)


def recovered(space: Space, runs: int) -> np.ndarray:
    """Estimates minus truth of simulated answers, 404 a cell: runs by parameters."""
    rng = np.random.default_rng(3)
    chances = polite().predict(TRUTH)
    gaps = []
    for _ in range(runs):
        answers = rng.multinomial(404, chances).astype(float)
        at, ended = search(polite().predict, answers, space)
        assert ended
        gaps.append(space.values(at) - np.array([TRUTH[name] for name in space.names]))
    return np.array(gaps)


def test_known_weights_and_phi_come_back_from_404_answers_a_cell():
    space = polite().space()
    gaps = recovered(space, 8)[:, : 3 * len(WEIGHTS)]
    # Standard deviations of .005 to .016 with alpha and cost known, .01 to .025 without.
    assert np.median(gaps.std(axis=0)) < 0.02
    assert gaps.std(axis=0).max() < 0.035
    assert np.abs(gaps.mean(axis=0)).max() < 0.02
    shared = {"alpha ": TRUTH["alpha "], "negation_cost ": TRUTH["negation_cost "]}
    known = {name: Range(value - 1e-6, value + 1e-6) for name, value in shared.items()}
    gaps = recovered(replace(space, ranges={**space.ranges, **known}), 8)[:, : 3 * len(WEIGHTS)]
    assert np.median(gaps.std(axis=0)) < 0.012
    assert gaps.std(axis=0).max() < 0.02


def test_known_parameters_of_the_listener_come_back_from_its_beliefs():
    truth = {"alpha ": 3.4, "base_rate ": 0.62, "error ": 0.05}
    rng = np.random.default_rng(4)
    stories = []
    for _ in range(6):
        own = {**truth, "base_rate ": float(np.clip(0.62 + rng.normal() * 0.03, 0.1, 0.9))}
        stories.append(20 * listener().predict(own))
    fitted = most_likely(listener().predict, np.array(stories), listener().space(), drawn=False)
    for one in fitted.parameters:
        assert one.low is not None
        assert one.high is not None
        assert one.low <= truth[one.name] <= one.high
    assert fitted.values == pytest.approx(list(truth.values()), rel=0.1)


def test_intervals_by_item_hold_the_truth_as_often_as_they_say():
    """Items that differ: an interval of draws as if independent would hold it in half of them."""
    rng, spread = np.random.default_rng(5), 0.7
    logits = np.log(0.7 / 0.3) + spread * np.random.default_rng(6).normal(size=20000)
    truth = float((1 / (1 + np.exp(-logits))).mean())
    held = 0
    for _ in range(150):
        chance = 1 / (1 + np.exp(-(np.log(0.7 / 0.3) + spread * rng.normal(size=12))))
        heads = rng.binomial(30, chance)
        answers = np.array([[[h, 30 - h]] for h in heads], dtype=float)
        (one,) = most_likely(
            lambda values: np.array([[values["a"], 1 - values["a"]]]),
            answers,
            Space({"a": Range(0, 1)}, [], {}),
        ).parameters
        held += one.low <= truth <= one.high
    assert 0.91 <= held / 150 <= 0.99


def test_a_model_that_is_only_about_right_gives_its_parameters_back_by_condition():
    """Errors that all items share, as a trained network has them, are in no spread of items."""
    rng = np.random.default_rng(8)
    chances = polite().predict(TRUTH) * np.exp(0.1 * rng.normal(size=(12, 8)))
    items = chances * np.exp(0.001 * rng.normal(size=(12, 1, 8)))
    answers = items / items.sum(axis=2, keepdims=True)
    fitted = most_likely(polite().predict, answers, polite().space(), drawn=False)
    both = [one.by_condition for one in fitted.parameters]
    names = [one.name for one in fitted.parameters]
    held = [pair[0] <= TRUTH[name] <= pair[1] for pair, name in zip(both, names, strict=True)]
    assert sum(held) >= 13
    assert sum(one.low <= TRUTH[one.name] <= one.high for one in fitted.parameters) < 7


def test_students_t_is_that_of_tables():
    assert [student(df) for df in (1, 5, 11, 100)] == pytest.approx(
        [12.7062, 2.5706, 2.2010, 1.9840], rel=1e-3
    )


def test_what_answers_do_not_determine_is_empty_and_says_so():
    nothing = most_likely(coins, np.zeros((3, 2, 2)), COINS)
    assert [(one.estimate, one.note) for one in nothing.parameters] == [(None, "no answers")] * 2
    # The second cell, which alone depends on b, was never asked.
    half = np.array([[[7.0, 3.0], [0, 0]], [[6.0, 4.0], [0, 0]]])
    short = most_likely(coins, half, COINS)
    assert short.parameters[0].note == "fewer cells with answers than parameters"
    # b is asked only where a is 0: nothing can be known of it.
    flat = np.array([[[0.0, 9.0], [0.0, 9.0]]] * 3)
    a, b = most_likely(coins, flat, COINS).parameters
    assert a.estimate == pytest.approx(0, abs=1e-3)
    assert "at its bound, 0" in a.note
    assert (b.estimate, b.low, b.note) == (None, None, "not identified by these answers")


def test_one_item_has_no_interval_by_item():
    answers = np.array([[[70.0, 30.0], [40.0, 60.0]]])
    assert [
        (one.low, one.note) for one in most_likely(coins, answers, COINS, drawn=False).parameters
    ] == [(None, "one item: no interval")] * 2


def test_always_the_same_answer_is_no_crash():
    answers = np.zeros((12, 12, 8))
    answers[:, :, 2] = 34
    fitted = most_likely(polite().predict, answers, polite().space())
    assert all(one.note for one in fitted.parameters if one.low is None)
    assert any("at its bound" in one.note for one in fitted.parameters)


def ready(folder: Path, changes=({},)) -> Path:
    """A table of study 2, a model for each of the changes: each prompt asked twice, alike."""
    chances = polite().predict(TRUTH)
    columns = [
        f"prob_{one['frame']}_{one['assessment']}".replace("'", "") for one in polite().outcomes
    ]
    rows = []
    for cell, row in zip(polite().cells, chances, strict=True):
        for item in range(3):
            best = polite().outcomes[int(row.argmax())]
            rows += [
                {
                    "model_key": "m", "model_name": "M", "variant": "seed", "quality_flags": None,
                    "prompt_id": f"{cell['goal']}{cell['state']}{item}", "Domain": f"d{item}",
                    "exp1_status": "ok", "exp2_status": "ok", "Goal_simplified": cell["goal"],
                    "State_number": float(cell["state"]), "Was_Wasnt": best["frame"],
                    "Assessment": best["assessment"], **dict(zip(columns, row, strict=True)),
                }
            ] * 2  # fmt: skip
    path = folder / "study2.parquet"
    tables = [
        pd.DataFrame(rows).assign(**{"model_key": f"m{place}", **change})
        for place, change in enumerate(changes)
    ]
    pd.concat(tables).to_parquet(path)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_long_and_counts_copies_once(tmp_path):
    out = tmp_path / "study2_fits.csv"
    write_fits(STUDIES["study2"], ready(tmp_path), out, temperature=0)
    rows = rows_of(out)
    assert tuple(rows[0]) == COLUMNS
    assert {row["label"] for row in rows} == {"human", "m0"}
    scored = [row for row in rows if row["experiment"] == "exp2" and row["kind"] == "parameter"]
    found = {f"{row['parameter']} {row['condition']}": float(row["estimate"]) for row in scored}
    assert found == pytest.approx(TRUTH, abs=1e-3)
    assert {row["n"] for row in scored} == {"36"}  # distinct prompts, of 72 rows
    fit = {
        row["parameter"]: row
        for row in rows
        if row["experiment"] == "exp2" and row["kind"] == "fit"
    }
    generated = [row for row in rows if row["experiment"] == "exp1" and row["kind"] == "parameter"]
    assert {row["n"] for row in generated} == {"36"}
    assert float(fit["r2"]["estimate"]) == pytest.approx(1)
    assert fit["aic"]["estimate"] == ""
    assert "no likelihood" in fit["aic"]["note"]
    assert {row["parameter"] for row in rows if row["kind"] == "check"} == {
        "by condition", "by item"
    }  # fmt: skip


def test_bad_answers_give_rows_without_numbers_and_with_notes(tmp_path):
    out = tmp_path / "study2_fits.csv"
    bad = [
        {"exp1_status": None, "exp2_status": "error"},
        {"Was_Wasnt": None, "prob_was_good": None},
        {"Domain": "d0"},
        {"Goal_simplified": "both"},
        {"quality_flags": "exp1_out_of_range;exp2_out_of_range"},
    ]
    write_fits(STUDIES["study2"], ready(tmp_path, bad), out, temperature=0.7)
    rows = [row for row in rows_of(out) if row["label"] != "human" and row["kind"] == "parameter"]
    assert len(rows) == 14 * (1 + 4 * 2)
    assert all(row["note"] for row in rows if row["low"] == "")
    first = [row for row in rows if row["label"] in {"m0", "m1", "m4"}]
    assert {(row["estimate"], row["note"]) for row in first} == {
        ("", "12 of 12 cells have no usable answer; no answers")
    }
    assert any("one item: no interval" in row["note"] for row in rows if row["label"] == "m2")
    other_goals = [row for row in rows if row["label"] == "m3" and row["condition"] == "social"]
    assert other_goals
    assert {row["estimate"] for row in other_goals} == {""}


def test_a_study_without_fits_has_a_table_without_rows(tmp_path):
    study = bundled_study("minimal_pairs")
    out = tmp_path / "fits.csv"
    write_fits(study, tmp_path / "is not read", out, temperature=None)
    assert out.read_text(encoding="utf-8") == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"by": ["gaol"]}, ".by", "there is no column 'gaol'. Did you mean 'goal'?"),
        ({"simplex": [["w_social", "pih"]]}, ".simplex.0", "there is no parameter 'pih'"),
        ({"simplex": [["w_social", "alpha"]]}, ".simplex.0", "all from 0 to 1"),
        ({"answers": None}, ".answers", "must be given if `to` has models"),
        ({"to": ["people"]}, ".parameters", "at most 3 parameters"),
    ],
)
def test_what_is_wrong_in_a_fit_is_said_with_its_place(changes, place, message):
    theory: Theory = STUDIES["study2"].declaration.theory[0]
    assert theory.fit is not None
    fit = Fit.model_validate({**theory.fit.model_dump(), **changes})
    assert list(fit_findings(theory, theory.fit, people=True)) == []
    assert any(
        where == place and message in text for where, text in fit_findings(theory, fit, people=True)
    )
