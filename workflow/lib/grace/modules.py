"""The library modules behind each output. Their digest says whether its code has changed."""

from __future__ import annotations

from functools import lru_cache
from typing import TypedDict

from grace.digests import code_digests, digest
from grace.engines import MODULES as ENGINE_MODULES
from grace.engines import SCORING_MODULES

#: Modules that every job imports and that cannot change a byte of a result.
INERT = (
    "config.py",  # its values enter through the cells
    "engines/journaled.py",  # gives back what an engine gave
    "errors.py",
    "modules.py",
    "progress.py",
    "provenance.py",
    "serving/holder.py",
    "serving/processes.py",
    "serving/rundir.py",
    "serving/supervisor.py",
    "serving/warden.py",
)
#: The library's side of each experiment; counts only for its own.
EXPERIMENTS = {"exp1": "generation.py", "exp2": "measurement.py"}


class Code(TypedDict):
    """What is behind an output: names of library modules or of files in scripts/, and a digest.

    The digest is of them and of all that the modules import.
    """

    of: list[str]
    digest: str


@lru_cache
def sources(*roots: str) -> dict[str, str]:
    """Digests of library modules, by name, and of what they import, by path."""
    scoring = (module for modules in SCORING_MODULES.values() for module in modules)
    return code_digests(roots, (*INERT, *EXPERIMENTS.values(), *scoring))


def code(*roots: str) -> Code:
    """Library modules, by name, as what is behind an output."""
    return {"of": list(roots), "digest": digest(sources(*roots))}


def _engine(name: str, experiment: str) -> tuple[str, ...]:
    return ENGINE_MODULES[name] + (SCORING_MODULES[name] if experiment == "exp2" else ())


def engine_code(name: str, experiment: str) -> str:
    """One digest of what turns tokens into an experiment's answers."""
    return code(*_engine(name, experiment))["digest"]


def experiment_code(engine: str, study: str, experiment: str) -> Code:
    """What is behind one experiment's records."""
    common = ("inference.py", "chat.py", "stimuli.py", "records.py")
    own = (EXPERIMENTS[experiment], f"studies/{study}.py")
    return code(*own, *_engine(engine, experiment), *common)


def table_code(study: str) -> Code:
    """What is behind a study's tables."""
    return code("tables.py", f"studies/{study}.py")
