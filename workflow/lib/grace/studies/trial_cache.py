"""Trials that were read from stimuli once, kept for the process and between processes.

Patterns of a declaration may hold what a row holds, and then each row has its own; reading study 2
takes two seconds, most of a dry-run. An entry is named by all that trials follow from: the text,
the declaration, and the code that reads them. Only trials without a problem are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import jinja2

from grace import understood
from grace.digests import digest
from grace.source_code import LIBRARY, closure, joined_digest
from grace.studies.asking import StudyDesign
from grace.studies.trials import Trial

#: A trial and its row, counted as a spreadsheet does.
Numbered = tuple[int, Trial]
#: Trials of a file that is kept between processes; fewer are read as soon.
LEAST = 50
#: Files that are kept, and texts in a process.
MOST = 30
_PREFIX = "trials-"

_read: dict[str, tuple[Numbered, ...]] = {}


def remembered(
    text: str, study: StudyDesign, read: Callable[[], list[Numbered]], library: Path = LIBRARY
) -> list[Numbered]:
    """The trials of a stimuli file's `text`; from `read`, with what it raises, if not known yet."""
    key = digest([_code(), _declared(study), text])
    if key not in _read:
        path = understood.path_of(library, f"{_PREFIX}{key}.json")
        found = _from_json(understood.read(path))
        if found is None:
            found = read()
            _write(path, found)
        while len(_read) >= MOST:
            del _read[next(iter(_read))]
        _read[key] = tuple(found)
    return list(_read[key])


@cache
def _code() -> list[Any]:
    modules = closure(["studies/stimuli.py", "studies/study.py"])
    return [sys.version_info[:3], jinja2.__version__, joined_digest(modules)]


@lru_cache(MOST)
def _declared(study: StudyDesign) -> str:
    return study.declaration.model_dump_json()


def _from_json(kept: Any) -> list[Numbered] | None:
    if kept is None:
        return None
    return [(number, Trial(values, derived)) for number, values, derived in kept]


def _write(path: Path, trials: list[Numbered]) -> None:
    written = [[number, trial.row(), dict(trial.derived)] for number, trial in trials]
    # JSON has no tuples, and keys of texts alone: what it would give back otherwise is not kept.
    if len(trials) < LEAST or not _is_plain(written):
        return
    understood.write(path, written)
    with suppress(OSError):
        kept = sorted(path.parent.glob(f"{_PREFIX}*.json"), key=lambda one: one.stat().st_mtime)
        for old in kept[:-MOST]:
            old.unlink(missing_ok=True)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return value is None or type(value) in (str, int, float, bool)
