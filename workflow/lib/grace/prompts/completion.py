"""Prompts of base models: a text that the model continues, after examples of other items.

A variant's folder `completion` holds templates of its own, named as the study's, and for each
study a bank of examples, `<study>.yaml`. What they give is a bare context
(`grace.prompts.messages`): a beginning-of-text token and the text, with no chat template.

The examples of a trial are the first `number` of the bank that are not about the trial's own item,
in an order that follows from `seed` alone. It is the same for all trials and replications, so that
conditions of an item differ in nothing but themselves and servers read the examples once; what the
choice of examples does is seen by running another `seed`, in another variant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import (
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from grace.digests import digest
from grace.errors import ConfigError
from grace.prompts.messages import Message, context
from grace.prompts.plain_text import shortened
from grace.prompts.variants import PromptSet
from grace.prompts.wording import FILE, WordingPart, prompt_text
from grace.settings.explain import explain
from grace.settings.yaml_reader import parse_yaml, read_text

#: The folder of a variant that holds them, and the name by which templates see their examples.
FOLDER, EXAMPLES = "completion", "examples"
#: Between prompt and option: it belongs to the option, as tokenisers join a space to its word.
LEAD = " "


class FewShotExample(WordingPart):
    """A question with its answer, in the form of each template."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", description="Unique in the bank.")
    item: StrictStr = Field(min_length=1, description="The item that it is about.")
    texts: dict[StrictStr, StrictStr] = Field(
        min_length=1, description="By template: the text with its answer."
    )

    @field_validator("texts")
    @classmethod
    def _are_texts(cls, texts: dict[str, str]) -> dict[str, str]:
        return {template: prompt_text(text) for template, text in texts.items()}


class Bank(WordingPart):
    """The examples of one study in one variant, and what ends an answer there."""

    item: StrictStr = Field(description="Column that says which item a trial is about.")
    number: StrictInt = Field(ge=0, le=64, description="Examples before each question.")
    seed: StrictInt = Field(0, description="Another one puts the examples into another order.")
    stop: list[StrictStr] = Field(
        min_length=1, max_length=4, description="Experiment 1: an answer ends before the first."
    )
    examples: list[FewShotExample] = Field(description="About other items than the stimuli.")

    @field_validator("stop")
    @classmethod
    def _can_stop(cls, stop: list[str]) -> list[str]:
        if any(not 1 <= len(text) <= 20 for text in stop) or len(set(stop)) < len(stop):
            raise ValueError("must hold different texts of 1 to 20 characters")
        return stop

    @model_validator(mode="after")
    def _is_large_enough(self) -> Bank:
        names = [example.name for example in self.examples]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"`examples` holds two that are named '{twice}'")
        if self.number > len(names):
            raise ValueError(f"`number` is {self.number}, but there are {len(names)} examples")
        return self

    @cached_property
    def order(self) -> tuple[FewShotExample, ...]:
        """The examples in the order in which they are taken."""
        return tuple(sorted(self.examples, key=lambda one: digest([self.seed, one.name])))

    def drawn(self, item: str) -> tuple[str, ...]:
        """Names of the examples before a question about an item, in order: never its own."""
        others = [one.name for one in self.order if _plain(one.item) != _plain(item)]
        return tuple(others[: self.number])


def _plain(item: str) -> str:
    return item.strip().casefold()


class CompletionPrompts(PromptSet):
    """The texts of one variant that base models continue, for one study.

    Args:
        folder: The variant's, which holds the folder `completion`.
        study: Its name, after which the bank is called.
        templates: All that the study names; without any, as for texts that are measured alone,
            the folder is not needed.
        columns: The columns of a trial.
        variables: The names that templates see.
        base: Folder of the variant that this one extends.

    Raises `ConfigError` where the folder or the bank is missing or broken, and where the variant
    declares what only a chat has.
    """

    prompting = "completion"
    lead = LEAD

    def __init__(
        self,
        folder: Path,
        study: str,
        templates: Collection[str],
        columns: Collection[str],
        variables: Collection[str],
        base: Path | None = None,
    ) -> None:
        super().__init__(folder, needed=bool(templates), base=base)
        self.bank: Bank | None = None
        if not templates:
            return
        own = folder / FOLDER
        if not own.is_dir():
            raise ConfigError(
                f"{own}: no such folder, which models with `prompting: completion` need in every"
                f" variant of {study}. Put the templates {', '.join(sorted(templates))} and the"
                f" examples, {study}.yaml, into it (docs/base_models.md), or leave the variant or"
                " these models out of the run."
            )
        self._refuse_chats()
        self._use(own)
        self._source = own / f"{study}.yaml"
        self.bank = _read(self._source)
        self._check(study, templates, columns, variables)
        self._texts = {example.name: example.texts for example in self.bank.examples}

    @property
    def stop(self) -> tuple[str, ...]:
        return () if self.bank is None else tuple(self.bank.stop)

    def _refuse_chats(self) -> None:
        wording = self.wording
        chats = ("system", "turns", "orders")
        found = [name for name in chats if wording is not None and getattr(wording, name)]
        if found:
            raise ConfigError(
                f"{self.folder / FILE}: declares {', '.join(found)}, which models with `prompting:"
                " completion` cannot be asked with. Leave the variant or these models out of the"
                " run."
            )

    def _check(
        self,
        study: str,
        templates: Collection[str],
        columns: Collection[str],
        variables: Collection[str],
    ) -> None:
        assert self.bank is not None
        if self.bank.item not in columns:
            raise ConfigError(
                f"{self._source}: item: {study} has no column '{self.bank.item}'. Columns:"
                f" {', '.join(columns)}."
            )
        if EXAMPLES in variables:
            raise ConfigError(
                f"{self._source}: {study} has a variable `{EXAMPLES}`, which is what templates for"
                " completion call these. Give the variable in study.yaml another name."
            )
        for example in self.bank.examples:
            if example.texts.keys() != set(templates):
                raise ConfigError(
                    f"{self._source}: examples, {example.name}: `texts` is for"
                    f" {', '.join(sorted(example.texts))}; must be one for each template of"
                    f" {study}: {', '.join(sorted(templates))}."
                )

    def seen(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """The names of a trial's examples, in order.

        Raises `ConfigError` where too few are about other items.
        """
        if self.bank is None:
            return {}
        item = str(trial[self.bank.item])
        names = self.bank.drawn(item)
        if len(names) < self.bank.number:
            raise ConfigError(
                f"{self._source}: `number` is {self.bank.number}, but only {len(names)} examples"
                f" are not about {shortened(item)} itself. Lower it, or add examples of other"
                " items."
            )
        return {EXAMPLES: names}

    def render(
        self, name: str, values: Mapping[str, Any], replies: Sequence[str] = ()
    ) -> tuple[Message, ...]:
        """The text up to where the answer begins, as a bare context.

        Raises `ConfigError` on a broken or empty template, and on one that leaves examples out.
        """
        examples = self._examples(name, values)
        (message,) = super().render(name, {**values, EXAMPLES: examples})
        text = message["content"]
        if not all(example in text for example in examples):
            raise ConfigError(
                f"{self.folder / FOLDER / name}: leaves out `{EXAMPLES}`, of which {self._source}"
                " puts some before each question. Print them, or set `number: 0`."
            )
        return context(text)

    def null_context(
        self, name: str, values: Mapping[str, Any], blank: frozenset[str]
    ) -> tuple[Message, ...]:
        """The text of `render`, examples included, without the trial's own content."""
        own = {**values, EXAMPLES: self._examples(name, values)}
        (message,) = super().null_context(name, own, blank)
        return context(message["content"])

    def _examples(self, template: str, values: Mapping[str, Any]) -> list[str]:
        return [self._texts[example][template] for example in values[EXAMPLES]]

    def digest(self, names: Iterable[str]) -> str:
        """Digest of what the named templates ask, examples and stop texts included."""
        names = list(names)
        templates = super().digest(names)
        if self.bank is None:
            return templates
        bank = self.bank.model_dump(exclude={"examples"})
        examples = [
            [example.name, _plain(example.item), [example.texts[name] for name in names]]
            for example in self.bank.examples
        ]
        return digest({"templates": templates, "bank": bank, "examples": examples})

    def files(self, names: Iterable[str]) -> list[Path]:
        return [*super().files(names), *([] if self.bank is None else [self._source])]

    def few_shot(self) -> dict[str, Any] | None:
        if self.bank is None:
            return None
        return {
            "number": self.bank.number,
            "seed": self.bank.seed,
            "stop": list(self.bank.stop),
            "order": [example.name for example in self.bank.order],
        }


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
