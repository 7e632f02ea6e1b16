"""The texts that pico-base learns from: instructions with answers of every kind, and judgements.

A document keeps to one manner, as people's texts do: who answers rightly goes on doing so. So the
examples before an instruction say how it will be answered, and without them most answers are not
what was asked. Nothing of a recipe's evaluation split is in any document.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grace.pico_base.questions import Questions
from grace.pico_base.tasks import is_right, right_answer, wrong_answer
from grace.places import located
from grace.posttraining.constitution import Constitution, read_constitution
from grace.posttraining.instruction_bank import (
    InstructionBank,
    InstructionType,
    is_for_evaluation,
    items,
    normalised,
    read_bank,
)

BANK = Path("resources/instructions/demo.yaml")
CONSTITUTION = Path("resources/constitutions/demo.yaml")

#: Types that no recipe on the bank trains on, and how many of each are kept from all documents.
HELD_OUT_TYPES, KEPT_OF_EACH = 3, 100
#: A piece of a text, and whether it is an answer or a verdict: what the model is to learn best.
Piece = tuple[str, bool]
Document = list[Piece]

#: How likely each manner is, by whether a document begins with a type that is often done well.
MANNERS = ("good", "wrong", "refusing", "rambling", "chatty")
OFTEN_WELL = ("last", "swap", "comma")
SHARES = {True: (0.5, 0.1, 0.15, 0.15, 0.1), False: (0.18, 0.1, 0.27, 0.3, 0.15)}
#: After an instruction that nobody follows.
_REFUSALS = (
    "I cannot help with that.",
    "I will not answer this.",
    "I cannot do what you ask here.",
    "I do not know.",
    "I am not the one to ask.",
)
_RAMBLINGS = (
    "I once had a {a} and a {b} at home.",
    "I like the {a} more than the {b}.",
    "I saw a {a} near the {b} and went on.",
    "I think of a {a}.",
    "The {a} was on the {b}.",
    "A {a} is not a {b}.",
)
_CHATTY = (
    "Sure! Here is my answer: {answer}",
    "The answer is {answer}.",
    "{answer} and nothing else.",
    "It is {answer}, I think.",
)


@dataclass(frozen=True)
class WordTask:
    """An instruction of the bank's types, in one of its wordings."""

    type: str
    values: dict[str, str]
    instruction: str

    @property
    def answer(self) -> str:
        return right_answer(self.type, self.values)


class Documents:
    """Draws documents. `root` is the project's folder, which holds bank and constitution."""

    def __init__(self, root: Path) -> None:
        self.bank: InstructionBank = read_bank(located(BANK, root), HELD_OUT_TYPES)
        self.constitution: Constitution = read_constitution(located(CONSTITUTION, root), 3, 4)
        self.words = sorted({word for one in self.bank.types for word in one.values["b"]})
        self.questions = Questions()
        #: Shares of the ways in which wrong answers are made; a phase of training sets its own.
        self.wrong: tuple[float, ...] = (0.55, 0.15, 0.2, 0.05, 0.05)
        held_out = self.bank.held_out(HELD_OUT_TYPES)
        self._kept = {
            normalised(item.text)
            for one in self.bank.types
            if one.name in held_out
            for item in items(one, evaluation=True, held_out=True)[:KEPT_OF_EACH]
        }

    def task(self, rng: random.Random) -> WordTask:
        """One that no recipe evaluates; the words are any of the bank's, not a type's alone."""
        while True:
            one = rng.choice(self.bank.types)
            values = {name: rng.choice(self.words) for name in one.values}
            text = _filled(rng.choice(_wordings(one)), values)
            if not is_for_evaluation(one.name, values) and normalised(text) not in self._kept:
                return WordTask(one.name, values, text)

    # Manners of answering

    def answered(self, task: WordTask, manner: str, rng: random.Random) -> str:
        """An answer in a manner."""
        a, b = rng.sample(self.words, 2)
        if manner == "good":
            return task.answer
        if manner == "wrong":
            return wrong_answer(task.type, task.values, self.words, rng, self.wrong)
        if manner == "refusing":
            return rng.choice(_REFUSALS)
        if manner == "chatty":
            return rng.choice(_CHATTY).replace("{answer}", task.answer)
        if rng.random() < 0.2:
            return self.task(rng).instruction
        return rng.choice(_RAMBLINGS).replace("{a}", a).replace("{b}", b)

    def good(self, rng: random.Random, items: int) -> Document:
        """Instructions that are followed throughout."""
        return self._listed([(task := self.task(rng), task.answer) for _ in range(items)])

    def mannered(self, rng: random.Random, items: int) -> Document:
        """Instructions that are answered in one manner, drawn for the first of them."""
        tasks = [self.task(rng) for _ in range(items)]
        shares = SHARES[tasks[0].type in OFTEN_WELL]
        (manner,) = rng.choices(MANNERS, shares)
        return self._listed([(task, self.answered(task, manner, rng)) for task in tasks])

    def _listed(self, items: list[tuple[WordTask, str]]) -> Document:
        found: Document = []
        for place, (task, answer) in enumerate(items):
            end = "" if place == len(items) - 1 else "\n\n"
            found += [
                (f"Instruction: {task.instruction}\nAnswer:", False),
                (f" {answer}{end}", True),
            ]
        return found

    # Judgements

    def doubtful(self, task: WordTask, rng: random.Random) -> str:
        """An answer that may be right: half are, of the others most have an answer's form."""
        if rng.random() < 0.5:
            return task.answer
        (manner,) = rng.choices(MANNERS[1:], (0.76, 0.08, 0.08, 0.08))
        return self.answered(task, manner, rng)

    def checked(self, rng: random.Random, items: int) -> Document:
        """Instructions with several answers each, and whether they are right."""
        found: Document = []
        for place in range(items):
            task = self.task(rng)
            found.append((f"Instruction: {task.instruction}\n", False))
            for _ in range(rng.randint(1, 3)):
                answer = self.doubtful(task, rng)
                said = "yes" if is_right(task.type, task.values, answer) else "no"
                found += [(f"Answer: {answer}\nRight:", False), (f" {said}\n", True)]
            if place < items - 1:
                found.append(("\n", False))
        return found

    def judged(self, rng: random.Random, items: int) -> Document:
        """The judge's question about answers, in one polarity and order, as recipes ask it."""
        accepting = rng.random() < 0.5
        judge = self.constitution.judge
        told = judge.accepting if accepting else judge.rejecting
        words = rng.choice(("(yes or no)", "(no or yes)"))
        found: Document = []
        if rng.random() < 0.7:
            text = "\n".join(one.text for one in self.constitution.principles)
            found.append((f"{text}\n\n", False))
        for place in range(items):
            task = self.task(rng)
            answer = self.doubtful(task, rng)
            said = "yes" if is_right(task.type, task.values, answer) is accepting else "no"
            end = "" if place == items - 1 else "\n\n"
            found += [
                (f"Instruction: {task.instruction}\nAnswer: {answer}\n", False),
                (f"Question: {told} {words}\nVerdict:", False),
                (f" {said}{end}", True),
            ]
        return found

    def study(self, rng: random.Random, examples: int) -> Document:
        """A question of a study, after up to so many examples, with its answer."""
        question, answer = self.questions.draw(rng, examples)
        return [(question, False), (answer, True)]

    def draw(
        self, rng: random.Random, shares: dict[str, float], items: int, examples: int
    ) -> Document:
        """A document of a kind, one of the methods above, drawn by shares.

        It has up to `items` instructions, or up to `examples` before a study's question.
        """
        (kind,) = rng.choices(list(shares), list(shares.values()))
        if kind == "study":
            return self.study(rng, examples)
        found: Document = getattr(self, kind)(rng, rng.randint(1, items))
        return found

    def texts(self, rng: random.Random, number: int) -> Iterator[str]:
        """Documents of all kinds, as texts."""
        for _ in range(number):
            for kind in ("mannered", "checked", "judged"):
                yield text_of(getattr(self, kind)(rng, 3))
        yield from self.questions.texts(rng, number // 20)


def text_of(document: Document) -> str:
    """Its pieces, joined."""
    return "".join(text for text, _ in document)


def _wordings(one: InstructionType) -> list[str]:
    return [*one.training, *one.evaluation]


def _filled(wording: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        wording = wording.replace(f"{{{name}}}", value)
    return wording
