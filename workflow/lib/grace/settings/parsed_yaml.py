"""YAML texts that were parsed before, in this process or another.

Parsing the settings and declarations takes a seventh of a start of Snakemake without it. An entry
is named by its text and by the code that parses; there is one only where nothing was wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from grace import understood
from grace.digests import digest
from grace.source_code import LIBRARY, closure, joined_digest

NAME = "yaml.json"
#: Characters of the shortest text that is kept; fewer are parsed as soon.
LEAST = 2000
#: Texts that are kept, the newest.
MOST = 30


def remembered(text: str, parse: Callable[[], Any], library: Path = LIBRARY) -> Any:
    """The value of a text; from `parse`, with what it raises, if not known yet."""
    if len(text) < LEAST:
        return parse()
    key = digest([_code(), text])
    path = understood.path_of(library, NAME)
    kept = _kept(path)
    if key not in kept:
        kept = dict(list(kept.items())[1 - MOST :])
        kept[key] = parse()
        understood.write(path, kept)
    return kept[key]


def _kept(path: Path) -> dict[str, Any]:
    kept = understood.read(path)
    return kept if isinstance(kept, dict) else {}


@cache
def _code() -> list[Any]:
    modules = closure(["settings/yaml_reader.py"], ["settings/parsed_yaml.py"])
    return [sys.version_info[:3], yaml.__version__, joined_digest(modules)]
