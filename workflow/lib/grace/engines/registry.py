"""The engines that there are: every folder here that has an `engine.py`, by its name.

Nothing lists them, so that adding one touches no other file. A module is imported when its engine
is first asked about.
"""

from __future__ import annotations

import importlib
from collections.abc import Container
from functools import cache
from pathlib import Path

from grace.engines.spec import IDENTITY, EngineSpec
from grace.errors import EngineError

FOLDER = Path(__file__).parent
#: The module of a folder that makes it an engine.
MODULE = "engine"
EXPERIMENTS = ("exp1", "exp2")


@cache
def names() -> tuple[str, ...]:
    """All engines, in order; no module is imported for it."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{MODULE}.py")))


@cache
def spec(name: str) -> EngineSpec:
    """What an engine says of itself. Raises `EngineError` where its folder does not say it so."""
    where = f"{FOLDER / name / MODULE}.py"
    try:
        module = importlib.import_module(f"{__package__}.{name}.{MODULE}")
    except Exception as error:  # anything that a module which somebody adds can do
        what = f"{type(error).__name__}: {error}"
        raise EngineError(f"{where}: it cannot be imported: {what}.") from error
    found = [
        one
        for one in vars(module).values()
        if isinstance(one, type)
        and issubclass(one, EngineSpec)
        and one.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise EngineError(f"{where}: must hold one subclass of EngineSpec, but holds {len(found)}.")
    problem = _problem(found[0], name)
    if problem:
        raise EngineError(f"{where}: {problem}.")
    return found[0]()


def own_keys(known: Container[str]) -> dict[str, list[str]]:
    """The engines that may be given each key of an entry that is not for all of them.

    Raises `EngineError` where one is not among those `known`.
    """
    found: dict[str, list[str]] = {}
    for name in names():
        for key in sorted(spec(name).own_keys):
            if key not in known:
                where = f"{FOLDER / name / MODULE}.py"
                raise EngineError(f"{where}: `own_keys` names {key}, which no entry has.")
            found.setdefault(key, []).append(name)
    return found


def _problem(one: type[EngineSpec], name: str) -> str | None:
    """What is wrong in an engine's class; None where nothing is."""
    if getattr(one, "name", None) != name:
        return f"`name` is {getattr(one, 'name', None)!r}, but must be its folder's, '{name}'"
    missing = sorted(one.__abstractmethods__)
    if missing:
        return f"{one.__name__} lacks the methods {', '.join(missing)}"
    versions = getattr(one, "answer_version", {})
    for experiment in EXPERIMENTS:
        version = versions.get(experiment)
        if type(version) is not int or version < 1:
            return f"`answer_version` must give {experiment} a number from 1, such as 1"
        if experiment not in one.depends_on:
            return f"`depends_on` lacks {experiment}"
        unknown = one.depends_on[experiment] - IDENTITY
        if unknown:
            allowed = ", ".join(sorted(IDENTITY))
            return f"`depends_on` of {experiment} names {', '.join(sorted(unknown))}, not {allowed}"
    absent = [module for module in one.scoring_modules if not (FOLDER / name / module).is_file()]
    if absent:
        return f"`scoring_modules` names {', '.join(absent)}, which its folder does not hold"
    return None
