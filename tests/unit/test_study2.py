"""Study 2: goals and hearts, reading answers, turning distributions into columns."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from grace.distributions import entropy
from grace.studies.study2 import UTTERANCES, Study2Trial, simplify_goal
from grace.studies.study2_answers import Study2

STUDY = Study2()
TRIAL = {
    "Participant_ID": "1",
    "Domain": "cake",
    "Precontext": "Lin made a cake.",
    "Scenario": "Ivan ate it.",
    "Utterance": "It was fine",
    "Goal": "both",
    "State": "1 heart",
    "SP_Name": "Ivan",
    "LS_Name": "Lin",
}


@pytest.mark.parametrize(
    ("goal", "label"),
    [
        ("informative", "informative"),
        (" Both ", "both"),
        ("SOCIAL", "social"),
        ("If Ivan wanted to be as accurate as possible", "informative"),
        ("If Ivan wanted to make Lin feel good", "social"),
        ("If Ivan wanted to make Lin feel good, rather than be informative", "social"),
        ("If Ivan wanted to make Lin feel better and did not mind being uninformative", "social"),
        ("If Ivan wanted to be informative, rather than make Lin feel good", "informative"),
        ("If Ivan wanted to be accurate instead of kind", "informative"),
        ("If Ivan wanted BOTH to be informative AND to make Lin feel good", "both"),
        ("If Ivan wanted to be as uninformative as possible", None),
        ("If Ivan was bothered", None),
        ("Ivan wanted a kindle", None),
        ("", None),
    ],
)
def test_goals_are_told_apart(goal: str, label: str | None) -> None:
    assert simplify_goal(goal) == label


@pytest.mark.parametrize(
    ("state", "hearts"),
    [("0 hearts", 0), ("1 heart", 1), ("1 hearts", 1), (" 2 Hearts ", 2), ("3", 3)],
)
def test_hearts_are_counted(state: str, hearts: int) -> None:
    trial = Study2Trial.model_validate({**TRIAL, "State": state})
    assert STUDY.derived_columns(trial) == {"Goal_simplified": "both", "State_number": hearts}


@pytest.mark.parametrize("state", ["4 hearts", "-1", "two hearts", "1.5 hearts", "hearts", "12"])
def test_other_hearts_are_refused(state: str) -> None:
    with pytest.raises(ValidationError, match="must be one of '0 hearts', '1 heart'"):
        Study2Trial.model_validate({**TRIAL, "State": state})


@pytest.mark.parametrize(("text", "utterance"), UTTERANCES.items())
def test_an_answer_in_the_form_asked_for(text: str, utterance: tuple[str, str]) -> None:
    for response in (text, f" {text}.\n"):
        answer = STUDY.parse(response)
        assert (answer.Was_Wasnt, answer.Assessment) == utterance
        assert answer.response_cleaned == text
        assert answer.extraction_confidence == 1
        assert answer.extraction_errors is None


@pytest.mark.parametrize(
    "response",
    [
        "it was not bad",
        "It wasn’t bad.",
        "It wasn‘t bad",
        "It wasnʼt bad",
        "It wasn`t bad",
        "It wasnt bad",
        "**It wasn't bad**",
        '"It wasn\'t bad."',
        "It [wasn't] [bad]",
        "It WASN'T\nBAD!",
        "Ivan would say: It wasn't bad, because Lin is a friend.",
        "It wasn't bad. It wasn't bad.",
        "It [was/wasn't] [terrible/bad/good/amazing]\nIt wasn't bad",
    ],
)
def test_the_same_answer_in_other_text(response: str) -> None:
    answer = STUDY.parse(response)
    assert answer.response_cleaned == "It wasn't bad"
    assert (answer.Was_Wasnt, answer.Assessment) == ("wasn't", "bad")
    assert answer.extraction_confidence == 0.8


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (None, "no utterance"),
        ("", "no utterance"),
        ("It was okay", "no utterance"),
        ("It was very good", "no utterance"),
        ("It was badly made", "no utterance"),
        ("It isn't bad", "no utterance"),
        ("Quit was bad", "no utterance"),
        ("It was bad or good", "no utterance"),
        ("It was [terrible/bad/good/amazing]", "no utterance"),
        ("It [was/wasn't] [terrible/bad/good/amazing]", "no utterance"),
        ("It wasn't good. It was terrible.", "several utterances"),
        ("It was good. It wasn't good.", "several utterances"),
    ],
)
def test_no_single_answer(response: str | None, error: str) -> None:
    answer = STUDY.parse(response)
    assert (answer.Was_Wasnt, answer.Assessment, answer.response_cleaned) == (None, None, None)
    assert answer.extraction_confidence == 0
    assert answer.extraction_errors is not None
    assert answer.extraction_errors.startswith(error)


def test_columns_are_the_fixed_ones() -> None:
    assert STUDY.raw_input_columns == (
        *("Participant_ID", "Domain", "Precontext", "Scenario", "Goal", "State"),
        *("SP_Name", "LS_Name", "Goal_simplified", "State_number"),
    )
    assert STUDY.answer_columns() == (
        *("Was_Wasnt", "Assessment", "response_cleaned"),
        *("extraction_confidence", "extraction_errors"),
    )
    assert (*STUDY.probability_input_columns, *STUDY.probability_columns()) == (
        *("Participant_ID", "Domain", "Goal_simplified", "State_number"),
        *("prob_was", "prob_wasnt"),
        *("prob_terrible", "prob_bad", "prob_good", "prob_amazing"),
        *("prob_was_terrible", "prob_was_bad", "prob_was_good", "prob_was_amazing"),
        *("prob_wasnt_terrible", "prob_wasnt_bad", "prob_wasnt_good", "prob_wasnt_amazing"),
        *("entropy_frame", "entropy_assessment", "entropy_joint"),
    )


def test_marginals_are_sums_of_the_joint() -> None:
    joint = dict(zip(UTTERANCES, (0.01, 0.02, 0.05, 0.12, 0.30, 0.25, 0.20, 0.05), strict=True))
    values = STUDY.probabilities({"utterance": joint})
    assert tuple(values) == STUDY.probability_columns()
    assert values["prob_was_amazing"] == 0.12
    assert values["prob_wasnt_terrible"] == 0.30
    assert values["prob_was"] == pytest.approx(0.20)
    assert values["prob_wasnt"] == pytest.approx(0.80)
    words = {"terrible": 0.31, "bad": 0.27, "good": 0.25, "amazing": 0.17}
    assert {word: values[f"prob_{word}"] for word in words} == pytest.approx(words)
    assert values["entropy_frame"] == pytest.approx(entropy([0.2, 0.8]))
    assert values["entropy_assessment"] == pytest.approx(entropy(words.values()))
    assert values["entropy_joint"] == pytest.approx(entropy(joint.values()))


def test_a_failed_measurement_is_null() -> None:
    assert set(STUDY.probabilities({"utterance": None}).values()) == {None}
