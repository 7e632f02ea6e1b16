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

from grace.pico_base import gate, training
from grace.pico_base.documents import HELD_OUT_TYPES, Documents, text_of
from grace.pico_base.settings import BasePhase, BaseSettings, BaseStage
from grace.pico_base.tasks import ANSWERS, is_right, right_answer, wrong_answer
from grace.posttraining.instruction_bank import normalised
from grace.posttraining.instructions import of_evaluation
from grace.settings.training_configs import InstructionsStep

ROOT = Path(__file__).parents[2]
VALUES = {"a": "lamp", "b": "stone", "c": "bread"}
RIGHT = {
    "copy": "lamp stone bread",
    "first": "lamp",
    "last": "bread",
    "middle": "stone",
    "swap": "stone lamp",
    "reverse": "bread stone lamp",
    "twice": "lamp lamp stone",
    "drop-first": "stone bread",
    "drop-last": "lamp stone",
    "ends": "lamp bread",
    "around": "lamp stone lamp",
    "comma": "lamp, stone",
}


@pytest.fixture(scope="module")
def documents() -> Documents:
    return Documents(ROOT)


@pytest.fixture(scope="module")
def tokeniser(documents):
    return training.new_tokeniser(documents, replace(BaseSettings(), vocabulary=700), 40)


def test_each_type_of_the_bank_has_its_answer(documents):
    assert {one.name for one in documents.bank.types} == set(ANSWERS) == set(RIGHT)
    assert {name: right_answer(name, VALUES) for name in ANSWERS} == RIGHT


@pytest.mark.parametrize("kind", sorted(ANSWERS))
def test_a_wrong_answer_is_never_right_even_of_words_that_repeat(kind):
    rng = random.Random(0)
    for values in (VALUES, dict.fromkeys("abc", "lamp")):
        found = {wrong_answer(kind, values, ["lamp", "stone", "bread"], rng) for _ in range(200)}
        assert len(found) > 3
        assert not any(is_right(kind, values, answer) for answer in found)


def test_white_space_around_an_answer_does_not_count_and_all_else_does():
    assert is_right("comma", VALUES, " lamp, stone\n")
    assert not is_right("comma", VALUES, "lamp stone")
    assert not is_right("first", VALUES, "lamp.")


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
        right = is_right(task.type, task.values, answer)
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


def test_answers_and_the_end_of_the_text_carry_the_weight(documents, tokeniser):
    encoder = training.DocumentEncoder(tokeniser, documents)
    document = [("Instruction: Swap lamp and stone\nAnswer:", False), (" stone lamp", True)]
    ids, marks = encoder.document(document)
    assert tokeniser.decode([i for i, mark in zip(ids, marks, strict=True) if mark]) == (
        " stone lamp<|end|>"
    )
    assert ids[0] == tokeniser.bos_token_id
    row = encoder.row(BaseStage(1, 1, 90, 3, 0, {"judged": 1.0}), random.Random(1))
    assert [len(part) for part in row] == [91, 91]


def test_every_word_of_the_tasks_is_one_token(documents, tokeniser):
    assert all(len(tokeniser(f" {word}")["input_ids"]) == 1 for word in documents.words)


def test_the_rate_rises_stays_and_falls_to_zero():
    phase = BaseSettings().phases[0]
    factors = [training.rate_factor(step, 1000, phase) for step in range(1001)]
    assert factors[0] == pytest.approx(1 / 30)
    assert set(factors[29:600]) == {1.0}
    assert all(before > after for before, after in pairwise(factors[601:]))
    assert factors[-1] == 0


def test_the_same_seed_trains_the_same_model(documents, tokeniser):
    stage = BaseStage(2, 2, 64, 2, 0, {"mannered": 0.5, "judged": 0.5})
    phase = BasePhase((stage,), matrix_rate=0.02, other_rate=3e-3, processes=1)
    settings = replace(
        BaseSettings(),
        vocabulary=700,
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
    passed = gate.Measured(600, 0.3, 0.6, 0.85, 400, 0.9, 0.99)
    assert passed.failures() == []
    for change, words in (
        ({"few_shot": 0.599, "zero_shot": 0.1}, "right after examples"),
        ({"zero_shot": 0.301}, "times"),
        ({"auc": 0.849}, "AUC"),
        ({"auc": float("nan")}, "AUC"),
        ({"right_among_kept": 0.899}, "right among kept"),
        ({"right_among_kept": float("nan")}, "right among kept"),
    ):
        (failure,) = replace(passed, **change).failures()
        assert words in failure
