"""From study.yaml to a study; what is wrong in it, with its file, line and key.

The reader of all YAML files reads it, then its models, then what no model alone can see: names
that lead nowhere, patterns that match none of the examples, options that are equal.
"""

from __future__ import annotations

from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from grace.errors import ConfigError
from grace.settings.explain import explain
from grace.settings.yaml_reader import parse_yaml, read_text
from grace.studies.declaration import STUDY_NAME, Declaration
from grace.studies.soundness import findings
from grace.studies.study import Study

FILE = "study.yaml"
#: Mistakes that are shown at once.
SHOWN = 20


class _Lines:
    """The lines of a file's keys."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _tree(self) -> Any:
        return yaml.compose(self._text, Loader=yaml.SafeLoader)

    def of(self, place: tuple[int | str, ...]) -> int:
        """The line of a key, or of the nearest one above it that is there; the first is 1."""
        node, line = self._tree, 1
        for part in place:
            if isinstance(node, yaml.MappingNode):
                pairs = [pair for pair in node.value if pair[0].value == str(part)]
                if not pairs:
                    continue
                line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
            elif isinstance(node, yaml.SequenceNode) and str(part) in map(
                str, range(len(node.value))
            ):
                node = node.value[int(part)]
                line = node.start_mark.line + 1
        return line


def read_study(folder: Path, shown: str, root: Path | None = None) -> Study:
    """The study of a folder; `shown` is the folder as the user names it. Raises `ConfigError`.

    `root` is where Grace lies, for a study that comes with it.
    """
    name = folder.name
    if not STUDY_NAME.fullmatch(name):
        raise ConfigError(
            f"{shown}: a study is called as its folder, and '{name[:60]}' is no name: it must"
            " consist of small letters, digits, '-' and '_', begin with a letter and have at most"
            " 40 characters. Rename the folder."
        )
    source = f"{shown}/{FILE}"
    try:
        text = read_text(folder / FILE)
    except FileNotFoundError:
        raise ConfigError(
            f"{source}: no such file. A study is a folder with a {FILE}; `snakemake new_study"
            " --config name=my-study` writes one to begin with."
        ) from None
    values = parse_yaml(text, source)
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: must hold keys with values; see docs/studies.md.")
    lines = _Lines(text)
    try:
        declaration = Declaration.model_validate(values)
    except ValidationError as error:
        raise explain(
            lambda place: f"{source}, line {lines.of(place)}", error, Declaration
        ) from None
    try:
        study = Study(name, folder, declaration, source, root)
    except ConfigError as error:
        raise _placed(error, source, lines) from None
    found = [
        f"{source}, line {lines.of(tuple(place.split('.')))}: key '{place}': {what}."
        for place, what in islice(findings(study), SHOWN)
    ]
    if found:
        raise ConfigError("\n".join(found))
    return study


def _placed(error: ConfigError, source: str, lines: _Lines) -> ConfigError:
    """`study.yaml: a.b.c: what` with the line of a.b.c."""
    key, _, what = str(error).removeprefix(f"{source}: ").partition(": ")
    parts: list[Any] = key.split(".")
    return ConfigError(f"{source}, line {lines.of(tuple(parts))}: key '{key}': {what}")
