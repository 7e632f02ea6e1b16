"""Prompts of base models: a text that the model continues, after examples of other items.

A variant's folder `completion` holds templates of its own, named as the study's and its turns', and
for each study a bank of examples (`grace.prompts.example_bank`). What they give is a bare context
(`grace.prompts.messages`): a beginning-of-text token and the text, with no chat template.

The examples of a trial are the first `number` of the bank that are not about the trial's own item,
in an order that follows from `seed` alone. It is the same for all trials and replications, so that
conditions of an item differ in nothing but themselves and servers read the examples once; what the
choice of examples does is seen by running another `seed`, in another variant.

Of what makes a chat, a system message is the text's first paragraph, and turns are its lines: each
one's text, what was answered, a line break, the next one's text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from grace.digests import digest
from grace.errors import ConfigError
from grace.prompts.example_bank import EXAMPLES, Bank, FewShotExample, plain_item, read_bank
from grace.prompts.messages import Message, context
from grace.prompts.orders import combinations
from grace.prompts.plain_text import shortened
from grace.prompts.variants import PromptSet
from grace.prompts.wording import FILE, Turn, prompt_text

#: The folder of a variant that holds them.
FOLDER = "completion"
#: Between prompt and option: it belongs to the option, as tokenisers join a space to its word.
LEAD = " "


class CompletionPrompts(PromptSet):
    """The texts of one variant that base models continue, for one study.

    Args:
        folder: The variant's, which holds the folder `completion`.
        study: Its name, after which the bank is called.
        templates: All that the study names; without any, as for texts that are measured alone,
            the folder is not needed.
        columns: The columns of a trial.
        variables: The names that templates see.
        variant_folder: The folder of any variant, by its name; by default one beside this.

    Raises `ConfigError` where the folder or the bank is missing or broken, and for an example that
    cannot be asked or answered as the variant's templates do it.
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
        variant_folder: Callable[[str], Path] | None = None,
    ) -> None:
        find = variant_folder or (lambda name: folder.parent / name)
        super().__init__(folder, needed=bool(templates), find=find)
        self.bank: Bank | None = None
        if not templates:
            return
        extended = self.wording.extends if self.wording else None
        homes = [one / FOLDER for one in (folder, *([find(extended)] if extended else []))]
        found = [home for home in homes if home.is_dir()]
        if not found:
            raise ConfigError(
                f"{homes[0]}: no such folder, which models with `prompting: completion` need in"
                f" every variant of {study}. Put the templates {', '.join(sorted(templates))} and"
                f" the examples, {study}.yaml, into it (docs/base_models.md), or leave the variant"
                " or these models out of the run."
            )
        self._use(*found)
        banks = [home / f"{study}.yaml" for home in found]
        self._source = next((bank for bank in banks if bank.is_file()), banks[0])
        self.bank, self._bank_files = read_bank(
            self._source, lambda name: find(name) / FOLDER / f"{study}.yaml"
        )
        orders = self.wording.orders.get(study) if self.wording else None
        self._lists = tuple(orders.lists) if orders else ()
        #: Every order in which options can be listed, as what templates see.
        self._all_orders = combinations(orders) if orders else [{}]
        self._example = lru_cache(None)(self._composed)
        self._check(study, templates, columns, variables)

    @property
    def stop(self) -> tuple[str, ...]:
        return () if self.bank is None else tuple(self.bank.stop)

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
        if EXAMPLES in {*variables, *self._lists}:
            where = f"{self.folder / FILE}: orders" if EXAMPLES in self._lists else "study.yaml"
            raise ConfigError(
                f"{self._source}: {study} has a variable `{EXAMPLES}`, which is what templates for"
                f" completion call these. Give the variable another name in {where}."
            )
        for example in self.bank.examples:
            for name in sorted(example.values.keys() & set(self._lists)):
                raise ConfigError(
                    f"{self._source}: examples, {example.name}: values: {name} is what"
                    f" {self.folder / FILE} calls an order of options. Give the value another name."
                )
        if self.bank.answers.keys() != set(templates):
            raise ConfigError(
                f"{self._source}: `answers` is for {', '.join(sorted(self.bank.answers))}; must be"
                f" one for each template of {study}: {', '.join(sorted(templates))}."
            )
        for template in sorted(templates):
            self._check_turns(template)
            for example in self.bank.examples:
                for order in self._all_orders:
                    self._example(template, example.name, tuple(map(tuple, order.values())))

    def _check_turns(self, template: str) -> None:
        """Raise `ConfigError` where answers do not fit a template's turns."""
        assert self.bank is not None
        for reply in (turn.reply for turn in self.turns(template) if turn.reply is not None):
            stop = next((one for one in self.stop if one in reply), None)
            if stop is not None:
                raise ConfigError(
                    f"{self.folder / FILE}: turns.{template}: the reply {shortened(reply)}"
                    f" holds {stop!r}, before which answers end in a text that a model continues."
                    f" Take it out, or change `stop` in {self._source}."
                )
        answers, asked = self.bank.answers[template], self.asked(template)
        if len(asked) == 1 and isinstance(answers, str):
            return
        names = [str(turn.name) for turn in asked]
        if len(asked) > 1 and isinstance(answers, dict) and answers.keys() == set(names):
            return
        needed = (
            f"an answer for each turn that the model answers: {', '.join(names)}"
            if len(asked) > 1
            else "a text, since the model answers one turn of it"
        )
        raise ConfigError(f"{self._source}: answers.{template}: must be {needed}.")

    def _answer(self, template: str, turn: Turn) -> str:
        """What answers one turn in examples, in the language of templates."""
        assert self.bank is not None
        answers = self.bank.answers[template]
        return answers if isinstance(answers, str) else answers[str(turn.name)]

    def _composed(self, template: str, name: str, orders: tuple[Any, ...]) -> str:
        """An example's questions and answers in the place of one of the study's templates."""
        assert self.bank is not None
        example = next(one for one in self.bank.examples if one.name == name)
        values = {**example.values, **dict(zip(self._lists, orders, strict=True)), EXAMPLES: ()}
        parts = []
        try:
            for turn in self.turns(template):
                reply = turn.reply or self._answered(template, turn, values)
                parts.append((self.turn_text(turn.template, values), reply))
            return prompt_text(_transcript(parts))
        except (ConfigError, ValueError) as error:
            raise ConfigError(
                f"{self._source}: examples, {name}, asked by {template}: {error}"
            ) from None

    def _answered(self, template: str, turn: Turn, values: Mapping[str, Any]) -> str:
        """Raises `ValueError` for an answer that cannot be one."""
        text = self._templates.fill(self._answer(template, turn), values).rstrip()
        if not text:
            raise ValueError("the answer is empty")
        stop = next((stop for stop in self.stop if stop in text), None)
        if stop is not None:
            raise ValueError(f"the answer holds {stop!r}, before which answers end (`stop`)")
        return text

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
        """The text up to where the next answer begins, as a bare context.

        Raises `ConfigError` on a broken or empty template, and on one that leaves examples out.
        """
        examples = self._examples(name, values)
        text = self._continued(name, self.turn_text, values, examples, replies)
        if not all(example in text for example in examples):
            raise ConfigError(
                f"{self.folder / FOLDER / self.turns(name)[0].template}: leaves out `{EXAMPLES}`,"
                f" of which {self._source} puts some before each question. Print them, or set"
                " `number: 0`."
            )
        return context(text)

    def null_context(
        self, name: str, values: Mapping[str, Any], blank: frozenset[str]
    ) -> tuple[Message, ...]:
        """The text of `render`, examples included, without the trial's own content."""

        def text(template: str, given: Mapping[str, Any]) -> str:
            return self.turn_without(template, given, blank)

        return context(self._continued(name, text, values, self._examples(name, values)))

    def _continued(
        self,
        name: str,
        turn_text: Callable[[str, Mapping[str, Any]], str],
        values: Mapping[str, Any],
        examples: Sequence[str],
        replies: Sequence[str] = (),
    ) -> str:
        """System message, examples and turns as one text. Later turns see no examples."""
        parts = []
        for place, (turn, reply) in enumerate(self.exchanges(name, replies)):
            given = {**values, EXAMPLES: () if place else tuple(examples)}
            parts.append((turn_text(turn.template, given), reply))
        system = [message["content"] for message in self._system()]
        return "\n\n".join([*system, _transcript(parts)])

    def _examples(self, template: str, values: Mapping[str, Any]) -> list[str]:
        if self.bank is None:
            return []
        orders = tuple(tuple(values[name]) for name in self._lists)
        return [self._example(template, example, orders) for example in values[EXAMPLES]]

    def digest(self, names: Iterable[str]) -> str:
        """Digest of what the named templates ask, examples and stop texts included."""
        names = list(names)
        templates = super().digest(names)
        if self.bank is None:
            return templates
        bank = self.bank.model_dump(include={"item", "number", "seed", "stop"})
        examples = [
            [example.name, plain_item(example.item), self._texts(example, names)]
            for example in self.bank.examples
        ]
        return digest({"templates": templates, "bank": bank, "examples": examples})

    def _texts(self, example: FewShotExample, names: Iterable[str]) -> list[str]:
        """An example in the place of each template, in every order of options."""
        orders = [tuple(map(tuple, order.values())) for order in self._all_orders]
        return [self._example(name, example.name, order) for name in names for order in orders]

    def files(self, names: Iterable[str]) -> list[Path]:
        return [*super().files(names), *([] if self.bank is None else self._bank_files)]

    def few_shot(self) -> dict[str, Any] | None:
        if self.bank is None:
            return None
        return {
            "number": self.bank.number,
            "seed": self.bank.seed,
            "stop": list(self.bank.stop),
            "order": [example.name for example in self.bank.order],
        }


def _transcript(parts: Iterable[tuple[str, str | None]]) -> str:
    """Questions and their answers as one text; it ends with a question that has none yet.

    An answer that begins with white space stands as it is; others have `LEAD` before them.
    """
    pieces = chain.from_iterable(
        (question, "" if reply is None else _led(reply) + "\n") for question, reply in parts
    )
    return "".join(pieces).rstrip()


def _led(reply: str) -> str:
    reply = reply.rstrip()
    return reply if not reply or reply[0].isspace() else LEAD + reply
