"""Banks of instructions: types whose answers can be verified, wordings with values to fill in.

Which split an instruction belongs to follows from a digest of its type and values, in whatever
wording, so that no split changes when a bank or a recipe's numbers grow. Evaluation has wordings
of its own: with shared ones, training and evaluation would share most of their 8-grams.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from grace.digests import digest
from grace.errors import ConfigError
from grace.posttraining.declared_checks import DeclaredCheck
from grace.settings.explain import explain
from grace.settings.strict import Strict
from grace.settings.yaml_reader import read_yaml

#: One in so many instructions of a trained type belongs to evaluation.
EVALUATION_ONE_IN = 10
_SLOT = re.compile(r"\{([a-z_]{1,30})\}")
#: Values are combined; more combinations than this are too many to go through.
_MOST = 1_000_000
_MOST_VALUES = 1000

WordingText = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(str.strip)]
Value = Annotated[str, Field(min_length=1, max_length=300)]


class InstructionType(Strict):
    """Instructions that are checked in one way."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")
    training: list[WordingText] = Field(min_length=1, max_length=100)
    evaluation: list[WordingText] = Field(min_length=1, max_length=100)
    values: dict[str, list[Value]] = Field(min_length=1, max_length=10)
    check: DeclaredCheck | None = Field(
        None, description="How answers are verified; without it they are asked for, not counted."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> InstructionType:
        for wording in (*self.training, *self.evaluation):
            if set(_SLOT.findall(wording)) != set(self.values):
                raise ValueError(
                    f"the wording {wording!r} must hold each of"
                    f" {', '.join(f'{{{name}}}' for name in self.values)}, and no other"
                )
        if shared := set(self.training) & set(self.evaluation):
            raise ValueError(f"the wording {min(shared)!r} is in `training` and `evaluation`")
        for name, values in self.values.items():
            if not 1 <= len(set(values)) == len(values) <= _MOST_VALUES:
                raise ValueError(f"`values.{name}` must hold 1 to {_MOST_VALUES} different texts")
        if self.combinations > _MOST:
            raise ValueError(
                f"its values have {self.combinations:,} combinations; at most {_MOST:,}"
            )
        if self.check is not None:
            self.check.refuse_values(self.values)
        return self

    @property
    def combinations(self) -> int:
        return math.prod(len(values) for values in self.values.values())

    def filled(self) -> Iterator[dict[str, str]]:
        """Every combination of values."""
        names = list(self.values)
        for chosen in product(*self.values.values()):
            yield dict(zip(names, chosen, strict=True))


class InstructionBank(Strict):
    """resources/instructions/<name>.yaml."""

    types: list[InstructionType] = Field(min_length=1, max_length=100)
    invented: list[WordingText] = Field(
        min_length=2, max_length=200,
        description="Instructions of other kinds, before those that the base writes.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _names_differ(self) -> InstructionBank:
        names = [one.name for one in self.types]
        if len(set(names)) < len(names) or INVENTED in names:
            raise ValueError(f"`types` holds two of one name, or one called {INVENTED}")
        return self

    def asked(self) -> dict[str, Any]:
        """What decides its instructions: all of it but how answers are checked."""
        return self.model_dump(exclude={"types": {"__all__": {"check"}}})

    def held_out(self, number: int) -> tuple[str, ...]:
        """The types that are never trained on: the same for all recipes on this bank."""
        ordered = sorted((one.name for one in self.types), key=lambda name: digest(["held", name]))
        return tuple(sorted(ordered[:number]))


#: The type of instructions that the base wrote, which cannot be verified.
INVENTED = "invented"


@dataclass(frozen=True)
class BankItem:
    """An instruction of a bank, in one split."""

    text: str
    type: str
    values: dict[str, str]

    def record(self, split: str) -> dict[str, Any]:
        return {
            "row_id": row_id(self.text), "type": self.type, "split": split,
            "instruction": self.text, "values": self.values,
        }  # fmt: skip


def normalised(text: str) -> str:
    """A text as splits and repetitions see it: case, marks and spacing do not count."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def row_id(instruction: str) -> str:
    """16 hex digits that stand for an instruction."""
    return hashlib.sha256(normalised(instruction).encode()).hexdigest()[:16]


def is_for_evaluation(kind: str, values: dict[str, str]) -> bool:
    """Whether an instruction of a trained type belongs to evaluation, whatever its wording."""
    told = digest([kind, {name: normalised(value) for name, value in values.items()}])
    return int(told[:8], 16) % EVALUATION_ONE_IN == 0


def items(one: InstructionType, *, evaluation: bool, held_out: bool) -> list[BankItem]:
    """A type's instructions of one split, in an order that follows from their texts alone.

    Of each combination of values there is one, in the wording that its digest chooses. All of a
    held-out type belong to evaluation.
    """
    wordings = one.evaluation if evaluation else one.training
    found = []
    for values in one.filled():
        if not held_out and is_for_evaluation(one.name, values) != evaluation:
            continue
        if held_out and not evaluation:
            continue
        chosen = int(digest(["wording", one.name, values])[:8], 16) % len(wordings)
        text = wordings[chosen]
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        found.append(BankItem(text, one.name, values))
    return sorted(found, key=lambda item: digest(["order", item.text]))


def read_bank(path: Path, held_out_types: int) -> InstructionBank:
    """A bank with more types than are held out. Raises `ConfigError`."""
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; a recipe names it in `instructions.bank`."
        ) from None
    try:
        found = InstructionBank.model_validate(values)
    except ValidationError as error:
        raise explain(str(path), error, InstructionBank) from None
    if held_out_types >= len(found.types):
        raise ConfigError(
            f"{path}: has {len(found.types)} types, of which `held_out_types` would keep"
            f" {held_out_types} from training. Lower it."
        )
    return found
