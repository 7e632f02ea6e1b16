"""What a bank says of how answers to a type of instructions are checked: a rule and its arguments.

Only what may be declared is here. The rules themselves are in `grace.evaluation.checkers`, which
nothing that trains imports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from grace.settings.strict import Strict

Rule = Literal[
    "word-count", "sentence-count", "contains", "lacks", "lower-case", "upper-case", "list",
    "begins", "ends", "repeat", "quoted", "exact",
]  # fmt: skip
#: The arguments of each rule.
ARGUMENTS: Mapping[Rule, tuple[str, ...]] = {
    "word-count": ("number",),
    "sentence-count": ("number",),
    "contains": ("text",),
    "lacks": ("text",),
    "lower-case": (),
    "upper-case": (),
    "list": ("number", "text"),
    "begins": ("text",),
    "ends": ("text",),
    "repeat": ("text", "number", "last"),
    "quoted": (),
    "exact": ("text",),
}
_SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
]  # fmt: skip
_TENS = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
]  # fmt: skip
_SLOT = re.compile(r"\{([a-z_]{1,30})\}")


def number_of(text: str) -> int:
    """A number in digits, or in words up to ninety-nine. Raises `ValueError` for other texts."""
    plain = text.strip().casefold()
    if plain.isdecimal():
        return int(plain)
    if plain in _SMALL:
        return _SMALL.index(plain)
    tens, _, ones = plain.replace("-", " ").partition(" ")
    if tens in _TENS and (not ones or ones in _SMALL[1:10]):
        return 10 * (2 + _TENS.index(tens)) + (_SMALL.index(ones) if ones else 0)
    raise ValueError(f"{text!r} is no number; write digits, or a word from zero to ninety-nine")


class DeclaredCheck(Strict):
    """How an answer is checked: a rule, whose arguments may hold the type's values in braces."""

    rule: Rule
    number: str | None = Field(None, min_length=1, max_length=300, description="How many.")
    text: str | None = Field(
        None, min_length=1, max_length=1000, description="What is asked for, or not allowed."
    )
    last: str | None = Field(
        None, min_length=1, max_length=300, description="What follows the repetitions."
    )

    @model_validator(mode="after")
    def _has_its_arguments(self) -> DeclaredCheck:
        given = tuple(name for name in ("text", "number", "last") if getattr(self, name))
        if set(given) != set(ARGUMENTS[self.rule]):
            takes = ", ".join(f"`{name}`" for name in ARGUMENTS[self.rule]) or "nothing"
            raise ValueError(f"the rule `{self.rule}` takes {takes} beside `rule`")
        return self

    def slots(self) -> set[str]:
        """The values that its arguments name."""
        return {slot for text in self._arguments().values() for slot in _SLOT.findall(text)}

    def _arguments(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ARGUMENTS[self.rule]}

    def filled(self, values: Mapping[str, str]) -> dict[str, str]:
        """The arguments of one instruction, by name."""
        found = {}
        for name, text in self._arguments().items():
            for slot, value in values.items():
                text = text.replace(f"{{{slot}}}", value)
            found[name] = text
        return found

    def refuse_values(self, values: Mapping[str, list[str]]) -> None:
        """Raise `ValueError` where a type's values do not fit its check."""
        if unknown := sorted(self.slots() - values.keys()):
            raise ValueError(
                f"`check` names {{{unknown[0]}}}, which is none of `values`: {', '.join(values)}"
            )
        if self.number is None:
            return
        slots = _SLOT.findall(self.number)
        if slots and self.number != f"{{{slots[0]}}}":
            raise ValueError("`check.number` must be a number, or one value in braces")
        for text in values[slots[0]] if slots else [self.number]:
            number_of(text)
