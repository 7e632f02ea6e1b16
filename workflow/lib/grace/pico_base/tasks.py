"""The demo's tasks: what the right answer to an instruction is, and answers that are wrong.

The instructions themselves, wordings and values, are resources/instructions/demo.yaml.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

Values = Mapping[str, str]

#: The right answer by type of instruction, from the values in its slots.
ANSWERS: dict[str, Callable[[Values], str]] = {
    "copy": lambda v: f"{v['a']} {v['b']} {v['c']}",
    "first": lambda v: v["a"],
    "last": lambda v: v["c"],
    "middle": lambda v: v["b"],
    "swap": lambda v: f"{v['b']} {v['a']}",
    "reverse": lambda v: f"{v['c']} {v['b']} {v['a']}",
    "twice": lambda v: f"{v['a']} {v['a']} {v['b']}",
    "drop-first": lambda v: f"{v['b']} {v['c']}",
    "drop-last": lambda v: f"{v['a']} {v['b']}",
    "ends": lambda v: f"{v['a']} {v['c']}",
    "around": lambda v: f"{v['a']} {v['b']} {v['a']}",
    "comma": lambda v: f"{v['a']}, {v['b']}",
}


def right_answer(kind: str, values: Values) -> str:
    """The one right answer. Raises `KeyError` on another type than the demo's."""
    return ANSWERS[kind](values)


def is_right(kind: str, values: Values, answer: str) -> bool:
    """Whether an answer is the right one, to the letter, white space around it left out."""
    return answer.strip() == right_answer(kind, values)


#: How a wrong answer is made: as another type's, of other words, with one word replaced, with one
#: more, of the given words in any order.
WRONG = ("other type", "other words", "replaced", "one more", "any order")


def wrong_answer(
    kind: str,
    values: Values,
    words: list[str],
    rng: random.Random,
    shares: Sequence[float] = (0.35, 0.3, 0.25, 0.05, 0.05),
) -> str:
    """An answer in the form of a right one, made in one of the ways of `WRONG`, by their shares.

    `words` are those that may stand in it.
    """
    right = right_answer(kind, values)
    while True:
        (way,) = rng.choices(WRONG, shares)
        if way == "other type":
            possible = {"b": values["a"], "c": values["b"], **values}
            other = rng.choice([name for name in ANSWERS if name != kind])
            found = ANSWERS[other](possible)
        elif way == "other words":
            found = " ".join(rng.choice(words) for _ in right.split())
        elif way == "replaced":
            parts = right.split(" ")
            place = rng.randrange(len(parts))
            inside = rng.random() < 0.5
            parts[place] = rng.choice(list(values.values())) if inside else rng.choice(words)
            found = " ".join(parts)
        elif way == "one more":
            found = f"{right} {rng.choice(words)}"
        else:
            found = " ".join(rng.sample(list(values.values()), rng.randint(1, len(values))))
        if found != right:
            return found
