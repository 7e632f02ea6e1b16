"""The serving lease with real vLLM on the CPU: sharing, kill -9 of everyone, crashes.

Starts are dear (half a minute), so a test walks through several faults, and faults of a start are
in tests/long/test_serving_starts.py. The same faults, and more, are tested one by one with a stub
server in test_serving_stub.py.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from lease_helpers import Farm, command_line, kill_dash_nine
from real_servers import assert_gone, family, real_spec
from tiny_model import build_tiny_model
from waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path)
    yield farm
    farm.close()


def healthy(base_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base_url}/health", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def api_server(processes: list[psutil.Process]) -> psutil.Process:
    (found,) = [
        p
        for p in processes
        if "vllm.entrypoints.openai.api_server" in command_line(p)
        and "grace.serving.process_guard" not in command_line(p)
    ]
    return found


def test_jobs_share_a_server_that_is_restarted_and_leaves_no_orphan(
    farm: Farm, model_dir: Path
) -> None:
    spec = real_spec(model_dir, idle_s=900)
    workflow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"])
    first, second = farm.job(spec, workflow.pid), farm.job(spec, workflow.pid)
    url = first.line()
    assert url == second.line()
    assert healthy(url)
    processes = family(farm)
    assert len(processes) >= 4, "supervisor, guard, API server, engine"

    first.kill()
    server = api_server(processes)
    kill_dash_nine(server.pid)
    assert_gone(processes[2:])  # vLLM's engine outlives its API server by itself
    wait_until(lambda: farm.log().count("starting the server on") == 2, PATIENCE_S, "restart")
    second.order("again")
    url = second.line()
    assert healthy(url), "restarted once"

    processes = family(farm)
    workflow.kill()
    workflow.wait()
    second.kill()
    assert_gone(processes)
