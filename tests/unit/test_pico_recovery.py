"""The recovery check: it accepts the simulator's own answers and nothing else."""

import math
import random
from typing import Any

import numpy as np
import pytest
from bundled_studies import STUDIES

from grace.pico import paraphrases, recovery, simulator, training
from grace.pico.recovery import answered, g_statistic, scored

Record = dict[str, Any]


def trials(study: str, count: int, seed: int = 0) -> list[Any]:
    rng = random.Random(seed)
    draw = paraphrases.study1_trial if study == "study1" else paraphrases.study2_trial
    return [draw(rng) for _ in range(count)]


def process(study: str, trial: Any) -> simulator.Process:
    if study == "study1":
        return simulator.study1_answer(trial)
    return simulator.study2_answer(trial)


def row(study: str, trial: Any) -> dict[str, Any]:
    """As in a record; a paraphrased goal by its label, since users' goals have other forms."""
    return trial.row() | ({"Goal": trial["Goal_simplified"]} if study == "study2" else {})


def answers(study: str, count: int) -> list[Record]:
    """Experiment 1 records of a perfect pico."""
    rng = random.Random(1)
    return [
        {
            "trial": row(study, trial),
            "response": "".join(training.sample(process(study, trial), rng)),
        }
        for trial in trials(study, count)
    ]


def measured(study: str, count: int, shift: float = 0.0) -> list[Record]:
    """Experiment 2 records; `shift` of each distribution goes to its first option."""
    records = []
    for trial in trials(study, count):
        queries = []
        for name, distribution in recovery.expected(study, trial).items():
            probabilities = {text: p * (1 - shift) for text, p in distribution.items()}
            probabilities[next(iter(probabilities))] += shift
            options = [
                {"text": text, "logprob": math.log(0.99 * p)} for text, p in probabilities.items()
            ]
            queries.append({"name": name, "options": options, "option_mass": 0.99, "status": "ok"})
        records.append({"trial": row(study, trial), "queries": queries})
    return records


@pytest.mark.parametrize("study", ["study1", "study2"])
def test_perfect_measurements_have_no_divergence(study: str) -> None:
    result = scored(study, measured(study, 20))
    assert result.max_divergence < 1e-9
    assert result.mean_option_mass == pytest.approx(0.99)
    assert result.min_option_mass == pytest.approx(0.99)
    assert result.failed == 0


@pytest.mark.parametrize("study", ["study1", "study2"])
def test_shifted_measurements_diverge(study: str) -> None:
    assert scored(study, measured(study, 20, shift=0.2)).mean_divergence > 0.01


def test_failed_queries_are_counted_not_measured() -> None:
    records = measured("study2", 3)
    records[0]["queries"][0] = {"name": "utterance", "status": "error: server gone"}
    result = scored("study2", records)
    assert result.failed == 1
    assert len(result.all_divergences) == 2
    with pytest.raises(ValueError, match="no measured query"):
        scored("study2", records[:1])


def test_perfect_answers_pass_every_test() -> None:
    first = answered("study1", answers("study1", 300), simulations=200)
    assert first.parse_rate == 1
    assert first.summing_to_100 == 1
    assert set(first.p_values) == {"initial", "bets", "bet_means", "knowledge"}
    second = answered("study2", answers("study2", 600), simulations=200)
    assert second.summing_to_100 is None
    assert set(second.p_values) == {"utterances"}
    assert min([*first.p_values.values(), *second.p_values.values()]) > 0.01


@pytest.mark.parametrize(
    ("said", "instead", "test"),
    [
        ("Initial Answer: 2", "Initial Answer: 0", "initial"),
        ("Knowledge: yes", "Knowledge: no", "knowledge"),
    ],
)
def test_wrong_frequencies_are_found(said: str, instead: str, test: str) -> None:
    records = answers("study1", 300)
    for record in records:
        record["response"] = record["response"].replace(said, instead)
    p_values = answered("study1", records, simulations=200).p_values
    assert p_values.pop(test) < 0.01
    assert min(p_values.values()) > 0.01


def test_bets_of_another_cell_are_found() -> None:
    records = answers("study1", 300)
    for record in records:
        if (record["trial"]["access"], record["trial"]["observe"]) == (2, 1):
            record["trial"] |= {"access": 3, "observe": 2, "speach": "Ann says so."}
    p_values = answered("study1", records, simulations=200).p_values
    assert p_values["bets"] < 0.01
    assert p_values["bet_means"] < 0.01


def test_utterances_of_another_goal_are_found() -> None:
    records = answers("study2", 600)
    for record in records:
        record["trial"]["Goal"] = "social"
    assert answered("study2", records, simulations=200).p_values["utterances"] < 0.01


def test_unreadable_answers_lower_the_parse_rate() -> None:
    records = answers("study1", 10)
    records[0]["response"] = "I cannot say."
    records[1]["response"] = None
    assert answered("study1", records, simulations=10).parse_rate == 0.8
    with pytest.raises(ValueError, match="none of 2"):
        answered("study1", records[:2])


def test_percentages_that_do_not_sum_are_counted() -> None:
    records = answers("study1", 10)
    records[0]["response"] = (
        "Initial Answer: 2\nProbabilities: 0: 10%, 1: 10%, 2: 10%, 3: 10%\nKnowledge: no"
    )
    result = answered("study1", records, simulations=10)
    assert result.parse_rate == 1
    assert result.summing_to_100 == 0.9


def test_g_is_zero_at_the_expected_counts_and_infinite_at_the_impossible() -> None:
    probabilities = [np.array([0.5, 0.5, 0.0])]
    assert g_statistic([np.array([5.0, 5.0, 0.0])], probabilities) == 0
    assert g_statistic([np.array([5.0, 4.0, 1.0])], probabilities) == math.inf
    # 2 (8 ln(8/5) + 2 ln(2/5))
    assert g_statistic([np.array([8.0, 2.0, 0.0])], probabilities) == pytest.approx(
        3.8549, abs=1e-3
    )


def test_every_study_can_be_checked() -> None:
    for name in STUDIES:
        assert recovery.expected(name, trials(name, 1)[0])
