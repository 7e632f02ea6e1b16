"""What pods of one model on one tag have that others have not, as a table that people can read.

A field is named by the shortest end of its path that says which fields are meant: `memory` where
all that are called so have this value, `limits.memory` where the requests' differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

Fields = dict[tuple[str, ...], str]
#: Parts of a pod that are shown whole.
WHOLE = ("affinity", "command")
ALL = "all"
"""Row of a tag with what is the same for all models on it."""


def fields(jobs: Mapping[str, Any], model: str, tag: str) -> Fields:
    """Every value of some Jobs by its path, as JSON; the model's and the tag's name stand apart."""

    def walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
        value = _by_name(value) if isinstance(value, list) else value
        if isinstance(value, dict) and value and (not path or path[-1] not in WHOLE):
            for key, inner in value.items():
                yield from walk(inner, (*path, key))
        else:
            text = json.dumps(value, sort_keys=True)
            for name, mark in ((model, "<model>"), (tag, "<tag>")):
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", mark, text)
            yield path, text

    return dict(walk(dict(jobs), ()))


def _by_name(values: list[Any]) -> Any:
    """A list of things with names of their own by name, any other as it is."""
    names = [one["name"] for one in values if isinstance(one, dict) and "name" in one]
    own = values and len({*names}) == len(values)
    return {one["name"]: one for one in values} if own else values


def differences(base: Fields, made: Fields) -> dict[str, Any]:
    """The fields that are not as in `base`; null for those that are gone."""
    paths = base.keys() | made.keys()
    found: dict[str, Any] = {}
    for path in sorted(paths):
        value = made.get(path)
        if base.get(path) == value:
            continue
        ends = (path[-length:] for length in range(1, len(path) + 1))
        end = next(
            end
            for end in ends
            if all(made.get(other) == value for other in paths if other[-len(end) :] == end)
        )
        found[".".join(end)] = None if value is None else json.loads(value)
    return found


def tag_rows(by_model: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Differences of each model on a tag, with those that all share in a row of their own."""
    rows = list(by_model.values())
    common = {
        key: value
        for key, value in (rows[0].items() if rows else ())
        if all(key in one and one[key] == value for one in rows)
    }
    own = {
        model: {key: value for key, value in one.items() if key not in common}
        for model, one in by_model.items()
    }
    return {ALL: common, **own}


def text(head: Sequence[str], table: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The table by cluster, tag and row: a line each, and one for every field of the row `all`."""
    lines = [f"# {line}" for line in head]
    for cluster, tags in table.items():
        lines.append(f"{cluster}:")
        for tag, rows in tags.items():
            lines.append(f"  {tag}:")
            for name, row in rows.items():
                if name == ALL and row:
                    lines += [f"    {name}:", *(f"      {_line({key: row[key]})}" for key in row)]
                else:
                    lines.append(f"    {_line({name: row})}")
    return "\n".join([*lines, ""])


def _line(entry: Mapping[str, Any]) -> str:
    """A mapping of one key as a line of YAML."""
    shown = yaml.safe_dump(dict(entry), default_flow_style=True, width=10**6).rstrip()
    return str(shown.removeprefix("{").removesuffix("}"))
