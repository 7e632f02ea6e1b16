"""The demo's tasks: an instruction, its right answer, and answers that are wrong.

Instructions and what is right are resources/instructions/demo.yaml: every answer is one of the
words that stand in its instruction.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from grace.posttraining.instruction_bank import InstructionType

#: Of the wrong answers that are one word, the share of those that stand in the instruction.
INSIDE = 0.8


@dataclass(frozen=True)
class WordTask:
    """An instruction of a bank's type, in one of its wordings."""

    type: str
    values: dict[str, str]
    instruction: str
    answer: str

    def is_right(self, answer: str) -> bool:
        """Whether an answer is the right one, to the letter, white space around it left out."""
        return answer.strip() == self.answer

    def wrong_word(self, words: Sequence[str], rng: random.Random) -> str:
        """Another word of the instruction, or another of `words`."""
        inside = [word for word in self.values.values() if word != self.answer]
        if inside and rng.random() < INSIDE:
            return rng.choice(inside)
        return rng.choice([word for word in words if word != self.answer])


def task_of(one: InstructionType, values: dict[str, str], wording: str) -> WordTask:
    """A type's instruction. Its right answer is the text that the type's check compares with."""
    assert one.check is not None
    assert one.check.text is not None
    return WordTask(one.name, values, filled(wording, values), filled(one.check.text, values))


def filled(text: str, values: dict[str, str]) -> str:
    """A text of the bank with values in its slots."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text
