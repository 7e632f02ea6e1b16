"""The reader of every YAML file that a user writes: plain values, within bounds, nothing twice.

YAML lets the last of two equal keys win, reads `1:30` as 90 and `012` as 10, and names a value once
to repeat it a billion times. Here each of these is a mistake with its line.
"""

from __future__ import annotations

import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from grace.errors import ConfigError
from grace.foreign_text import NotUtf8Error, decoded

MAX_BYTES = 256 * 1024
"""Of a file; PyYAML reads so much in three seconds."""
MAX_DEPTH = 20
"""Mappings and lists within each other."""
MAX_NODES = 50_000
"""Keys and values of a file, those that aliases repeat counted each time."""
MAX_TEXT = 20_000
"""Characters of one value."""
MAX_NUMBER = 40
"""Characters of one number."""
SHOWN = 40
"""Characters of a key or number that a message shows."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", re.I)
_TRUE = {"yes", "true", "on"}
_TAG = "tag:yaml.org,2002:"


class _MistakeError(Exception):
    """Something that YAML allows and we do not; the message names the line."""

    def __init__(self, mark: Any, problem: str) -> None:
        super().__init__(f"line {mark.line + 1}: {problem}")


class _Anchored(NamedTuple):
    """What an alias stands for."""

    value: Any
    nodes: int
    height: int


def read_yaml(path: Path) -> Any:
    """The one document of a file, None if it is empty. Raises `ConfigError`."""
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, source: str) -> Any:
    """The one document of a text; messages begin with its `source`. Raises `ConfigError`."""
    try:
        return _Builder(text, _plain_value).document()
    except _MistakeError as error:
        raise ConfigError(f"{source}: {error}.") from None
    except yaml.MarkedYAMLError as error:
        # What else the error holds shows the file's lines, which may hold a secret.
        mark, problem = error.problem_mark, error.problem or error.context
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{source}: not readable as YAML: {where}{problem}.") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        found = character(chr(int(error.character)))
        raise ConfigError(f"{source}: line {line}: holds {found}, which no text needs.") from None


def parse_argument(text: str, source: str) -> Any:
    """What `--config` makes of a value: YAML whose scalars are all texts, else the text itself.

    Raises `ConfigError` for what `parse_yaml` refuses, a number written in a way of its own apart.
    """
    try:
        return _Builder(text, lambda value, _: value).document()
    except _MistakeError as error:
        raise ConfigError(f"{source}: {error}.") from None
    except yaml.YAMLError:
        return text


def read_sheet(path: Path, lists: str) -> Mapping[str, Any]:
    """A YAML file that maps names to entries; `lists` says of what. Raises `ConfigError`."""
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; it lists the {lists}s.") from None
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: must map {lists} keys to entries; see config/README.md.")
    return values


def character(char: str) -> str:
    """A character that cannot be shown, in words."""
    return f"the character U+{ord(char):04X}"


def read_text(path: Path) -> str:
    """A YAML file as text. Raises `FileNotFoundError` and `ConfigError`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path}: not a file.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES // 1024} KiB, which no settings need.")
    try:
        return decoded(data)
    except NotUtf8Error as error:
        raise ConfigError(f"{path}: {error}. Save the file as UTF-8.") from None


def _shown(text: str) -> str:
    """A key or number, short and on one line."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def _plain_value(text: str, mark: Any) -> Any:
    """A scalar without quotation marks, as YAML 1.1 reads it if all read it so."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    candidates = resolvers.get(text[:1], []) + resolvers.get(None, [])
    tag = next((tag for tag, pattern in candidates if pattern.match(text)), "").removeprefix(_TAG)
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() in _TRUE
    if tag in ("int", "float") and len(text) > MAX_NUMBER:
        raise _MistakeError(mark, f"a number of {len(text)} characters; at most {MAX_NUMBER}")
    if tag == "int" and _INTEGER.fullmatch(text):
        return int(text)
    if tag == "float" and _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if tag in ("int", "float"):
        raise _MistakeError(
            mark,
            f"{_shown(text)} is a number in YAML, but another one than it looks like, or to some"
            " programs alone. Write it in plain decimals; a text, in quotation marks",
        )
    if tag == "timestamp":
        raise _MistakeError(
            mark, f"{_shown(text)} is a date in YAML. Write a text in quotation marks"
        )
    if tag in ("merge", "value"):
        raise _MistakeError(
            mark,
            f"{_shown(text)} has a meaning of its own in YAML that is not supported. Write out"
            " what is to be merged; a text, in quotation marks",
        )
    return text


class _Builder:
    """Makes values of the parser's events; recursion is bounded by `MAX_DEPTH`."""

    def __init__(self, text: str, plain: Callable[[str, Any], Any]) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self._plain = plain
        self._anchors: dict[str, _Anchored | None] = {}
        self._nodes = 0

    def document(self) -> Any:
        """The document's value, None if there is none."""
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value, _ = self._node(next(self._events), (), 0)
        next(self._events)
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            raise _MistakeError(
                following.start_mark, "a second document begins; one file holds one. Remove '---'"
            )
        return value

    def _node(self, event: Any, place: tuple[str, ...], depth: int) -> tuple[Any, int]:
        """A value, and how many mappings and lists it holds within each other."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        self._count(event, 1)
        before = self._nodes
        if event.tag is not None:
            raise _MistakeError(
                event.start_mark, "tags ('!') are not supported. Write the plain value"
            )
        if event.anchor is not None:
            if event.anchor in self._anchors:
                raise _MistakeError(
                    event.start_mark, f"the anchor {_shown(event.anchor)} is set twice"
                )
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value, height = self._scalar(event), 0
        else:
            if depth == MAX_DEPTH:
                raise _MistakeError(
                    event.start_mark, f"more than {MAX_DEPTH} mappings and lists in each other"
                )
            mapping = isinstance(event, yaml.MappingStartEvent)
            value, below = (self._mapping if mapping else self._list)(place, depth + 1)
            height = below + 1
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, self._nodes - before + 1, height)
        return value, height

    def _alias(self, event: Any, depth: int) -> tuple[Any, int]:
        if event.anchor not in self._anchors:
            raise _MistakeError(event.start_mark, f"there is no anchor {_shown(event.anchor)}")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise _MistakeError(event.start_mark, f"{_shown(event.anchor)} holds itself")
        self._count(event, anchored.nodes)
        if depth + anchored.height > MAX_DEPTH:
            raise _MistakeError(
                event.start_mark, f"more than {MAX_DEPTH} mappings and lists in each other"
            )
        return anchored.value, anchored.height

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _MistakeError(
                event.start_mark,
                f"more than {MAX_NODES:,} keys and values up to here, with what aliases ('*')"
                " repeat",
            )

    def _list(self, place: tuple[str, ...], depth: int) -> tuple[list[Any], int]:
        values, highest = [], 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            value, height = self._node(event, place, depth)
            values.append(value)
            highest = max(highest, height)
        return values, highest

    def _mapping(self, place: tuple[str, ...], depth: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        highest = 0
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            mark = event.start_mark
            key = self._key(event, place, depth)
            if key in lines:
                full = ".".join((*place, key))
                raise _MistakeError(
                    mark,
                    f"the key {_shown(full)} stands there again; it is in line {lines[key]}"
                    " already. Remove one of them",
                )
            lines[key] = mark.line + 1
            values[key], height = self._node(next(self._events), (*place, key), depth)
            highest = max(highest, height)
        return values, highest

    def _key(self, event: Any, place: tuple[str, ...], depth: int) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _MistakeError(event.start_mark, "a key must be a plain text")
        key, _ = self._node(event, place, depth)
        if not isinstance(key, str):
            raise _MistakeError(
                event.start_mark,
                f"the key {_shown(event.value)} is no text in YAML. Write it in quotation marks",
            )
        return key

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if len(text) > MAX_TEXT:
            kind = "number" if text.isdecimal() else "text"
            raise _MistakeError(
                event.start_mark, f"a {kind} of {len(text):,} characters; at most {MAX_TEXT:,}"
            )
        for char in text:
            if unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t":
                raise _MistakeError(
                    event.start_mark, f"a text holds {character(char)}, which no settings need"
                )
        return self._plain(text, event.start_mark) if event.implicit[0] else text
