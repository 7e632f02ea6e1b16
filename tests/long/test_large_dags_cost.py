"""What a dry-run costs grows with the number of its jobs, not faster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from workflow_project import Project

pytestmark = pytest.mark.long

#: Jobs of a replication of both studies.
JOBS = 13


def seconds(project: Project, replications: int) -> float:
    """CPU seconds of a dry-run."""
    before = os.times()
    done = subprocess.run(
        [Path(sys.executable).with_name("snakemake"), "-n", "-q", "all", "--config",
         f"replications={replications}"],
        cwd=project.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    after = os.times()
    assert done.returncode == 0, done.stderr
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def test_a_job_costs_the_same_in_a_large_dag(tmp_path):
    project = Project.copied_to(tmp_path / "project")
    seconds(project, 1)
    start = seconds(project, 1)
    small, large = (
        (seconds(project, count) - start) / ((count - 1) * JOBS) for count in (100, 600)
    )
    assert large < 1.6 * small
