"""Prompt wordings: Jinja2 templates in config/prompts/<variant>/.

A template renders to the one user message of a chat. Templates may include others; names that
start with an underscore are only included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta

from grace.digests import digest
from grace.errors import ConfigError

#: Rendered prompts that are kept.
_KEPT = 1024


class PromptSet:
    """The templates of one variant. Raises `ConfigError` where the folder does not exist."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            known = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
            raise ConfigError(
                f"config: unknown variant '{folder.name}' in `variants`: {folder} is no folder."
                f" Prompt variants here: {', '.join(known) or 'none'}."
            )
        self.variant = folder.name
        self._loader = jinja2.FileSystemLoader(folder)
        self._environment = jinja2.Environment(
            loader=self._loader,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            auto_reload=False,
        )
        self._folder = folder
        # Trials repeat each other's prompts.
        self._text = lru_cache(_KEPT)(self._rendered)

    def _source(self, name: str) -> str:
        try:
            return self._loader.get_source(self._environment, name)[0]
        except jinja2.TemplateNotFound:
            raise ConfigError(
                f"{self._folder}: the template {name} is missing; every variant needs it."
            ) from None

    def render(self, name: str, values: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
        """The chat messages of one prompt. Raises `ConfigError` on a broken template."""
        return ({"role": "user", "content": self._text(name, tuple(values.items()))},)

    def _rendered(self, name: str, values: tuple[tuple[str, Any], ...]) -> str:
        try:
            text = self._environment.get_template(name).render(values)
        except jinja2.TemplateNotFound as error:
            raise ConfigError(f"{self._folder}: the template {error.name} is missing.") from None
        except jinja2.TemplateError as error:
            raise ConfigError(
                f"{self._folder}/{name}: {error}. Values a template may use:"
                f" {', '.join(sorted(dict(values)))}."
            ) from None
        return text.strip()

    def digest(self, names: Iterable[str]) -> str:
        """Digest of the named templates and all that they include."""
        return digest(self._sources(names))

    def files(self, names: Iterable[str]) -> list[Path]:
        """The files of the named templates and of all that they include."""
        return [self._folder / name for name in sorted(self._sources(names))]

    def _sources(self, names: Iterable[str]) -> dict[str, str]:
        sources: dict[str, str] = {}
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in sources:
                continue
            sources[name] = self._source(name)
            try:
                tree = self._environment.parse(sources[name])
            except jinja2.TemplateSyntaxError as error:
                raise ConfigError(f"{self._folder}/{name}, line {error.lineno}: {error}") from None
            pending += [found for found in jinja2.meta.find_referenced_templates(tree) if found]
        return sources
