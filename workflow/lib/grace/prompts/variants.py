"""Prompt variants: Jinja2 templates in config/prompts/<variant>/.

A template renders to the one user message of a chat, unless the variant's `variant.yaml`
(`grace.prompts.wording`) declares several turns, a system message, or orders of options. Templates
may include others; names that start with an underscore are only included. What they may hold is in
`grace.prompts.templates`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from grace.digests import digest
from grace.errors import ConfigError
from grace.prompts.messages import Message
from grace.prompts.orders import OptionOrder, counterbalanced
from grace.prompts.templates import Templates
from grace.prompts.wording import FILE, Turn, Wording, read_wording

#: Rendered prompts that are kept.
_KEPT = 1024


class PromptSet:
    """The templates of one variant. Raises `ConfigError` where a `needed` folder is not there.

    `find` gives the folder of the variant that it extends, by its name; by default one beside it.
    """

    #: How models are asked with it: `prompting` of their entries.
    prompting = "chat"
    #: What stands between a prompt and an option that is scored after it.
    lead = ""

    def __init__(
        self,
        folder: Path,
        *,
        needed: bool = True,
        find: Callable[[str], Path] | None = None,
    ) -> None:
        if needed and not folder.is_dir():
            known = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
            raise ConfigError(
                f"config: unknown variant '{folder.name}' in `variants`: {folder} is no folder."
                f" Prompt variants here: {', '.join(known) or 'none'}."
            )
        self.variant = folder.name
        self.folder = folder
        declared = read_wording(folder)
        #: What variant.yaml says, with what it takes over from another variant; None without one.
        self.wording = declared
        folders = [folder]
        if declared is not None and declared.extends is not None:
            base = find(declared.extends) if find else folder.parent / declared.extends
            self.wording = declared.over(_extended(folder, base, declared.extends))
            folders.append(base)
        self._orders: dict[tuple[str, ...], OptionOrder] = {}
        self._use(*folders)

    def _use(self, *folders: Path) -> None:
        """Take templates from these folders."""
        self._templates = Templates(*folders)
        self._without = lru_cache(None)(self._templates.without)
        # Trials repeat each other's prompts.
        self._text = lru_cache(_KEPT)(self._rendered)
        self._blank_text = lru_cache(_KEPT)(self._rendered_without)

    @property
    def stop(self) -> tuple[str, ...]:
        """Experiment 1: the texts before which an answer ends; none in a chat."""
        return ()

    def seen(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """What templates see of a trial's row beside the study's variables, and records hold."""
        return {}

    def few_shot(self) -> dict[str, Any] | None:
        """What a record of a run says of the examples before questions; None without any."""
        return None

    def turns(self, template: str) -> tuple[Turn, ...]:
        """The user turns that stand in a template's place: mostly the template itself alone."""
        declared = self.wording.turns.get(template) if self.wording else None
        return tuple(declared or (Turn(template=template),))

    def asked(self, template: str) -> tuple[Turn, ...]:
        """Those of the turns that the model answers itself."""
        return tuple(turn for turn in self.turns(template) if turn.reply is None)

    def render(
        self, name: str, values: Mapping[str, Any], replies: Sequence[str] = ()
    ) -> tuple[Message, ...]:
        """A chat up to the turn after the model's `replies` so far, that turn included.

        Raises `ConfigError` on a broken or empty template.
        """
        messages = self._system()
        for turn, reply in self.exchanges(name, replies):
            messages.append({"role": "user", "content": self.turn_text(turn.template, values)})
            if reply is not None:
                messages.append({"role": "assistant", "content": reply})
        return tuple(messages)

    def null_context(
        self, name: str, values: Mapping[str, Any], blank: frozenset[str]
    ) -> tuple[Message, ...]:
        """The chat of `render` that says "N/A" wherever it prints one of the values `blank`.

        A value that decides which part of a template is printed still does. Raises `ConfigError`.
        """
        messages = self._system()
        for turn, reply in self.exchanges(name):
            text = self.turn_without(turn.template, values, blank)
            messages.append({"role": "user", "content": text})
            if reply is not None:
                messages.append({"role": "assistant", "content": reply})
        return tuple(messages)

    def exchanges(self, name: str, replies: Sequence[str] = ()) -> list[tuple[Turn, str | None]]:
        """The turns up to the one that is asked after the model's `replies`, with their answers.

        The last one has None: it is the turn that is asked.
        """
        found: list[tuple[Turn, str | None]] = []
        left = list(replies)
        for turn in self.turns(name):
            if turn.reply is None and not left:
                return [*found, (turn, None)]
            found.append((turn, left.pop(0) if turn.reply is None else turn.reply))
        return found

    def turn_text(self, template: str, values: Mapping[str, Any]) -> str:
        """What the template of one turn gives. Raises `ConfigError`."""
        return self._text(template, tuple((key, _hashable(one)) for key, one in values.items()))

    def turn_without(self, template: str, values: Mapping[str, Any], blank: frozenset[str]) -> str:
        """What the template of one turn gives that prints "N/A" for the values `blank`."""
        _, read = self._without(template, blank)
        given = ((key, _hashable(one)) for key, one in values.items() if key in read)
        return self._blank_text(template, tuple(given), blank)

    def _system(self) -> list[Message]:
        if self.wording is None or self.wording.system is None:
            return []
        return [{"role": "system", "content": self.wording.system}]

    def _rendered(self, name: str, values: tuple[tuple[str, Any], ...]) -> str:
        return self._templates.render(name, dict(values))

    def _rendered_without(
        self, name: str, values: tuple[tuple[str, Any], ...], blank: frozenset[str]
    ) -> str:
        templates, _ = self._without(name, blank)
        return templates.render(name, dict(values))

    def counterbalance(
        self, study: str, key: Sequence[str], trials: Iterable[Mapping[str, Any]]
    ) -> None:
        """Give the study's trials, of which `key` are the identifying columns, their orders.

        Nothing where the variant declares none. Raises `ConfigError` for a column that is none.
        """
        orders = self.wording.orders.get(study) if self.wording else None
        if orders is None:
            return
        rows = list(trials)
        for name in orders.within:
            if rows and name not in rows[0]:
                raise ConfigError(
                    f"{self.folder / FILE}: orders.{study}.within: {study} has no column '{name}'."
                    f" Columns: {', '.join(rows[0])}."
                )
        cells = [[row[name] for name in orders.within] for row in rows]
        names = [tuple(str(row[name]) for name in key) for row in rows]
        self._orders = dict(zip(names, counterbalanced(orders, study, cells), strict=True))

    def order(self, key: Iterable[Any]) -> OptionOrder | None:
        """In which order the options of a trial are listed, by its key; None for no such thing.

        `counterbalance` was given the trials before.
        """
        return self._orders[tuple(map(str, key))] if self._orders else None

    def facts(self) -> dict[str, Any] | None:
        """What a record of a run says of the wording; None for a plain one."""
        return self.wording.model_dump(exclude_defaults=True) if self.wording else None

    def digest(self, names: Iterable[str]) -> str:
        """Digest of what the named templates ask: of all that they include, and of variant.yaml.

        A variant without that file has the digest of its templates' texts. Raises `ConfigError`.
        """
        names = list(names)
        sources: dict[str, Any] = self._templates.sources(self._files(names))
        if self.wording is not None:
            own = self.wording.model_dump(include={"system", "orders"}, exclude_defaults=True)
            turns = {
                name: [turn.model_dump(exclude_none=True) for turn in self.turns(name)]
                for name in names
                if name in self.wording.turns
            }
            if own or turns:
                sources = {**sources, FILE: {**own, "turns": turns}}
        return digest(sources)

    def files(self, names: Iterable[str]) -> list[Path]:
        """The files of the named templates, all that they include, and variant.yaml.

        Raises `ConfigError`.
        """
        found = sorted(self._templates.sources(self._files(names)))
        own = self.folder / FILE
        return [*map(self._templates.path, found), *([own] if own.is_file() else [])]

    def _files(self, names: Iterable[str]) -> list[str]:
        """The templates behind those that a study names."""
        return list(dict.fromkeys(turn.template for name in names for turn in self.turns(name)))


def _extended(folder: Path, base: Path, name: str) -> Wording:
    """What the variant that another extends declares. Raises `ConfigError`."""
    if not base.is_dir() or base.resolve() == folder.resolve():
        raise ConfigError(
            f"{folder / FILE}: extends: '{name}' is no other variant here. Name the folder of one"
            " beside this."
        )
    declared = read_wording(base) or Wording()
    if declared.extends is not None:
        raise ConfigError(
            f"{folder / FILE}: extends: '{name}' extends '{declared.extends}' itself. Name that, or"
            " copy the folder."
        )
    return declared


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
