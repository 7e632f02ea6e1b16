"""Prompt variants: Jinja2 templates in config/prompts/<variant>/.

A template renders to the one user message of a chat. Templates may include others; names that
start with an underscore are only included. What they may hold is in `grace.prompts.templates`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from grace.digests import digest
from grace.errors import ConfigError
from grace.prompts.templates import Templates

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
        self.folder = folder
        self._templates = Templates(folder)
        # Trials repeat each other's prompts.
        self._text = lru_cache(_KEPT)(self._rendered)

    def render(self, name: str, values: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
        """The chat messages of one prompt. Raises `ConfigError` on a broken or empty template."""
        return ({"role": "user", "content": self._text(name, tuple(values.items()))},)

    def _rendered(self, name: str, values: tuple[tuple[str, Any], ...]) -> str:
        return self._templates.render(name, dict(values))

    def digest(self, names: Iterable[str]) -> str:
        """Digest of the named templates and all that they include. Raises `ConfigError`."""
        return digest(self._templates.sources(names))

    def files(self, names: Iterable[str]) -> list[Path]:
        """The files of the named templates and of all that they include. Raises `ConfigError`."""
        return [self.folder / name for name in sorted(self._templates.sources(names))]
