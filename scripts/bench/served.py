"""Grace's engine `vllm` with a server of its own, held through the lease."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.measuring import System
from bench.models import ROOT, BenchModel
from bench.workload import Reference, Workload, answers_of_scores
from grace.engines.vllm import server as vllm_server
from grace.engines.vllm.client import VllmEngine
from grace.errors import EngineError, GraceError
from grace.settings.config import ModelEntry, RequestsConfig, ServingConfig

#: On a GPU the models of this process need room beside the server's.
_EXTRA_ARGUMENTS = {"cpu": [], "cuda": ["--gpu-memory-utilization", "0.45"]}
_SERVING = ".venv-serve"


def serving_python() -> Path:
    """The interpreter that holds vLLM."""
    return ROOT / _SERVING / "bin" / "python"


def lacking(model: BenchModel) -> str | None:
    """Why this machine cannot serve the model; None where it can."""
    try:
        vllm_server.check(model.key, _entry(model, Path()), _serving(model), ROOT)
    except EngineError as error:
        return str(error)
    return None


def set_threads(threads: int) -> None:
    """Let servers started from now on compute with so many threads, and forget when asked to."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # offers /reset_prefix_cache


@contextmanager
def serving(model: BenchModel, weights: Any, state: Path) -> Iterator[VllmEngine]:
    """The engine with its server up; `state` is the folder of its lease and its logs."""
    with (
        tempfile.TemporaryDirectory(prefix="grace-bench-") as folder,
        VllmEngine(
            model.key,
            _entry(model, model.save(weights, Path(folder))),
            requests=RequestsConfig(),
            serving=_serving(model),
            journal_dir=state,
            log_dir=state / "logs",
            root=ROOT,
        ) as engine,
    ):
        yield engine


def forget(engine: VllmEngine) -> None:
    """Empty the server's prefix cache, so that no run reads what another has left.

    Raises `GraceError` where the server is gone.
    """
    url = f"{engine.describe()['base_url']}/reset_prefix_cache"
    try:
        httpx.post(url, timeout=60, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise GraceError(
            f"bench: the server is not as it was at the start: {error}. Its log is in .grace/bench."
        ) from None


def system(engine: VllmEngine, work: Workload, reference: Reference) -> System:
    """Experiment 2 on the server, the same trials in one call."""

    def run() -> Any:
        requests = [work.request(asking, grouped=True, ends=True) for asking in work.asking()]
        return requests, list(engine.score(requests))

    return System(
        "vllm",
        "ours on vLLM, the same trials in one call, with the ends of options",
        run,
        lambda result: reference.check("vllm", answers_of_scores(*result)),
        prepare=lambda: forget(engine),
    )


def _entry(model: BenchModel, folder: Path) -> ModelEntry:
    # The folder has a tokeniser of its own.
    return model.entry.model_copy(update={"engine": "vllm", "name": str(folder), "tokenizer": None})


def _serving(model: BenchModel) -> ServingConfig:
    return ServingConfig(environment=_SERVING, idle_s=2, extra_args=_EXTRA_ARGUMENTS[model.device])
