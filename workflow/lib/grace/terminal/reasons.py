"""Why a job runs, in words: Snakemake's reason shows params as Python's or R's raw values.

What is read here is Snakemake's own `Reason` of a job; where it holds something else than
expected, the words only become more general.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any

#: Files that are named in a reason, and characters of a setting's value.
MOST_FILES, MOST_VALUE = 2, 30
#: Keys of output configurations that hold digests, and what an edit of that is called.
_DIGESTS = {
    "asks": "the study's study.yaml was edited",
    "reads": "the study's study.yaml was edited",
    "declaration": "the study's study.yaml was edited",
    "stimuli": "the stimuli were edited",
    "code": "Grace's code has changed",
    "files": "a bundled file has changed",
    "weights": "the model's files have changed",
}
_SETTINGS = "its settings have changed"


def words(reason: Any) -> str:
    """Why a job runs, by Snakemake's `Reason`; "" if only since jobs before it do."""
    if reason.forced:
        return "asked for on the command line (forced)"
    found = []
    missing = _files(reason, "_missing_output")
    if missing:
        found.append("no output yet")
    if _files(reason, "_incomplete_output"):
        found.append("its last run was interrupted")
    if not missing:
        found += _changes(reason)
    newer = _files(reason, "_updated_input") - _files(reason, "_updated_input_run")
    if newer:
        found.append(f"edited since: {_named(newer)}")
    if not found and (reason.noio or reason.nooutput):
        found.append("asked for")
    return "; ".join(dict.fromkeys(found))


def _files(reason: Any, name: str) -> set[str]:
    """What one of its slots holds, which Snakemake fills when it needs it."""
    return {str(file) for file in getattr(reason, name, None) or ()}


def _named(files: set[str]) -> str:
    names = sorted(files)
    more = f" and {len(names) - MOST_FILES} more" if len(names) > MOST_FILES else ""
    return ", ".join(names[:MOST_FILES]) + more


def _changes(reason: Any) -> Iterator[str]:
    if reason.params_changed:
        old, new = reason.params_changed.only_old, reason.params_changed.only_new
        yield from of_params(old, new)
    if reason.input_changed and not reason.params_changed:
        yield "other input files than before"
    if reason.code_changed:
        yield _DIGESTS["code"]
    if reason.software_stack_changed:
        yield "its software environment has changed"


def of_params(old: Iterable[str], new: Iterable[str]) -> list[str]:
    """What has changed between params that Snakemake keeps as Python's text of their values."""
    before, after = [_dict(text) for text in sorted(old)], [_dict(text) for text in sorted(new)]
    found: list[str] = []
    for was in before:
        # The one that it has become is the one whose keys are most alike.
        alike = [now for now in after if was and now and _likeness(was, now) > 0.5]
        if was and alike:
            now = max(alike, key=lambda one: _likeness(was, one))
            found += _differences(was, now)
    return list(dict.fromkeys(found)) or [_SETTINGS]


def _dict(text: str) -> dict[str, Any]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else {}


def _likeness(one: dict[str, Any], other: dict[str, Any]) -> float:
    return len(one.keys() & other.keys()) / max(1, len(one.keys() | other.keys()))


def _differences(
    old: dict[str, Any], new: dict[str, Any], within: tuple[str, ...] = ()
) -> Iterator[str]:
    if {"digest", "modules"} <= old.keys() & new.keys():
        yield _DIGESTS["code"]
        return
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key), new.get(key)
        if was == now:
            continue
        path = (*within, str(key))
        if isinstance(was, dict) and isinstance(now, dict) and key not in _DIGESTS:
            yield from _differences(was, now, path)
        elif within[-1:] == ("prompts",) and was is not None and now is not None:
            yield f"prompts of variant '{key}' were edited"
        elif key in _DIGESTS:
            yield _DIGESTS[key]
        else:
            name = ".".join(path)
            if key not in new:
                yield f"{name} is gone"
            else:
                yield _setting(name, was, now) if key in old else f"{name} is new"


def _setting(name: str, was: object, now: object) -> str:
    values = [_value(was), _value(now)]
    if any(len(text) > MOST_VALUE for text in values):
        return f"{name} has changed"
    return f"{name} was {values[0]}, is {values[1]}"


def _value(value: object) -> str:
    return value if isinstance(value, str) and value else repr(value)
