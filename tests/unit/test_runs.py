"""Locks and jobs that a killed run left, told from those of a living one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from grace import runs
from grace.errors import ConfigError

#: A run: registers itself, may lock the folder and start a job, and waits.
RUN = """
import subprocess, sys
from pathlib import Path
from grace import runs
folder = Path(sys.argv[1])
said = runs.begin(folder)
(folder / "locks").mkdir(exist_ok=True)
(folder / "locks/0.output.lock").write_text("results/a\\n")
job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(job.pid, *said, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        for child in [*psutil.Process(process.pid).children()] if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def _no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runs.MARK, "")  # `begin` sets it for this process, too


def begin(folder: Path, started: list[subprocess.Popen[str]]) -> tuple[int, str]:
    """Start a run: its job's number, and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    started.append(process)
    assert process.stdout is not None
    job, _, said = process.stdout.readline().partition(" ")
    return int(job), said


def test_the_first_run_finds_nothing(tmp_path: Path) -> None:
    assert runs.begin(tmp_path / "new") == []


def test_locks_and_jobs_of_a_dead_run_go(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    job, _ = begin(tmp_path, started)
    os.kill(started[0].pid, 9)
    started[0].wait()
    os.kill(job, 0)  # it goes on alone: this would raise
    (said,) = runs.begin(tmp_path)
    assert "lock on the folder is removed" in said
    assert not list((tmp_path / "locks").iterdir())
    os.kill(job, 0)
    (said,) = runs.end_orphans(tmp_path)
    assert f"(process {job})" in said
    with pytest.raises(ProcessLookupError):
        os.kill(job, 0)


def test_those_of_a_living_run_stay(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    job, _ = begin(tmp_path, started)
    assert runs.begin(tmp_path) == []
    assert runs.end_orphans(tmp_path) == []
    os.kill(job, 0)  # it would raise
    assert (tmp_path / "locks/0.output.lock").exists()


def test_a_dead_runs_lock_waits_while_another_lives(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    living, _ = begin(tmp_path, started)
    dead, _ = begin(tmp_path, started)
    os.kill(started[1].pid, 9)
    started[1].wait()
    assert runs.begin(tmp_path) == []
    assert (tmp_path / "locks/0.output.lock").exists()
    (said,) = runs.end_orphans(tmp_path)
    assert f"(process {dead})" in said
    os.kill(living, 0)


def test_other_folders_jobs_are_left_alone(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    job, _ = begin(tmp_path / "one", started)
    os.kill(started[0].pid, 9)
    started[0].wait()
    assert runs.end_orphans(tmp_path / "other") == []
    os.kill(job, 9)  # it would raise


def test_a_folder_that_cannot_be_made_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert runs.begin(tmp_path / "file/folder") == []


def test_folders_that_can_be_written_or_made_are_fine(tmp_path: Path) -> None:
    runs.check_writable("results", tmp_path / "to/be/made")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(ConfigError, match=r"`results` is .*closed/mine"):
        runs.check_writable("results", tmp_path / "closed/mine")
