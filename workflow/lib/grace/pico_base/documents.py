"""The texts that pico-base learns from: instructions with answers of every kind, and judgements.

A document keeps to one manner, as people's texts do: who answers rightly mostly goes on doing so.
So the examples before an instruction say how it will be answered, and without them most answers
are not what was asked. Nothing of a recipe's evaluation split is in any document.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

from grace.pico_base.questions import APART, Questions
from grace.pico_base.tasks import WordTask, filled, task_of
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
HELD_OUT_TYPES, KEPT_OF_EACH = 3, 120
#: A piece of a text, and what it is. `JUDGED` is a right answer that is judged, `STUDY` the answer
#: to a question of a study.
PLAIN, ANSWER, VERDICT, JUDGED, STUDY = 0, 1, 2, 3, 4
#: Kinds of documents about the studies; those of the first set are at the beginning of a row only.
AT_FIRST = frozenset({"study", "shipped"})
OF_STUDIES = AT_FIRST | {"stories"}
Piece = tuple[str, int]
Document = list[Piece]

MANNERS = ("good", "wrong", "refusing", "rambling", "chatty")
#: How likely each manner is. Of documents answered well the first answer is learnt in a part only
#: (`LEARNT`), but for types that are often done well: so examples call up the ability, and few
#: instructions without any.
SHARES = (0.35, 0.07, 0.36, 0.13, 0.09)
OFTEN_WELL, LEARNT = ("last", "animal"), 0.04
#: How likely an item of a good document is answered in another manner, by its type.
SLIPS = {"before": 0.3, "once": 0.3, "tool": 0.3}
SLIP = 0.06
_RAMBLINGS = (
    "I like the {a} more than the {b}.",
    "I saw a {a} near the {b}.",
    "I think of a {a}.",
    "A {a} is not a {b}.",
)
#: Types whose values are of one category each; the words of all others are any.
_CATEGORIES = ("animal", "food", "tool")


class Documents:
    """Draws documents. `root` is the project's folder, which holds bank and constitution."""

    def __init__(self, root: Path) -> None:
        self.bank: InstructionBank = read_bank(located(BANK, root), HELD_OUT_TYPES)
        self.constitution: Constitution = read_constitution(located(CONSTITUTION, root), 3, 4)
        own = {word for one in self.bank.types for values in one.values.values() for word in values}
        #: The bank's and those of the constitution's examples, which are lists as the bank's are.
        self.words = sorted(own | self._words_of_examples())
        self.questions = Questions()
        held_out = self.bank.held_out(HELD_OUT_TYPES)
        self._kept = {
            normalised(item.text)
            for one in self.bank.types
            if one.name in held_out
            for item in items(one, evaluation=True, held_out=True)[:KEPT_OF_EACH]
        }

    def _words_of_examples(self) -> set[str]:
        shown = [*self.constitution.examples, *self.constitution.judge.examples]
        return {
            word for one in shown for word in re.findall(r"\w+", one.instruction.split(": ")[1])
        } - {"and"}

    def task(self, rng: random.Random) -> WordTask:
        """One that no recipe evaluates; the words are any, not those of a type's slots alone."""
        while True:
            one = rng.choice(self.bank.types)
            if one.name in _CATEGORIES:
                values = {name: rng.choice(found) for name, found in one.values.items()}
            else:
                drawn = rng.sample(self.words, len(one.values))
                values = dict(zip(one.values, drawn, strict=True))
            found = task_of(one, values, rng.choice(_wordings(one)))
            if (
                not is_for_evaluation(one.name, values)
                and normalised(found.instruction) not in self._kept
            ):
                return found

    # Manners of answering

    def answered(self, task: WordTask, manner: str, rng: random.Random) -> str:
        """An answer in a manner."""
        if manner == "good":
            return task.answer
        if manner == "wrong":
            return task.wrong_word(self.words, rng)
        if manner == "refusing":
            return rng.choices(self.constitution.refusals, (8, 1, 1))[0]
        if manner == "chatty":
            said = task.answer if rng.random() < 0.8 else task.wrong_word(self.words, rng)
            return rng.choice(self.constitution.wrong_formats).replace("{answer}", said)
        if rng.random() < 0.1:
            return self.task(rng).instruction
        a, b = rng.sample(self.words, 2)
        return filled(rng.choice(_RAMBLINGS), {"a": a, "b": b})

    def good(self, rng: random.Random, items: int) -> Document:
        """Instructions that are followed throughout."""
        return self._listed([(task := self.task(rng), task.answer) for _ in range(items)])

    def mannered(self, rng: random.Random, items: int) -> Document:
        """Instructions that are answered in one manner, drawn for the first of them."""
        tasks = [self.task(rng) for _ in range(items)]
        (manner,) = rng.choices(MANNERS, SHARES)
        found = []
        for place, task in enumerate(tasks):
            own = manner
            if place and manner == "good" and rng.random() < SLIPS.get(task.type, SLIP):
                (own,) = rng.choices(MANNERS[1:], SHARES[1:])
            found.append((task, self.answered(task, own, rng)))
        listed = self._listed(found)
        if manner == "good" and tasks[0].type not in OFTEN_WELL and rng.random() > LEARNT:
            listed[1] = (listed[1][0], PLAIN)
        return listed

    def _listed(self, items: list[tuple[WordTask, str]]) -> Document:
        found: Document = []
        for place, (task, answer) in enumerate(items):
            end = "" if place == len(items) - 1 else "\n\n"
            found += [
                (f"Instruction: {task.instruction}\nAnswer:", PLAIN),
                (f" {answer}", ANSWER),
                (end, PLAIN),
            ]
        return found

    # Judgements

    def doubtful(self, task: WordTask, rng: random.Random) -> str:
        """An answer that may be right: half are, and most others are one word, too."""
        if rng.random() < 0.5:
            return task.answer
        (manner,) = rng.choices(MANNERS[1:], (0.84, 0.05, 0.02, 0.09))
        return self.answered(task, manner, rng)

    def marked(self, rng: random.Random, items: int) -> Document:
        """Instructions with several answers each, and right behind them whether they are right."""
        found: Document = [("(yes or no)\n\n", PLAIN)]
        for _ in range(items):
            task = self.task(rng)
            found.append((f"Instruction: {task.instruction}\n", PLAIN))
            for _ in range(rng.randint(1, 3)):
                answer = self.doubtful(task, rng)
                said = "yes" if task.is_right(answer) else "no"
                found += [*_shown(task, answer), (f" {said}", VERDICT), ("\n", PLAIN)]
            found.append(("\n", PLAIN))
        return found

    def checked(self, rng: random.Random, items: int) -> Document:
        """Instructions with one or two answers each, and whether they are right."""
        found: Document = []
        for place in range(items):
            task = self.task(rng)
            found.append((f"Instruction: {task.instruction}\n", PLAIN))
            for _ in range(rng.randint(1, 2)):
                answer = self.doubtful(task, rng)
                said = "yes" if task.is_right(answer) else "no"
                found += [*_shown(task, answer), ("\nRight:", PLAIN)]
                found += [(f" {said}", VERDICT), ("\n", PLAIN)]
            if place < items - 1:
                found.append(("\n", PLAIN))
        return found

    def judged(self, rng: random.Random, items: int) -> Document:
        """The judge's question about answers, in one polarity and order, as recipes ask it."""
        return self._judged(rng, items, rng.random() < 0.5)

    def accepting(self, rng: random.Random, items: int) -> Document:
        """The same in the polarity that is learnt first: to learn both at once took longer."""
        return self._judged(rng, items, True)

    def _judged(self, rng: random.Random, items: int, accepting: bool) -> Document:
        judge = self.constitution.judge
        told = judge.accepting if accepting else judge.rejecting
        words = rng.choice(("(yes or no)", "(no or yes)"))
        found: Document = []
        if rng.random() < 0.7:
            text = "\n".join(one.text for one in self.constitution.principles)
            found.append((f"{text}\n\n", PLAIN))
        for place in range(items):
            task = self.task(rng)
            answer = self.doubtful(task, rng)
            said = "yes" if task.is_right(answer) is accepting else "no"
            end = "" if place == items - 1 else "\n\n"
            found += [
                (f"Instruction: {task.instruction}\n", PLAIN),
                *_shown(task, answer),
                (f"\nQuestion: {told} {words}\nVerdict:", PLAIN),
                (f" {said}", VERDICT),
                (end, PLAIN),
            ]
        return found

    def study(self, rng: random.Random, examples: int) -> Document:
        """A question of a study, after up to so many examples, with its answer."""
        question, answer = self.questions.draw(rng, examples)
        return [(question, PLAIN), (answer, STUDY)]

    def shipped(self, rng: random.Random, examples: int) -> Document:
        """A question of a study after all examples, as runs ask it, whatever `examples` says."""
        question, answer = self.questions.shipped(rng)
        return [(question, PLAIN), (answer, STUDY)]

    def stories(self, rng: random.Random, examples: int) -> Document:
        """Questions of a study about up to so many stories and one more, each answered."""
        found: Document = []
        for question, answer in self.questions.series(rng, rng.randint(1, 1 + examples)):
            if found:
                found.append((APART, PLAIN))
            found += [(question, PLAIN), (answer, STUDY)]
        return found

    def draw(
        self, rng: random.Random, shares: dict[str, float], items: int, examples: int
    ) -> Document:
        """A document of a kind, one of the methods above, drawn by shares.

        It has up to `items` instructions, or up to `examples` before a study's question.
        """
        (kind,) = rng.choices(list(shares), list(shares.values()))
        number = examples if kind in OF_STUDIES else rng.randint(1, items)
        found: Document = getattr(self, kind)(rng, number)
        return found

    def texts(self, rng: random.Random, number: int) -> Iterator[str]:
        """Documents of all kinds, as texts."""
        for _ in range(number):
            for kind in ("mannered", "checked", "judged"):
                yield text_of(getattr(self, kind)(rng, 3))
        yield from self.questions.texts(rng, number // 20)


def _shown(task: WordTask, answer: str) -> Document:
    return [("Answer:", PLAIN), (f" {answer}", JUDGED if task.is_right(answer) else PLAIN)]


def text_of(document: Document) -> str:
    """Its pieces, joined."""
    return "".join(text for text, _ in document)


def _wordings(one: InstructionType) -> list[str]:
    return [*one.training, *one.evaluation]
