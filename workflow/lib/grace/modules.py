"""The library modules behind each output. Their digest says whether its code has changed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from os.path import normpath
from pathlib import Path
from typing import TypedDict

from grace.engines import registry
from grace.source_code import SourceFile, closure, joined_digest, read_source

#: Modules that every job imports and that cannot change a byte of a result.
NO_EFFECT_ON_OUTPUT = (
    "__init__.py",  # Grace's version
    "settings/config.py",  # its values enter through the output configurations
    "settings/extraction_config.py",
    "settings/model_entry.py",
    "settings/price.py",
    "settings/sections.py",
    "settings/output_configs.py",
    "settings/reasoning.py",
    "settings/recipes.py",
    "settings/training_configs.py",
    "settings/strict.py",
    "runs/continuation.py",  # reports what is left out
    "contents.py",  # gives a file's digest, from wherever
    "engines/answer_keys.py",  # a key only finds an answer again
    "engines/former_keys.py",
    "engines/journaled.py",  # gives back what an engine gave
    "posttraining/budget.py",
    "posttraining/spending.py",  # notes what a step takes
    "engines/registry.py",  # finds an engine by its name
    "errors.py",
    "journal/__init__.py",
    "journal/store.py",
    "runs/leftovers.py",
    "modules.py",
    "prompts/plain_text.py",  # refuses, or lets pass
    "experiments/preflight.py",
    "runs/pod_phases.py",  # notes what a pod does
    "runs/process_id.py",
    "places.py",  # finds files, which count by content
    "progress.py",
    "provenance/environment.py",
    "runs/scripting.py",
    "serving/__init__.py",
    "serving/addresses.py",
    "serving/calls.py",  # gives back what was called for
    "serving/lease.py",
    "serving/process_guard.py",
    "serving/processes.py",
    "serving/state_dir.py",
    "serving/supervisor.py",
    "source_cache.py",  # what it keeps follows from what it is named by
    "studies/catalogue.py",
    "studies/declaration.py",  # its values enter through the cells
    "studies/analysis_parts.py",
    "studies/reading.py",
    "studies/soundness.py",
    "studies/trial_cache.py",
    "understood.py",
)
#: The library's side of each experiment; counts only for its own.
EXPERIMENTS = {"exp1": "experiments/generation.py", "exp2": "experiments/measurement.py"}
#: What stands before and after the asking, and does not count for it: trials enter through output
#: configurations by their content, and records are read in whatever layout they were written.
AROUND_ASKING = ("results/records.py", "studies/stimuli.py")


class Code(TypedDict):
    """What is behind an output: files named from scripts/, modules of the library, and a digest.

    The digest is of them and of all that the modules import; names and places are not in it.
    """

    scripts: list[str]
    modules: list[str]
    digest: str


@lru_cache
def library(*roots: str) -> dict[str, SourceFile]:
    """Library modules, by name, and what they import, by path."""
    engines = [name for name in registry.names() if _engine_module(name) in roots]
    scoring = [module for name in engines for module in _scoring_modules(name)]
    around = AROUND_ASKING if set(roots) & set(EXPERIMENTS.values()) else ()
    return closure(roots, (*NO_EFFECT_ON_OUTPUT, *EXPERIMENTS.values(), *scoring, *around))


def sources(root: Path, scripts: Iterable[str], modules: Iterable[str]) -> dict[str, SourceFile]:
    """A project's scripts, and library modules with what they import, by path.

    Scripts are named as seen from scripts/, a study's own files therefore `../studies/...`.
    """
    paths = [normpath(f"scripts/{name}") for name in scripts]
    return {**{path: read_source(root / path) for path in paths}, **library(*modules)}


def code(root: Path, scripts: Iterable[str], modules: Iterable[str] = ()) -> Code:
    """Scripts and library modules behind an output; those without effect do not count."""
    scripts, modules = list(scripts), sorted(set(modules) - set(NO_EFFECT_ON_OUTPUT))
    return {
        "scripts": scripts,
        "modules": modules,
        "digest": joined_digest(sources(root, scripts, modules)),
    }


def _engine(name: str, experiment: str) -> tuple[str, ...]:
    return (_engine_module(name), *(_scoring_modules(name) if experiment == "exp2" else ()))


def _engine_module(name: str) -> str:
    return f"engines/{name}/{registry.MODULE}.py"


def _scoring_modules(engine: str) -> tuple[str, ...]:
    return tuple(f"engines/{engine}/{module}" for module in registry.spec(engine).scoring_modules)


def reading_modules(engine: str) -> tuple[str, ...]:
    """What is behind the replies of a model that reads answers, where jobs load it."""
    return (*_engine(engine, "exp1"), "models/chat.py")


def experiment_modules(engine: str, experiment: str) -> tuple[str, ...]:
    """What is behind one experiment's records, its script apart."""
    common = ("experiments/inference.py", "models/chat.py")
    own = (EXPERIMENTS[experiment], "studies/asking.py")
    return (*own, *_engine(engine, experiment), *common)
