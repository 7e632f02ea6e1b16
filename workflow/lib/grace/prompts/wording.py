"""What a variant is beside its templates: `variant.yaml` in its folder, which may be missing.

A variant without that file is one user message a question, without a system message.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from grace.errors import ConfigError
from grace.prompts.plain_text import is_blank, known_control_token, unusable_character
from grace.settings.explain import explain
from grace.settings.yaml_reader import parse_yaml, read_text

FILE = "variant.yaml"
#: Names of lists and of turns: they stand in templates and in columns.
NAME = r"^[a-z][a-z0-9_]{0,39}$"


class WordingPart(BaseModel):
    """What a variant declares: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def prompt_text(value: str) -> str:
    """A text of a prompt, without white space around it.

    Raises `ValueError` for one that no prompt may hold.
    """
    value = value.strip()
    if is_blank(value):
        raise ValueError("must not be empty; leave it out instead")
    character, token = unusable_character(value), known_control_token(value)
    if character is not None:
        raise ValueError(f"holds {character}; delete it")
    if token is not None:
        raise ValueError(f"holds {token}, a control token of language models; delete it")
    return value


class Orders(WordingPart):
    """In which orders options are listed: every combination equally often over a study's trials."""

    within: list[StrictStr] = Field(
        [], description="Columns; trials that agree in all of them get every combination in turn."
    )
    seed: StrictInt = Field(0, description="Another one deals the combinations otherwise.")
    lists: dict[str, list[list[StrictInt | StrictStr]]] = Field(
        min_length=1, description="By the name that templates see: the orders of a list."
    )

    @field_validator("lists")
    @classmethod
    def _are_orders(cls, lists: dict[str, list[list[Any]]]) -> dict[str, list[list[Any]]]:
        for name, orders in lists.items():
            if not re.fullmatch(NAME, name):
                raise ValueError(f"{name[:40]!r} must consist of small letters, digits and '_'")
            if len(orders) < 2 or any(len(order) < 2 for order in orders):
                raise ValueError(f"{name} must hold two orders or more, of two options or more")
            if len({tuple(map(str, order)) for order in orders}) < len(orders):
                raise ValueError(f"{name} holds one order twice")
            if any(sorted(map(str, order)) != sorted(map(str, orders[0])) for order in orders):
                raise ValueError(f"{name} must hold orders of the same options")
            if len({str(order[0]) for order in orders}) < len(orders):
                raise ValueError(
                    f"{name} must hold orders with different first options, which name them"
                )
        return lists


class Turn(WordingPart):
    """One user turn of a chat, and what stands after it."""

    template: StrictStr = Field(description="File in the prompt folder.")
    name: str | None = Field(
        None, pattern=NAME, description="Experiment 1: `turn` of readings in study.yaml."
    )
    reply: StrictStr | None = Field(
        None, description="The assistant's turn after it, in place of an answer of the model's."
    )

    _reply_is_text = field_validator("reply")(lambda value: value and prompt_text(value))


class Wording(WordingPart):
    """A variant's properties, as `variant.yaml` declares them."""

    description: StrictStr | None = Field(None, description="For the report's methods.")
    extends: StrictStr | None = Field(
        None, description="Variant beside it, of which it has all that it does not say itself."
    )
    system: StrictStr | None = Field(None, description="System message of every chat.")
    turns: dict[str, list[Turn]] = Field(
        {}, description="By template that a study names: the user turns in its place."
    )
    orders: dict[str, Orders] = Field({}, description="By study.")

    _system_is_text = field_validator("system")(lambda value: value and prompt_text(value))

    @model_validator(mode="after")
    def _turns_make_chats(self) -> Wording:
        for template, turns in self.turns.items():
            if not turns:
                raise ValueError(f"turns.{template} is empty; leave it out instead")
            if turns[-1].reply is not None:
                raise ValueError(f"turns.{template}: the last turn is the model's to answer")
            names = [turn.name for turn in turns if turn.name]
            if len(set(names)) < len(names):
                raise ValueError(f"turns.{template}: two turns have one name")
            open_ = [turn for turn in turns if turn.reply is None]
            if len(open_) > 1 and any(turn.name is None for turn in open_):
                raise ValueError(
                    f"turns.{template}: each of several turns that the model answers needs a `name`"
                )
        return self

    def over(self, base: Wording) -> Wording:
        """This one, with what it does not say itself taken from `base`; empty keys take it off."""
        return base.model_copy(
            update={
                "description": self.description,
                "extends": self.extends,
                **{
                    name: getattr(self, name)
                    for name in ("system", "turns", "orders")
                    if name in self.model_fields_set
                },
            }
        )


def read_wording(folder: Path) -> Wording | None:
    """What a variant's folder declares; None where it has no `variant.yaml`.

    Raises `ConfigError`.
    """
    path = folder / FILE
    if not path.exists():
        return None
    values = parse_yaml(read_text(path), str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold keys with values; see config/README.md.")
    try:
        return Wording.model_validate(values)
    except ValidationError as error:
        raise explain(str(path), error, Wording) from None
