"""People and models of people among the models of a run: `models: [human, rsa, pico]`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from bundled_studies import ROOT, STUDY1, STUDY2, UTTERANCES, bundled_study
from declared import DECLARED, write_study

from grace.errors import ConfigError
from grace.results.people_tables import people_tables
from grace.results.tables import analysis_ready
from grace.settings.outputs import Outputs
from grace.settings.project import Project
from grace.studies.people_models import PeopleModel, as_steps
from grace.studies.stimuli import read_trials
from grace.studies.theory import people_rows, theory_rows

REFGAME = bundled_study("refgame")
LIKE = {"variant": "seed", "experiment_seed": 1000, "replication": 0, "prompt_id": "p"}


def project(*models: str, studies: tuple[str, ...] = ("study1", "study2")) -> Project:
    values = {"models": list(models), "studies": list(studies), "limit": 12, "replications": 1}
    return Project(ROOT, values, {})


def trial_of(study, **wanted):
    return next(
        trial
        for trial in read_trials(study.stimuli_file, study)
        if all(trial.all()[name] == value for name, value in wanted.items())
    )


@pytest.mark.parametrize(("source", "rows"), [("human", people_rows), ("polite_rsa", theory_rows)])
def test_people_say_what_their_cell_says(source, rows):
    model = PeopleModel(STUDY2, source)
    trial = trial_of(STUDY2, Goal_simplified="both", State_number=0)
    found = model.distributions(trial)["utterance"]
    expected = {
        (row["frame"], row["assessment"]): row["probability"]
        for row in rows(STUDY2)
        if (row["goal"], str(row["state"])) == ("both", "0")
    }
    assert {UTTERANCES[text]: share for text, share in found.items()} == expected
    said = [model.says(trial, seed, named="human") for seed in range(400)]
    assert said[:40] == [model.says(trial, seed, named="human") for seed in range(40)]
    assert said[:40] != [model.says(trial, seed, named="other") for seed in range(40)]
    for text, (frame, word) in UTTERANCES.items():
        assert said.count(text) / 400 == pytest.approx(expected[frame, word], abs=0.08)


def test_a_belief_is_said_in_steps_whose_mean_it_is():
    trial = trial_of(STUDY1, access=3, observe=1)
    model = PeopleModel(STUDY1, "rsa")
    found = model.distributions(trial)
    means = {
        name: sum(int(option.rstrip("%")) * share for option, share in each.items())
        for name, each in found.items()
        if each is not None
    }
    belief = {
        f"state{row['state']}": 100 * row["probability"]
        for row in theory_rows(STUDY1)
        if (row["source"], row["access"], row["observe"]) == ("rsa", 3, 1)
    }
    assert means == pytest.approx(belief)
    assert found["knowledge"] is None
    assert model.says(trial, 1, named="rsa") is None
    assert as_steps(100.0, [0, 50, 100], ["a", "b", "c"]) == {"a": 0, "b": 0, "c": 1}
    assert as_steps(60.0, [0, 50, 100], ["a", "b", "c"]) == pytest.approx(
        {"a": 0, "b": 0.8, "c": 0.2}
    )


def test_a_kind_of_choice_is_shared_by_its_options():
    trial = trial_of(REFGAME, role="production")
    found = PeopleModel(REFGAME, "human").distributions(trial)
    assert list(found) == ["word"]
    shares = sorted(found["word"].values())
    assert shares == pytest.approx(sorted([25 / 604 / 2, 25 / 604 / 2, 79 / 604, 500 / 604]))


def test_they_stand_beside_language_models_and_are_asked_nothing():
    run = project("human", "pico", "exact-report", "polite_rsa")
    run.check()
    assert run.config.models == ["pico"]
    assert run.replications == [("pico", 0)]
    assert run.people_models == {
        "human": {"study2": "human"}, "exact-report": {"study1": "exact_report"},
        "polite_rsa": {"study2": "polite_rsa"},
    }  # fmt: skip
    assert run.run_config()["models"] == ["human", "pico", "exact-report", "polite_rsa"]
    assert "no language model" in run.origins["human"]
    assert Outputs(run).merge("study2").people_models["sources"] == {
        "human": "human", "polite_rsa": "polite_rsa",
    }  # fmt: skip
    assert Outputs(project("pico")).merge("study2").people_models == {}


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (("humans", "pico"), r"unknown model 'humans'.*human \(study2\), polite-rsa \(study2\)"),
        (("human",), "people and models of people alone"),
    ],
)
def test_what_no_study_has_is_refused_with_what_they_have(models, message):
    with pytest.raises(ConfigError, match=message):
        project(*models)


def test_a_source_that_answers_no_query_is_refused_when_the_run_starts(tmp_path: Path):
    declared = {
        **DECLARED,
        "people": {
            "file": "people.csv",
            "cells": ["size"],
            "outcome": {"mood": ["glad", "sad"]},
        },
    }
    folder = write_study(tmp_path / "toy", declared, people_csv="size,mood\n1,sad\n")
    run = project("human", "pico", studies=(str(folder),))
    with pytest.raises(ConfigError, match=r"what it answers in .*mood.* is no option"):
        run.check()


def test_their_tables_are_like_a_language_models():
    trials = read_trials(STUDY2.stimuli_file, STUDY2)
    rows = [
        {**trial.row(), **STUDY2.derived_columns(trial), **LIKE, "trial_index": index,
         "model_key": "pico"}
        for index, trial in enumerate(trials[:24])
    ]  # fmt: skip
    like = pd.DataFrame(rows)
    ((said, scored),) = people_tables([(like, like)], STUDY2, {"human": "human"}, trials)
    assert set(said["model_key"]) == {"human"}
    assert said["Was_Wasnt"].notna().all()
    assert said["extraction_errors"].isna().all()
    assert said["request_seed"].is_unique
    assert (scored["prob_was"] + scored["prob_wasnt"]).tolist() == pytest.approx([1] * 24)
    assert (scored["sampled_prob_was"] == scored["prob_was"]).all()
    ready = analysis_ready(STUDY2, said, scored)
    assert len(ready) == 24
    assert set(ready["exp1_status"]) == set(ready["exp2_status"]) == {"ok"}
