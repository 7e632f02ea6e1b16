"""Engines: what computes tokens. Adding one: a file here and its two lines below."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grace.config import ModelEntry, RequestsConfig, ScoringConfig, ServingConfig
from grace.engines.base import Engine

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
