"""Every column of the tables is described, from the study's declaration."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from bundled_studies import STUDIES, bundled_study
from declared import DECLARED, study_of

from grace.results import reasoning
from grace.results.codebook import BITS, NOT_DESCRIBED, PROBABILITY, codebook
from grace.results.extracted import EXTRACTION_COLUMNS
from grace.results.tables import (
    WORDING,
    analysis_ready,
    probability_columns,
    structured_columns,
)
from grace.studies.study import Study

ROOT = Path(__file__).parents[2]


def described(study: Study, *more: str):
    """Entries by column, of a table of both experiments and of these columns."""
    exp1 = pd.DataFrame(columns=structured_columns(study)) if study.answers else None
    table = analysis_ready(study, exp1, pd.DataFrame(columns=probability_columns(study)))
    found = codebook(study, [*table.columns, *more])
    assert [entry.column for entry in found] == [*table.columns, *more]
    return {entry.column: entry for entry in found}


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_column_of_a_bundled_study_has_a_meaning_of_its_own(name):
    found = described(STUDIES[name])
    assert NOT_DESCRIBED not in {entry.meaning for entry in found.values()}
    stimuli = STUDIES[name].declaration.stimuli.columns
    assert all(found[column].meaning == stimuli[column].about for column in stimuli.keys() & found)


def test_what_is_said_of_measurements():
    found = described(STUDIES["study2"])
    joint, frame = found["prob_wasnt_bad"], found["prob_wasnt"]
    assert "'It wasn't bad'" in joint.meaning
    assert joint.unit == frame.unit == PROBABILITY
    assert "frame 'wasn't'" in frame.meaning
    assert found["entropy_joint"].unit == BITS
    assert found["sampled_prob_wasnt_bad"].meaning.endswith(joint.meaning)
    bets = described(STUDIES["study1"])
    assert "'30%'" in bets["state2_prob_30"].meaning
    assert "'state2'" in bets["state2_prob_30"].meaning
    assert "asked for a theory" in bets["prior2_prob_30"].meaning
    assert (bets["Prior_A"].values, bets["probability_3"].values) == ("0; 1; 2; 3", "0 to 100")
    assert bets["access"].values == "1; 2; 3"


def test_columns_that_only_some_runs_have():
    more = (*WORDING, *sorted(reasoning.COLUMNS), *EXTRACTION_COLUMNS, "turn_prior")
    found = described(STUDIES["study1"], *more, "of nobody")
    assert found.pop("of nobody").meaning == NOT_DESCRIBED
    assert NOT_DESCRIBED not in {entry.meaning for entry in found.values()}
    assert "'prior'" in found["turn_prior"].meaning


@pytest.mark.parametrize("name", ["minimal_pairs", "refgame"])
def test_studies_of_other_kinds_are_described(name):
    found = described(bundled_study(name))
    assert NOT_DESCRIBED not in {entry.meaning for entry in found.values()}
    assert ("nats" in {entry.unit for entry in found.values()}) == (name == "minimal_pairs")


def test_responses_and_options_of_a_trial_are_described(tmp_path):
    declared = DECLARED | {
        "stimuli": {"key": ["item"], "columns": {"item": "text", "one": "text", "two": "text"}},
        "variables": {"item": "item", "size": "one"},
        "score": [
            {
                "name": "answer", "template": "exp2.j2", "options": {"columns": ["one", "two"]},
                "columns": "prob_{position}",
            }
        ],
        "responses": [
            {
                "name": "big", "unit": "share", "range": [0, 1], "exp1": "answer == 'big'",
                "exp2": "prob_1",
            }
        ],
        "factors": ["one"],
    }  # fmt: skip
    study = study_of(tmp_path / "toy", declared, stimuli_csv="item,one,two\nmouse,big,small\n")
    found = described(study)
    assert NOT_DESCRIBED not in {entry.meaning for entry in found.values()}
    assert "what the trial has in two" in found["prob_2"].meaning
    assert "prob_1" in found["response_1_exp2"].meaning
    assert found["response_1_exp1"][2:] == ("share", "0 to 1", "experiment 1")
    assert found["response_1_sampled"].meaning.startswith("As experiment 1 samples")
