"""The serving lease with real vLLM on the CPU: starts that are killed or fail."""

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


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def test_kill_of_the_supervisor_leaves_no_orphan(farm: Farm, model_dir: Path) -> None:
    job = farm.job(real_spec(model_dir))
    wait_until(farm.supervisors, PATIENCE_S, "supervisor")
    wait_until(lambda: len(family(farm)) >= 5, START_S, "vLLM has started its engine process")
    processes = family(farm)
    kill_dash_nine(processes[0].pid)
    job.kill()
    assert_gone(processes)
    wait_until(lambda: not farm.supervisors(), PATIENCE_S, "one that the job may have started anew")


def test_a_server_that_cannot_start_says_why(farm: Farm, model_dir: Path) -> None:
    errors = farm.job(real_spec(model_dir, max_model_len=100_000)).failure(START_S)
    assert "ended with exit code 1 while it was starting" in errors
    assert "max_model_len (100000) is greater than the derived max_model_len" in errors
