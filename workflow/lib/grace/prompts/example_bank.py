"""The examples that stand before the questions of base models: a study's bank, in one variant.

A file `completion/<study>.yaml` in the variant's folder. An example is a row of values, such as a
story, and not a text: its question is what the variant's own templates make of them, and its
answers what the bank's `answers` make of them. So examples ask as the trial does, in the order of
options in which it does, and wordings can share a bank.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from pydantic import (
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from grace.digests import digest
from grace.errors import ConfigError
from grace.prompts.wording import WordingPart
from grace.settings.explain import explain
from grace.settings.yaml_reader import parse_yaml, read_text

#: What templates for completion call a trial's examples.
EXAMPLES = "examples"
_VALUE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
_NEEDED = ("item", "number", "stop", "answers", "examples")

Value = StrictStr | StrictInt | StrictFloat | list[StrictStr | StrictInt | StrictFloat]


class FewShotExample(WordingPart):
    """A question with its answers, as values that templates print."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", description="Unique in the bank.")
    item: StrictStr = Field(min_length=1, description="The item that it is about.")
    values: dict[StrictStr, Value] = Field(
        min_length=1,
        description="By name: what the study's templates see of a trial, and `answers` print.",
    )

    @field_validator("values")
    @classmethod
    def _are_named(cls, values: dict[str, Value]) -> dict[str, Value]:
        for name in values:
            if not _VALUE_NAME.fullmatch(name) or name == EXAMPLES:
                raise ValueError(
                    f"{name[:40]!r} must consist of letters, digits and '_', and be another name"
                    f" than `{EXAMPLES}`"
                )
        return values


class Bank(WordingPart):
    """The examples of one study in one variant, and what ends an answer there."""

    extends: StrictStr | None = Field(
        None, description="Variant of whose bank it takes all that it does not say itself."
    )
    item: StrictStr = Field("", description="Column that says which item a trial is about.")
    number: StrictInt = Field(0, ge=0, le=64, description="Examples before each question.")
    seed: StrictInt = Field(0, description="Another one puts the examples into another order.")
    stop: list[StrictStr] = Field(
        [], min_length=1, max_length=4, description="Experiment 1: an answer ends before the first."
    )
    answers: dict[StrictStr, StrictStr | dict[StrictStr, StrictStr]] = Field(
        {},
        min_length=1,
        description="By template: what an example's answer to it is, in the language of templates;"
        " of several turns that the model answers, by their names.",
    )
    examples: list[FewShotExample] = Field([], description="About other items than the stimuli.")

    @field_validator("stop")
    @classmethod
    def _can_stop(cls, stop: list[str]) -> list[str]:
        if any(not 1 <= len(text) <= 20 for text in stop) or len(set(stop)) < len(stop):
            raise ValueError("must hold different texts of 1 to 20 characters")
        return stop

    @model_validator(mode="after")
    def _is_whole(self) -> Bank:
        names = [example.name for example in self.examples]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"`examples` holds two that are named '{twice}'")
        if self.extends is not None:
            return self
        missing = [name for name in _NEEDED if name not in self.model_fields_set]
        if missing:
            raise ValueError(
                f"lacks `{'`, `'.join(missing)}`; or name in `extends` the variant whose it takes"
            )
        if self.number > len(names):
            raise ValueError(f"`number` is {self.number}, but there are {len(names)} examples")
        return self

    def over(self, base: Bank) -> Bank:
        """This one, with what it does not say itself taken from `base`. Raises `ValueError`."""
        own = self.model_dump(exclude_unset=True, exclude={"extends"})
        return Bank.model_validate({**base.model_dump(exclude_unset=True), **own})

    @cached_property
    def order(self) -> tuple[FewShotExample, ...]:
        """The examples in the order in which they are taken."""
        return tuple(sorted(self.examples, key=lambda one: digest([self.seed, one.name])))

    def drawn(self, item: str) -> tuple[str, ...]:
        """Names of the examples before a question about an item, in order: never its own."""
        others = [one.name for one in self.order if plain_item(one.item) != plain_item(item)]
        return tuple(others[: self.number])


def plain_item(item: str) -> str:
    """An item as it is compared with others."""
    return item.strip().casefold()


def read_bank(path: Path, bank_of: Callable[[str], Path]) -> tuple[Bank, list[Path]]:
    """A bank, with what it takes from another variant's, and the files behind it.

    Args:
        path: Its file.
        bank_of: The file of a variant's bank of the same study.

    Raises `ConfigError`.
    """
    own = _read(path)
    if own.extends is None:
        return own, [path]
    other = bank_of(own.extends)
    if other.resolve() == path.resolve():
        raise ConfigError(f"{path}: extends: names its own variant. Name another one.")
    if not other.is_file():
        raise ConfigError(
            f"{path}: extends: '{own.extends}' has no examples of this study: {other} is no file."
            " Name a variant that has some."
        )
    base = _read(other)
    if base.extends is not None:
        raise ConfigError(
            f"{path}: extends: '{own.extends}' takes its examples from '{base.extends}' itself."
            " Name that."
        )
    try:
        return own.over(base), [path, other]
    except ValidationError as error:
        raise explain(str(path), error, Bank) from None


def _read(path: Path) -> Bank:
    """Raises `ConfigError`."""
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file. It holds the examples that stand before the questions of models"
            " with `prompting: completion` (docs/base_models.md)."
        )
    values = parse_yaml(read_text(path), str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold keys with values; see docs/base_models.md.")
    try:
        return Bank.model_validate(values)
    except ValidationError as error:
        raise explain(str(path), error, Bank) from None
