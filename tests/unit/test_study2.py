"""Study 2: goals and hearts, reading answers, turning distributions into columns."""

from __future__ import annotations

import re

import pytest
from bundled_studies import STUDY2, UTTERANCES

from grace.scoring.distributions import entropy
from grace.studies.trials import TrialError

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
        # The forms of the bundled trials and of the original ones.
        ("If Ivan wanted to help Lin feel good, and being informative did not matter", "social"),
        ("If Ivan wanted BOTH to be informative and accurate AND to help Lin feel good", "both"),
        (
            "If Ivan wanted to be as informative and accurate as possible, whether or not that"
            " pleased Lin",
            "informative",
        ),
        (
            "If Ivan wanted to BOTH make Lin feel good AND give accurate and informative feedback",
            "both",
        ),
        ("If Ivan wanted to make Lin feel good, rather than give informative feedback", "social"),
        ("If Ivan wanted to give as accurate and informative feedback as possible,", "informative"),
        (
            "If Ivan wanted to make Lin feel good, but not necessarily give informative feedback",
            "social",
        ),
        ("if he wanted to be kind to her", "social"),
        # What single words would get wrong.
        ("If Ivan wanted to be informative, not kind", None),
        ("If Ivan wanted to be kind, not informative", None),
        ("not social", None),
        ("honest and kind", None),
        ("If Ivan wanted to be honest and kind", None),
        ("If Ivan wanted to be informative and kind", None),
        ("If Ivan did not want to make Lin feel good", None),
        ("If Ivan wanted not to be informative", None),
        ("If Ivan wanted to be neither kind nor informative", None),
        ("If Ivan wanted to make Lin feel bad", None),
        ("If Ivan wanted to be anything but kind", None),
        ("If Ivan wanted both", None),
        ("If Ivan wanted both to be kind and to make Lin feel good", None),
        ("If Ivan wanted to be informative rather than both", None),
        ("If Ivan wanted to be informative or to make Lin feel good", None),
        ("If Ivan wanted to be less informative", None),
        ("If Ivan wanted to be informative? Or kind", None),
        ("informative social", None),
        ("informative, social", None),
        # Somebody else's goal.
        ("If Oleg wanted to make Lin feel good", None),
        ("If Ivan wanted to make Olga feel good", None),
        ("If Lin wanted to make Ivan feel good", None),
        ("If <s> wanted to make <l> feel good", None),
        ("Ivan wanted a kindle", None),
        ("", None),
    ],
)
def test_goals_are_told_apart(goal: str, label: str | None) -> None:
    row = {**TRIAL, "Goal": goal}
    if label is None:
        with pytest.raises(TrialError, match=r"^Goal is "):
            STUDY2.trial(row)
    else:
        assert STUDY2.trial(row)["Goal_simplified"] == label


@pytest.mark.parametrize(
    ("state", "hearts"),
    [("0 hearts", 0), ("1 heart", 1), ("1 hearts", 1), (" 2 Hearts ", 2), ("3", 3)],
)
def test_hearts_are_counted(state: str, hearts: int) -> None:
    trial = STUDY2.trial({**TRIAL, "State": state})
    assert STUDY2.derived_columns(trial) == {"Goal_simplified": "both", "State_number": hearts}


def test_a_goal_that_is_not_understood_is_refused_with_the_forms_allowed() -> None:
    with pytest.raises(TrialError) as caught:
        STUDY2.trial({**TRIAL, "Goal": "If Ivan wanted to be kind, not informative"})
    (finding,) = caught.value.findings
    assert re.search(
        r"Goal is 'If Ivan .* not informative': must be one of informative, social, both, or a"
        r" clause of the form 'If <speaker> .*Here <speaker> is 'Ivan' and <listener> 'Lin'",
        finding,
    )


@pytest.mark.parametrize(
    "state",
    [
        *("4 hearts", "-1", "two hearts", "1.5 hearts", "hearts", "12", "10 hearts", "-1 heart"),
        *(
            "3 hearts!",
            "3 hearts or 2",
            "0-3 hearts",
            "\u0663 hearts",
            "\uff13",
            "1e0",
            "3.0",
            "+3",
        ),
        *("2 heart\u017f", "9" * 5000, "true", "2 of 3 hearts"),
    ],
)
def test_other_hearts_are_refused(state: str) -> None:
    with pytest.raises(TrialError, match="must be one of '0 hearts', '1 heart'"):
        STUDY2.trial({**TRIAL, "State": state})


@pytest.mark.parametrize(("text", "utterance"), UTTERANCES.items())
def test_an_answer_in_the_form_asked_for(text: str, utterance: tuple[str, str]) -> None:
    for response in (text, f" {text}.\n"):
        answer = STUDY2.parse(response)
        assert (answer["Was_Wasnt"], answer["Assessment"]) == utterance
        assert answer["response_cleaned"] == text
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
        # The goals' own "not" takes nothing back, nor does a reason that names another word.
        "Whether or not that pleased Lin, Ivan would say: It wasn't bad",
        "As being informative did not matter, Ivan would say it wasn't bad.",
        "It wasn't bad, because Ivan wants Lin to feel good.",
    ],
)
def test_the_same_answer_in_other_text(response: str) -> None:
    answer = STUDY2.parse(response)
    assert answer["response_cleaned"] == "It wasn't bad"
    assert (answer["Was_Wasnt"], answer["Assessment"]) == ("wasn't", "bad")
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
        ("Ivan would not say it was terrible", "an utterance that is taken back"),
        ("He would never say: It was bad", "an utterance that is taken back"),
        ("Ivan wouldn't want to say it was bad.", "an utterance that is taken back"),
        ("Something nice instead of saying it was bad", "an utterance that is taken back"),
        ("It was good and bad", "several words in one utterance"),
        ("It was bad, good, amazing", "several words in one utterance"),
        ("It was terrible | bad", "several words in one utterance"),
        ("It wasn't terrible but good", "several words in one utterance"),
        ("It was/wasn't good", "no utterance"),
        ("It was wasn't good", "no utterance"),
    ],
)
def test_no_single_answer(response: str | None, error: str) -> None:
    answer = STUDY2.parse(response)
    assert (answer["Was_Wasnt"], answer["Assessment"], answer["response_cleaned"]) == (
        None,
        None,
        None,
    )
    assert answer.extraction_confidence == 0
    assert answer.extraction_errors is not None
    assert answer.extraction_errors.startswith(error)


def test_a_long_answer_of_one_sentence_is_read_quickly() -> None:
    answer = STUDY2.parse("I would not say no more than that it was good and so on " * 20_000)
    assert answer.extraction_errors == "an utterance that is taken back"


def test_columns_are_the_fixed_ones() -> None:
    assert STUDY2.raw_input_columns == (
        *("Participant_ID", "Domain", "Precontext", "Scenario", "Goal", "State"),
        *("SP_Name", "LS_Name", "Goal_simplified", "State_number"),
    )
    assert STUDY2.answer_columns() == (
        *("Was_Wasnt", "Assessment", "response_cleaned"),
        *("extraction_confidence", "extraction_errors"),
    )
    assert (*STUDY2.probability_input_columns, *STUDY2.probability_columns()) == (
        *("Participant_ID", "Domain", "Goal_simplified", "State_number"),
        *("prob_was", "prob_wasnt"),
        *("prob_terrible", "prob_bad", "prob_good", "prob_amazing"),
        *("prob_was_terrible", "prob_was_bad", "prob_was_good", "prob_was_amazing"),
        *("prob_wasnt_terrible", "prob_wasnt_bad", "prob_wasnt_good", "prob_wasnt_amazing"),
        *("entropy_frame", "entropy_assessment", "entropy_joint"),
    )


def test_marginals_are_sums_of_the_joint() -> None:
    joint = dict(zip(UTTERANCES, (0.01, 0.02, 0.05, 0.12, 0.30, 0.25, 0.20, 0.05), strict=True))
    values = STUDY2.probabilities({"utterance": joint})
    assert tuple(values) == STUDY2.probability_columns()
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
    assert set(STUDY2.probabilities({"utterance": None}).values()) == {None}
