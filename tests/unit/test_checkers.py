"""Checkers of answers: right, wrong and misleading answers to each type of the bundled bank."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from grace.evaluation.checkers import FAILURES, RULES, Checked, check, loose_forms, sentences, words
from grace.posttraining.declared_checks import ARGUMENTS, DeclaredCheck, Rule, number_of
from grace.posttraining.instruction_bank import InstructionBank, read_bank
from grace.source_code import LIBRARY, closure, script_imports

ROOT = Path(__file__).parents[2]
BANK = read_bank(ROOT / "resources/instructions/verifiable.yaml", 3)
VALUES = {
    "word-count": {"number": "four", "topic": "the sea"},
    "sentence-count": {"number": "two", "topic": "the sea"},
    "keyword": {"topic": "the sea", "word": "lamp"},
    "forbidden-word": {"topic": "the sea", "word": "lamp"},
    "lower-case": {"topic": "the sea", "other": "lamp"},
    "upper-case": {"topic": "the sea", "other": "lamp"},
    "list": {"number": "three", "category": "animals", "word": "lamp"},
    "first-word": {"topic": "the sea", "word": "lamp"},
    "last-word": {"topic": "the sea", "word": "lamp"},
    "repeat": {"word": "lamp", "number": "three", "other": "stone"},
    "quoted": {"topic": "the sea", "other": "lamp"},
    "choose": {"word": "lamp", "other": "stones", "third": "grey"},
}


def checked(kind: str, answer: str, *, truncated: bool = False) -> Checked:
    one = next(one for one in BANK.types if one.name == kind)
    instruction = one.evaluation[0]
    for name, value in VALUES[kind].items():
        instruction = instruction.replace(f"{{{name}}}", value)
    assert one.check is not None
    return check(answer, instruction, one.check, VALUES[kind], truncated=truncated)


RIGHT = {
    "word-count": ("Water without an end.", "It's a well-known place.", "blue\nwide\ndeep\nsalt"),
    "sentence-count": (
        "The sea is wide. It is deep.", "Mr. Day sees the sea. Does he, e.g. at 3.5 knots?",
        "\u201cLook!\u201d The sea is there.", "1. The sea is wide.\n2. It is deep.",
    ),
    "keyword": ("A lamp shines over the sea.", "LAMP!", "The sea has one \u201clamp\u201d."),
    "forbidden-word": ("The sea is wide.", "Lamps and lamplight on the water."),
    "lower-case": ("a lamp by the sea.", "\u00e9t\u00e9, 3 lamps"),
    "upper-case": ("A LAMP BY THE SEA.", "\u00c9T\u00c9, 3 LAMPS"),
    "list": (
        "cat, dog, horse, lamp", "cat, dog and horse. Lamp", "- cat\n- dog\n- horse\nlamp",
        "1. cat 2. dog 3. polar bear\nlamp.", "cat dog horse lamp", "Cat; dog; horse, then lamp",
    ),
    "first-word": ("Lamp light falls on the sea.", "\u201cLamp!\u201d cried the sea."),
    "last-word": ("By the sea stands a lamp.", "He said: \u201ca lamp!\u201d"),
    "repeat": ("lamp lamp lamp stone", "Lamp, lamp, lamp, and stone".replace("and ", "")),
    "quoted": ("\"The sea took the lamp.\"", "\u201cIt's the sea.\u201d", "'The sea\u2019s lamp.'"),
    "choose": ("lamp", "Lamp.", "\u201clamp\u201d", "  LAMP\n"),
}  # fmt: skip
WRONG = {
    "word-count": (("Water without end.", "wrong content"), ("Four: a b c d", "wrong content")),
    "sentence-count": (
        ("The sea is wide.", "wrong content"), ("One. Two. So do I.", "wrong content"),
    ),
    "keyword": (("The sea is wide.", "wrong content"), ("Lamps, lamplight.", "wrong content")),
    "forbidden-word": (("A lamp.", "wrong content"), ("No 'LAMP' here.", "wrong content")),
    "lower-case": (("A lamp by the sea.", "wrong format"), ("a lamp by the seA", "wrong format")),
    "upper-case": (("A Lamp.", "wrong format"), ("A LAMP BY THE SEa", "wrong format")),
    "list": (
        ("cat, dog, horse", "wrong format"), ("cat, cat, dog, lamp", "wrong content"),
        ("cat, dog, lamp", "wrong content"), ("cat, dog, horse, cow, lamp", "wrong content"),
        ("I have no idea what to say, but here, so be it, lamp", "wrong content"),
    ),
    "first-word": (("The lamp.", "wrong format"), ("Lamplight.", "wrong content"),
                   ("Sea, sea.", "wrong content")),
    "last-word": (("A lamp, then.", "wrong format"), ("Lamps", "wrong content")),
    "repeat": (
        ("lamp lamp stone", "wrong content"), ("lamp lamp lamp lamp stone", "wrong format"),
        ("lamp x3, stone", "wrong content"), ("Sure: lamp lamp lamp stone", "wrong format"),
        ("lamp lamp lamp", "wrong content"),
    ),
    "quoted": (
        ("The sea took the lamp.", "wrong format"),
        ("\"The sea\" took \"the lamp\"", "wrong format"),
        ("\"The sea", "wrong format"), ("He said: \"The sea.\"", "wrong format"),
    ),
    "choose": (
        ("lamp, because it is there", "wrong format"), ("stones", "wrong content"),
        ("The word is lamp", "wrong format"), ("lamps", "wrong content"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
def test_right_answers_are_right(kind):
    for answer in RIGHT[kind]:
        assert checked(kind, answer) == Checked(True, True, "right"), answer


@pytest.mark.parametrize("kind", VALUES)
def test_wrong_answers_are_wrong_and_in_what_way(kind):
    for answer, why in WRONG[kind]:
        found = checked(kind, answer)
        assert (found.strict, found.kind) == (False, why), answer


@pytest.mark.parametrize("kind", VALUES)
def test_nothing_refusals_and_echoes_are_right_for_no_type(kind):
    one = next(one for one in BANK.types if one.name == kind)
    instruction = one.evaluation[0]
    for name, value in VALUES[kind].items():
        instruction = instruction.replace(f"{{{name}}}", value)
    for answer in ("", " \n", "\u2026", "**", '""'):
        assert checked(kind, answer) == Checked(False, False, "empty"), answer
    for answer in (
        "I cannot help with that.",
        "I\u2019m sorry, but no.",
        "As an AI language model, lamp",
        "Unfortunately this is nothing that I can do. lamp",
        "i can't help with that. lamp",
    ):
        assert checked(kind, answer) == Checked(False, False, "refusal"), answer
    assert checked(kind, instruction).kind == "another task"
    # A good answer after it counts as loose where the echo has a line of its own.
    for good in RIGHT[kind]:
        found = checked(kind, f"{instruction}\n{good}")
        assert (found.strict, found.kind) == (False, "another task")
        assert found.loose
        assert not checked(kind, f"{good}\nInstruction: Name a bird.").strict


def test_a_truncated_answer_is_judged_as_it_stands_and_said_to_be_truncated():
    assert checked("keyword", "A lamp shines over", truncated=True).strict
    assert checked("keyword", "The sea is", truncated=True).kind == "truncated"
    assert checked("word-count", "", truncated=True).kind == "empty"


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("choose", "**lamp**"),
        ("choose", "Here it is:\nlamp"),
        ("choose", "lamp\nI hope this helps!"),
        ("choose", "Sure.\n*lamp*\nAnything else?"),
        ("first-word", "**Lamp** light."),
        ("lower-case", "Here you are:\na lamp by the sea"),
        ("word-count", "Here:\nWater without an end."),
    ],
)
def test_loose_forgives_lines_around_an_answer_and_asterisks(kind, answer):
    assert checked(kind, answer) == Checked(False, True, "wrong format")


def test_loose_looks_at_ifevals_eight_forms_and_at_nothing_else():
    assert list(loose_forms("a\n*b*\nc")) == [
        "a\n*b*\nc", "a\n*b*", "*b*\nc", "*b*", "a\nb\nc", "a\nb", "b\nc", "b",
    ]  # fmt: skip
    assert list(loose_forms("a")) == ["a", "", "", ""] * 2
    assert not checked("choose", "one\ntwo\nlamp").loose
    assert not checked("choose", "_lamp_ it is").loose


def test_whatever_is_strictly_right_is_loosely_right():
    for kind in VALUES:
        for answer in (*RIGHT[kind], *(answer for answer, _ in WRONG[kind])):
            found = checked(kind, answer)
            assert found.loose or not found.strict
            assert (found.kind == "right") is found.strict
            assert found.kind in ("right", *FAILURES)


def test_words_and_sentences():
    assert words("It\u2019s a well-known, 3.5 m fa\u00e7ade \u2013 yes") == [
        "it's", "a", "well-known", "3", "5", "m", "fa\u00e7ade", "yes",
    ]  # fmt: skip
    assert len(sentences("Dr. J. Day left at 5. He came back\u2026 No!? Yes")) == 4
    assert sentences("... ! 12.") == []


def test_every_declared_rule_has_a_checker_and_every_type_of_the_bank_is_checked():
    assert RULES.keys() == ARGUMENTS.keys() == set(get_args(Rule))
    assert {one.name for one in BANK.types} == VALUES.keys()
    assert sorted(one.check.rule for one in BANK.types if one.check) == sorted(RULES)


def test_numbers_are_digits_or_words():
    assert [number_of(text) for text in ("7", "seven", "Twenty", "forty-two", "ninety nine")] == [
        7, 7, 20, 42, 99,
    ]  # fmt: skip
    for text in ("", "some", "twenty ten", "-1", "1.5"):
        with pytest.raises(ValueError, match="is no number"):
            number_of(text)


@pytest.mark.parametrize(
    ("declared", "wrong"),
    [
        ({"rule": "word-count"}, "takes `number`"),
        ({"rule": "quoted", "text": "x"}, "takes nothing beside"),
        ({"rule": "word-counts"}, "word-count"),
        ({"rule": "exact", "text": "{thing}"}, "`check` names {thing}"),
        ({"rule": "word-count", "number": "{word}"}, "'lamp' is no number"),
        ({"rule": "word-count", "number": "x{word}"}, "or one value in braces"),
    ],
)
def test_a_check_that_does_not_fit_its_type_is_refused_when_the_bank_is_read(declared, wrong):
    one = {
        "name": "copy", "training": ["Copy {word}."], "evaluation": ["{word}: copy."],
        "values": {"word": ["lamp", "stone"]}, "check": declared,
    }  # fmt: skip
    values = {"types": [one], "invented": ["a", "b"]}
    with pytest.raises(ValidationError) as refusal:
        InstructionBank.model_validate(values)
    assert wrong in str(refusal.value)
    values["types"] = [{**one, "check": {"rule": "exact", "text": "{word}"}}]
    bank = InstructionBank.model_validate(values)
    assert isinstance(bank.types[0].check, DeclaredCheck)
    # Another check is no reason to write or answer instructions anew.
    assert bank.asked() == InstructionBank.model_validate(
        {**values, "types": [{name: one[name] for name in one if name != "check"}]}
    ).asked()  # fmt: skip


def test_nothing_that_trains_imports_a_checker():
    """By what their code is digested from: what a script imports, and what these import."""
    rules = (ROOT / "workflow/rules/training.smk").read_text(encoding="utf-8")
    scripts = {line.split("/")[-1].strip().strip('"') for line in rules.splitlines()
               if "../scripts/" in line and line.strip().endswith('.py"')}  # fmt: skip
    trains = scripts - {"evaluate.py", "ifeval_export.py", "approve.py"}
    assert trains >= {"answers.py", "judge.py", "select_rows.py", "pairs.py", "train.py"}
    trainer = [path.relative_to(LIBRARY).as_posix() for path in LIBRARY.glob("training/*.py")]
    for modules in [*(script_imports(ROOT / "scripts" / name) for name in trains), trainer]:
        assert not [path for path in closure(modules, ()) if "grace/evaluation/" in str(path)]
