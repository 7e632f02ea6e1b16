"""Leases on real vLLM servers of a tiny model on the CPU, and the processes behind them."""

from __future__ import annotations

from pathlib import Path

import psutil
from lease_helpers import Farm
from waiting import PATIENCE_S, wait_until

from grace.engines.vllm.server import server_spec
from grace.serving import ServerSpec
from grace.serving.processes import running
from grace.settings.config import ModelEntry, ServingConfig

ROOT = Path(__file__).parents[2]
START_S = 400
"""Seconds a start may take: 30 on two idle cores, several times that on busy ones."""


def real_spec(model_dir: Path, idle_s: float = 2, max_model_len: int = 256) -> ServerSpec:
    entry = ModelEntry(name=str(model_dir), dtype="float32", max_model_len=max_model_len, gpus=0)
    return server_spec("stub", entry, ServingConfig(idle_s=idle_s, start_timeout_s=START_S), ROOT)


def family(farm: Farm) -> list[psutil.Process]:
    """The supervisor, the guard, the server, and what vLLM starts below it."""
    (supervisor,) = farm.supervisors()
    return alive([supervisor, *supervisor.children(recursive=True)])


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if running(process)]


def assert_gone(processes: list[psutil.Process]) -> None:
    wait_until(lambda: not alive(processes), PATIENCE_S, f"no orphan: {alive(processes)}")
