"""pico's simulator: its answers are those of the RSA models, in the form that prompts ask for."""

from math import factorial, prod

import pytest
from bundled_studies import STUDIES

from grace.pico import simulator
from grace.pico.paraphrases import CELLS, GOAL_LABELS
from grace.pico.trained_on import theory
from grace.studies.trials import Trial

#: Listener beliefs after each (access, observe), in %, from Goodman & Stuhlmüller's model.
RSA_ROWS = {
    (1, 1): (0, 14.4, 47.1, 38.4),
    (2, 1): (0, 31.7, 58.0, 10.3),
    (2, 2): (0, 0, 38.0, 62.0),
    (3, 1): (0, 71.2, 28.2, 0.6),
    (3, 2): (0, 0, 98.0, 2.0),
    (3, 3): (0, 0, 0, 100),
}


def study1_trial(access: int, observe: int) -> Trial:
    return STUDIES["study1"].trial(
        {
            "participant_id": "1",
            "story_shortname": "jars",
            "story_setup": "Jars leak.",
            "priorQ": "How many of the 3 jars do you think leak?",
            "speach": "Ada says so.",
            "speachQ": "How many?",
            "knowledgeQ": "Does Ada know?",
            "access": access,
            "observe": observe,
        }
    )


def study2_trial(goal: str, state: int) -> Trial:
    return STUDIES["study2"].trial(
        {
            "Participant_ID": "1",
            "Domain": "pie",
            "Precontext": "Ada baked.",
            "Scenario": "Bo ate.",
            "Utterance": "",
            "Goal": goal,
            "State": f"{state} hearts",
            "SP_Name": "Bo",
            "LS_Name": "Ada",
        }
    )


def all_answers(process: simulator.Process) -> dict[tuple[str, ...], float]:
    """Every answer of a process with its probability, by walking all its branches."""
    finished: dict[tuple[str, ...], float] = {}
    open_ends: list[tuple[tuple[str, ...], float]] = [((), 1.0)]
    while open_ends:
        said, so_far = open_ends.pop()
        part = process(said)
        if not part:
            finished[said] = so_far
        open_ends += [((*said, text), so_far * p) for text, p in part.items()]
    return finished


@pytest.mark.parametrize("cell", CELLS)
def test_bets_average_the_rsa_row(cell: tuple[int, int]) -> None:
    distributions = simulator.study1_distributions(study1_trial(*cell))
    for state in range(4):
        bet = distributions[f"state{state}"]
        assert sum(bet.values()) == pytest.approx(1)
        mean = sum(int(text.removesuffix("%")) * p for text, p in bet.items())
        assert mean == pytest.approx(RSA_ROWS[cell][state], abs=0.06)
        assert mean == pytest.approx(100 * theory("study1").listener(*cell)[state])


def test_knowledge_depends_on_access_alone() -> None:
    said_yes = {
        cell: simulator.study1_distributions(study1_trial(*cell))["knowledge"]["yes"]
        for cell in CELLS
    }
    assert said_yes == {
        (1, 1): 0.10,
        (2, 1): 0.20,
        (2, 2): 0.20,
        (3, 1): 0.95,
        (3, 2): 0.95,
        (3, 3): 0.95,
    }


@pytest.mark.parametrize("cell", CELLS)
def test_free_answers_have_the_joint_distribution_described(cell: tuple[int, int]) -> None:
    trial = study1_trial(*cell)
    answers = all_answers(simulator.study1_answer(trial))
    beliefs = theory("study1").listener(*cell)
    prior = theory("study1").prior()
    knows = simulator.knowledge(cell[0])
    marginals = [dict.fromkeys(range(0, 101, 10), 0.0) for _ in range(4)]
    for parts, probability in answers.items():
        answer = STUDIES["study1"].parse("".join(parts))
        assert answer.extraction_confidence == 1
        bets = [int(answer[f"probability_{state}"]) for state in range(4)]
        assert sum(bets) == 100
        counts = [bet // 10 for bet in bets]
        multinomial = (
            factorial(10)
            / prod(factorial(count) for count in counts)
            * prod(float(p) ** count for p, count in zip(beliefs, counts, strict=True))
        )
        expected = prior[answer["Prior_A"]] * multinomial * knows[answer["Knowledge_A"]]
        assert probability == pytest.approx(expected, rel=1e-9, abs=1e-15)
        for state, bet in enumerate(bets):
            marginals[state][bet] += probability
    assert sum(answers.values()) == pytest.approx(1)
    for state, marginal in enumerate(marginals):
        bet = simulator.bet(*cell, state)
        for percent, probability in marginal.items():
            assert probability == pytest.approx(bet.get(f"{percent}%", 0), abs=1e-12)


@pytest.mark.parametrize("goal", GOAL_LABELS)
@pytest.mark.parametrize("state", range(4))
def test_utterances_are_sentences_of_the_form_asked_for(goal: str, state: int) -> None:
    trial = study2_trial(goal, state)
    answers = all_answers(simulator.study2_answer(trial))
    assert sum(answers.values()) == pytest.approx(1)
    assert len(answers) == 8
    for (text,), probability in answers.items():
        assert STUDIES["study2"].parse(text)["response_cleaned"] == text
        assert simulator.study2_distributions(trial)["utterance"][text] == probability


def test_people_are_indirect_where_kindness_and_truth_collide() -> None:
    # Human cell of the bundled reference data: "wasn't terrible", both goals, 0 hearts, 73 of 203.
    assert simulator.utterance("both", 0)["It wasn't terrible"] == pytest.approx(73 / 203, abs=0.06)
    assert simulator.utterance("informative", 0)["It was terrible"] > 0.5


def test_probability_of_an_answer_is_the_product_of_its_parts() -> None:
    process = simulator.study1_answer(study1_trial(2, 1))
    answers = all_answers(process)
    for parts in list(answers)[::97]:
        assert simulator.probability(process, parts) == pytest.approx(answers[parts])
        assert simulator.probability(process, parts[:-1]) == 0
    assert simulator.probability(simulator.closed({"yes": 0.3, "no": 0.7}), ["maybe"]) == 0


def test_last_percentage_is_what_is_left() -> None:
    assert simulator.tenths((0.1, 0.2, 0.3, 0.4), (2, 3, 1)) == {4: 1.0}
    # Nothing but state 2 is possible after state 1 was found impossible.
    assert simulator.tenths((0.0, 0.0, 1.0, 0.0), (0, 0)) == {10: 1.0}
