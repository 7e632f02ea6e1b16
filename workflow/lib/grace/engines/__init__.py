"""Engines: what computes tokens. Adding one: a file here and its two lines below."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from grace.contents import Contents
from grace.engines.base import Engine
from grace.errors import EngineError
from grace.settings.config import ModelEntry, RequestsConfig, ScoringConfig, ServingConfig

#: Library modules behind each engine's answers; what they import counts too.
MODULES = {
    "transformers": ("engines/transformers_engine.py",),
    "vllm": ("engines/vllm.py", "serving/vllm_server.py"),
    "endpoint": ("engines/endpoint.py",),
}

#: Of these, what only experiment 2's answers come from.
SCORING_MODULES = {
    "transformers": ("engines/scorer.py",),
    "vllm": ("engines/vllm_scoring.py",),
    "endpoint": ("engines/top_logprobs.py",),
}


@dataclass(frozen=True)
class Runtime:
    """Settings of this machine and run that cannot change an answer."""

    requests: RequestsConfig
    scoring: ScoringConfig
    serving: ServingConfig
    root: Path
    journal_dir: Path
    journal_timeout_s: float
    log_dir: Path
    threads: int
    contents: Contents


def engine_version(entry: ModelEntry, runtime: Runtime) -> str | None:
    """Version of what would compute the answers, read without starting it.

    None for somebody else's server. Raises `EngineError` where the engine is not installed.
    """
    match entry.engine:
        case "transformers":
            return f"{version('transformers')}, torch {_torch_version()}"
        case "vllm":
            from grace.serving.vllm_server import vllm_version

            return vllm_version(runtime.serving, runtime.root)
        case "endpoint":
            return None


def _torch_version() -> str:
    """What `torch.__version__` is, which says more than the package's; torch takes seconds."""
    found = importlib.util.find_spec("torch")
    for folder in (found.submodule_search_locations or []) if found else []:
        for node in ast.parse((Path(folder) / "version.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
                return str(ast.literal_eval(node.value))
    raise EngineError("torch is not installed. Run `make setup`.")


@contextmanager
def opened(
    model_key: str, entry: ModelEntry, runtime: Runtime, expected: str | None
) -> Iterator[Engine]:
    """The engine of `open_engine`, entered. Raises `EngineError` where its version is another."""
    with open_engine(model_key, entry, runtime) as engine:
        found = engine.describe()["version"]
        if entry.engine != "endpoint" and found != expected:
            raise EngineError(
                f"model '{model_key}': the engine says that it is version {found}, but {expected}"
                " is installed. Was the environment renewed during the run? Run again."
            )
        yield engine


def open_engine(model_key: str, entry: ModelEntry, runtime: Runtime) -> Engine:
    """The engine that `entry` asks for, not yet entered. Raises `EngineError`."""
    match entry.engine:
        case "transformers":
            from grace.engines.transformers_engine import TransformersEngine

            return TransformersEngine(
                model_key,
                entry,
                requests=runtime.requests,
                scoring=runtime.scoring,
                root=runtime.root,
                threads=runtime.threads,
            )
        case "vllm":
            from grace.engines.vllm import VllmEngine

            return VllmEngine(
                model_key,
                entry,
                requests=runtime.requests,
                serving=runtime.serving,
                journal_dir=runtime.journal_dir,
                log_dir=runtime.log_dir,
                root=runtime.root,
                contents=runtime.contents,
            )
        case "endpoint":
            from grace.engines.endpoint import EndpointEngine

            return EndpointEngine(model_key, entry, requests=runtime.requests, root=runtime.root)


def preflight(model_key: str, entry: ModelEntry, runtime: Runtime) -> None:
    """Check, without loading a model, that the engine can run here. Raises `EngineError`."""
    match entry.engine:
        case "transformers":
            from grace.engines import transformers_engine

            transformers_engine.preflight(model_key, entry, runtime.root)
        case "vllm":
            from grace.engines import vllm

            vllm.preflight(
                model_key,
                entry,
                serving=runtime.serving,
                journal_dir=runtime.journal_dir,
                root=runtime.root,
            )
        case "endpoint":
            from grace.engines import endpoint

            endpoint.preflight(model_key, entry, requests=runtime.requests)
