"""pico-base: tasks and answers, documents, the arithmetic of trainer and gate."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from grace.digests import file_digest
from grace.pico_base import gate, training
from grace.pico_base.documents import (
    ANSWER,
    BANK,
    CONSTITUTION,
    HELD_OUT_TYPES,
    PLAIN,
    STUDY,
    Documents,
    text_of,
)
from grace.pico_base.settings import BasePhase, BaseSettings, BaseStage
from grace.pico_base.study_answers import StudyAnswers
from grace.pico_base.tasks import WordTask, task_of
from grace.posttraining.instruction_bank import normalised
from grace.posttraining.instructions import of_evaluation
from grace.settings.training_configs import InstructionsStep

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def documents() -> Documents:
    return Documents(ROOT)


@pytest.fixture(scope="module")
def tokeniser(documents):
    return training.new_tokeniser(documents, replace(BaseSettings(), vocabulary=900), 100)


#: By hand: a training and an evaluation wording of each type, and its right answer.
BY_HAND = {
    "first": ("Which comes first: lamp, stone and bread", "lamp"),
    "middle": ("What is between the others: lamp, stone and bread", "stone"),
    "last": ("Give the last word: lamp, stone and bread", "bread"),
    "after": ("Which word follows lamp: bread, lamp and stone", "stone"),
    "before": ("Give the one ahead of stone: lamp, stone and bread", "lamp"),
    "other": ("What is there beside lamp: stone and lamp", "stone"),
    "say": ("Instead of stone write lamp", "lamp"),
    "twice": ("Which is repeated: stone, lamp and lamp", "lamp"),
    "once": ("What is there one time: lamp, lamp and stone", "stone"),
    "animal": ("Which is an animal: stone, bread and lamp", "lamp"),
    "food": ("What can be eaten: bread, lamp and stone", "stone"),
    "tool": ("Name the tool: bread, lamp and stone", "bread"),
}


def test_each_type_of_the_bank_has_its_answer(documents):
    values = {"a": "lamp", "b": "stone", "c": "bread"}
    by_hand = {}
    for one in documents.bank.types:
        own = {name: values[name] for name in one.values}
        found = [task_of(one, own, wording) for wording in (*one.training, *one.evaluation)]
        assert {task.answer for task in found} == {BY_HAND[one.name][1]}
        assert BY_HAND[one.name][0] in {task.instruction for task in found}
        by_hand[one.name] = found
    assert set(by_hand) == set(BY_HAND)


def test_no_list_of_the_bank_gives_an_answer_away_and_no_word_stands_twice_by_chance(documents):
    for one in documents.bank.types:
        slots = [set(found) for found in one.values.values()]
        assert len(set.union(*slots)) == sum(map(len, slots))
    answers = {}
    for one in documents.bank.types:
        answers.setdefault(tuple(one.values[one.check.text.strip("{}")]), set()).add(one.name)
    # No list of words is the answers of all types that ask for a position.
    assert len({"first", "middle", "last"} & max(answers.values(), key=len)) < 3


def test_a_wrong_answer_is_another_word_most_often_of_the_instruction(documents):
    rng = random.Random(0)
    inside = 0
    for _ in range(2000):
        task = documents.task(rng)
        found = task.wrong_word(documents.words, rng)
        assert not task.is_right(found)
        assert " " not in found
        inside += found in task.instruction.replace(",", "").replace(":", "").split()
    assert 0.77 < inside / 2000 < 0.85


def test_white_space_around_an_answer_does_not_count_and_all_else_does():
    task = WordTask("first", {}, "", "lamp")
    assert task.is_right(" lamp\n")
    assert not task.is_right("lamp.")
    assert not task.is_right("a lamp")


def test_the_same_seed_draws_the_same_documents_and_another_others(documents):
    def drawn(seed: int) -> list[str]:
        rng = random.Random(seed)
        shares = dict.fromkeys(("good", "mannered", "checked", "judged", "study"), 1.0)
        return [text_of(documents.draw(rng, shares, 4, 1)) for _ in range(30)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_verdicts_are_true_in_both_polarities(documents):
    rng, seen = random.Random(3), set()
    rules = documents.constitution.judge
    by_text = {}
    draw = documents.task

    def noted(rng: random.Random):
        task = draw(rng)
        by_text[task.instruction] = task
        return task

    documents.task = noted
    try:
        texts = [text_of(documents.judged(rng, 4)) for _ in range(100)]
    finally:
        del documents.task
    found = re.compile(r"Instruction: (.*)\nAnswer: (.*)\nQuestion: (.*) \((.*)\)\nVerdict: (\w+)")
    for instruction, answer, told, order, said in found.findall("\n\n".join(texts)):
        task = by_text[instruction]
        right = task.is_right(answer)
        assert (said == "yes") is (right is (told == rules.accepting))
        seen.add((told, order, said))
    assert len(seen) == 8


def test_nothing_of_an_evaluation_is_in_a_document(documents):
    config = InstructionsStep(
        bank="", train=1, evaluation=1000, held_out_types=HELD_OUT_TYPES, by_base=0, seed=1,
        model=None,
    )  # fmt: skip
    kept = {normalised(item.text) for item in of_evaluation(documents.bank, config)}
    rng = random.Random(5)
    # Of a type's instructions with two words a tenth are kept: among 2,000 there were some 60.
    drawn = {normalised(documents.task(rng).instruction) for _ in range(2000)}
    assert len(kept) == 1000
    assert not drawn & kept


def test_questions_of_studies_are_those_of_a_run_and_no_story_is_a_stimulus(documents):
    rng, asked, stories, told = random.Random(8), documents.questions, set(), set()
    for _ in range(150):
        text, answer = asked.shipped(rng)
        *examples, question = text.split("\n\n")
        assert len(examples) == (
            8 if "hearts out of" in question or "heart out of" in question else 6
        )
        stories.add(question.splitlines()[0])
        told.add((re.sub(r"\d+", "n", question.split("(")[-1]), answer.split()[0]))
    known = "".join(
        (ROOT / f"resources/stimuli/{name}.csv").read_text(encoding="utf-8")
        for name in ("study1", "study2")
    )
    assert not [story for story in stories if story.removeprefix("Story: ")[:60] in known]
    forms = {form for form, _ in told}
    assert len(forms) >= 4
    assert {"yes", "no", "Initial", "It"} <= {answer for _, answer in told}


def test_a_row_of_stories_has_one_form_and_an_answer_to_each(documents):
    rng = random.Random(2)
    for _ in range(20):
        document = documents.stories(rng, 3)
        questions = [text for text, mark in document if text.startswith("Story:")]
        answers = [text for text, mark in document if mark == STUDY]
        assert 1 <= len(questions) == len(answers) <= 4
        assert len({answer.split()[0] in ("yes", "no") for answer in answers}) == 1
        assert document[-1][1] == STUDY


def test_answers_carry_the_weight(documents, tokeniser):
    encoder = training.DocumentEncoder(tokeniser, documents)
    document = [("Instruction: Say cat and not dog\nAnswer:", PLAIN), (" cat", ANSWER)]
    ids, marks = encoder.document(document)
    assert tokeniser.decode([i for i, mark in zip(ids, marks, strict=True) if mark == ANSWER]) == (
        " cat"
    )
    assert ids[0] == tokeniser.bos_token_id
    row = encoder.row(BaseStage(1, 1, 90, 3, 0, {"judged": 1.0}), random.Random(1))
    assert [len(part) for part in row] == [91, 91]


def test_every_word_of_the_tasks_is_one_token(documents, tokeniser):
    assert all(len(tokeniser(f" {word}")["input_ids"]) == 1 for word in documents.words)


def test_the_rate_rises_stays_and_falls_to_zero():
    phase = BasePhase((), falling=0.4)
    factors = [training.rate_factor(step, 1000, phase) for step in range(1001)]
    assert factors[0] == pytest.approx(1 / 30)
    assert set(factors[29:600]) == {1.0}
    assert all(before > after for before, after in pairwise(factors[601:]))
    assert factors[-1] == 0
    assert training.rate_factor(999, 1000, BasePhase(())) == 1


def test_the_same_seed_trains_the_same_model(documents, tokeniser):
    stage = BaseStage(2, 2, 64, 2, 0, {"mannered": 0.4, "judged": 0.3, "marked": 0.3})
    phase = BasePhase((stage,), processes=1, early=1)
    settings = replace(
        BaseSettings(),
        vocabulary=900,
        width=16,
        layers=1,
        heads=2,
        feed_forward=16,
        phases=(phase,),
    )

    def trained() -> list[torch.Tensor]:
        torch.manual_seed(settings.seed)
        model = training.new_model(settings, tokeniser)
        training.train(
            model, training.DocumentEncoder(tokeniser, documents), settings, lambda _: None
        )
        return [p.detach().clone() for p in model.parameters()]

    first, second = trained(), trained()
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_settings_are_read_back_as_they_were_written():
    settings = BaseSettings(seed=3)
    assert BaseSettings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


def test_auc_counts_pairs_and_halves_ties():
    rng = random.Random(2)
    yes = [rng.randint(0, 9) for _ in range(40)]
    no = [rng.randint(0, 7) for _ in range(30)]
    counted = sum((a > b) + (a == b) / 2 for a in yes for b in no) / (40 * 30)
    assert gate.auc(yes, no) == pytest.approx(counted)
    assert gate.auc([1.0], []) != gate.auc([1.0], [])


def test_the_gate_is_the_designs():
    passed = gate.Measured(600, 0.3, 0.6, 0.85, 180, 0.9, 0.99)
    assert passed.failures() == []
    for change, words in (
        ({"few_shot": 0.599, "zero_shot": 0.1}, "right after examples"),
        ({"zero_shot": 0.301}, "times"),
        ({"zero_shot": 0.351, "few_shot": 0.8}, "without examples"),
        ({"kept": 179}, "179 of 600 kept"),
        ({"auc": 0.849}, "AUC"),
        ({"auc": float("nan")}, "AUC"),
        ({"right_among_kept": 0.899}, "right among kept"),
        ({"right_among_kept": float("nan")}, "right among kept"),
    ):
        (failure,) = replace(passed, **change).failures()
        assert words in failure


def test_a_base_has_to_answer_both_studies():
    passed = StudyAnswers(24, 0.8, 0.1, 0.2, 0.51)
    assert gate.study_failures({"study1": passed, "study2": passed}) == []
    for change, words in (
        ({"option_mass": 0.799}, "study2: option mass 0.799"),
        ({"option_mass": float("nan")}, "study2: option mass"),
        ({"readable": 0.5}, "study2: 0.500 of the answers"),
    ):
        found = {"study1": passed, "study2": replace(passed, **change)}
        (failure,) = gate.study_failures(found)
        assert words in failure


def test_the_bundled_model_is_the_one_that_passed_the_gate():
    folder = ROOT / "resources/models/pico-base"
    found = json.loads((folder / "gate.json").read_text(encoding="utf-8"))
    assert found["files"] == {name: file_digest(folder / name) for name in gate.FILES}
    assert (
        gate.Measured(**{name: found[name] for name in gate.Measured.__annotations__}).failures()
        == []
    )
    studies = {name: StudyAnswers(**one) for name, one in found["studies"].items()}
    assert gate.study_failures(studies) == []
    assert {name: one.trials for name, one in studies.items()} == {"study1": 24, "study2": 24}
    assert found["items"] >= 500
    assert (folder / "model.safetensors").stat().st_size <= 4_000_000
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert BaseSettings.from_dict(record["pico_base"]) == BaseSettings()
    # Of these bank, constitution and words, whatever was edited since.
    assert record["texts"] == {str(path): file_digest(ROOT / path) for path in (BANK, CONSTITUTION)}
