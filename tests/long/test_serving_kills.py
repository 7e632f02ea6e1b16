"""The serving lease with real vLLM on the CPU: kill -9 while a server starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lease_helpers import Farm, kill_dash_nine
from real_servers import START_S, assert_gone, family, real_spec
from tiny_model import build_tiny_model
from waiting import PATIENCE_S, wait_until

pytestmark = [pytest.mark.long, pytest.mark.vllm]


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path)
    yield farm
    farm.close()


def test_kill_of_the_supervisor_leaves_no_orphan(farm: Farm, tmp_path: Path) -> None:
    job = farm.job(real_spec(build_tiny_model(tmp_path / "model")))
    wait_until(farm.supervisors, PATIENCE_S, "supervisor")
    wait_until(lambda: len(family(farm)) >= 5, START_S, "vLLM has started its engine process")
    processes = family(farm)
    kill_dash_nine(processes[0].pid)
    job.kill()
    assert_gone(processes)
    wait_until(lambda: not farm.supervisors(), PATIENCE_S, "one that the job may have started anew")
