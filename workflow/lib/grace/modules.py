"""The library modules behind each output. Their digest says whether its code has changed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from os.path import normpath
from pathlib import Path
from typing import TypedDict

from grace.digests import code_digests, digest, source_digest
from grace.engines import MODULES as ENGINE_MODULES
from grace.engines import SCORING_MODULES

#: Modules that every job imports and that cannot change a byte of a result.
INERT = (
    "__init__.py",  # Grace's version
    "settings/config.py",  # its values enter through the cells
    "contents.py",  # gives a file's digest, from wherever
    "engines/answer_keys.py",  # a key only finds an answer again
    "engines/former_keys.py",
    "engines/journaled.py",  # gives back what an engine gave
    "errors.py",
    "journal/__init__.py",
    "journal/store.py",
    "runs/leftovers.py",
    "modules.py",
    "prompts/plain_text.py",  # refuses, or lets pass
    "experiments/preflight.py",
    "runs/process_id.py",
    "places.py",  # finds files, which count by content
    "progress.py",
    "provenance/environment.py",
    "runs/scripting.py",
    "serving/holder.py",
    "serving/processes.py",
    "serving/rundir.py",
    "serving/supervisor.py",
    "serving/warden.py",
    "studies/catalogue.py",
    "studies/declaration.py",  # its values enter through the cells
    "studies/analysis_parts.py",
    "studies/reading.py",
    "studies/soundness.py",
)
#: The library's side of each experiment; counts only for its own.
EXPERIMENTS = {"exp1": "experiments/generation.py", "exp2": "experiments/measurement.py"}
#: What stands before and after the asking, and does not count for it: trials enter through the
#: cells by their content, and records are read in whatever layout they were written.
AROUND_ASKING = ("results/records.py", "studies/stimuli.py")


class Code(TypedDict):
    """What is behind an output: files named from scripts/, modules of the library, and a digest.

    The digest is of them and of all that the modules import.
    """

    scripts: list[str]
    modules: list[str]
    digest: str


@lru_cache
def library(*roots: str) -> dict[str, str]:
    """Digests of library modules, by name, and of what they import, by path."""
    scoring = (module for modules in SCORING_MODULES.values() for module in modules)
    around = AROUND_ASKING if set(roots) & set(EXPERIMENTS.values()) else ()
    return code_digests(roots, (*INERT, *EXPERIMENTS.values(), *scoring, *around))


def sources(root: Path, scripts: Iterable[str], modules: Iterable[str]) -> dict[str, str]:
    """Digests of a project's scripts and of library modules with what they import, by path.

    Scripts are named as seen from scripts/, a study's own files therefore `../studies/...`.
    """
    paths = [normpath(f"scripts/{name}") for name in scripts]
    return {**{path: source_digest(root / path) for path in paths}, **library(*modules)}


def code(root: Path, scripts: Iterable[str], modules: Iterable[str] = ()) -> Code:
    """Scripts and library modules as what is behind an output; inert modules do not count."""
    scripts, modules = list(scripts), sorted(set(modules) - set(INERT))
    return {
        "scripts": scripts,
        "modules": modules,
        "digest": digest(sources(root, scripts, modules)),
    }


def _engine(name: str, experiment: str) -> tuple[str, ...]:
    return ENGINE_MODULES[name] + (SCORING_MODULES[name] if experiment == "exp2" else ())


def experiment_modules(engine: str, experiment: str) -> tuple[str, ...]:
    """What is behind one experiment's records, its script apart."""
    common = ("experiments/inference.py", "models/chat.py")
    own = (EXPERIMENTS[experiment], "studies/asking.py")
    return (*own, *_engine(engine, experiment), *common)
