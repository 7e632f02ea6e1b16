"""Locks and jobs that a killed run left, told from those of a living one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from grace.errors import ConfigError
from grace.runs import holders, startup
from grace.runs.process_id import ProcessId
from grace.serving.processes import running

#: A run: registers itself, may lock the folder and start a job, and waits.
RUN = """
import subprocess, sys
from pathlib import Path
from grace.runs import holders, startup
folder = Path(sys.argv[1])
said = startup.begin(folder)
(folder / "locks").mkdir(exist_ok=True)
(folder / "locks/0.output.lock").write_text("results/a\\n")
holders.hold(folder, ["/bin/snakemake", "--cores", "4", "--storage-s3-secret-key", "hush"])
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
    monkeypatch.setenv(startup.MARK, "")  # `begin` sets it for this process, too


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
    assert startup.begin(tmp_path / "new") == []


def test_locks_and_jobs_of_a_dead_run_go(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    job, _ = begin(tmp_path, started)
    os.kill(started[0].pid, 9)
    started[0].wait()
    os.kill(job, 0)  # it goes on alone: this would raise
    (said,) = startup.begin(tmp_path)
    assert "lock on the folder is removed" in said
    assert not list((tmp_path / "locks").iterdir())
    os.kill(job, 0)
    (said,) = startup.end_orphans(tmp_path)
    assert f"(process {job})" in said
    with pytest.raises(ProcessLookupError):
        os.kill(job, 0)


def test_those_of_a_living_run_stay(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    job, _ = begin(tmp_path, started)
    assert startup.begin(tmp_path) == []
    assert startup.end_orphans(tmp_path) == []
    os.kill(job, 0)  # it would raise
    assert (tmp_path / "locks/0.output.lock").exists()


def test_a_dead_runs_lock_waits_while_another_lives(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    living, _ = begin(tmp_path, started)
    dead, _ = begin(tmp_path, started)
    os.kill(started[1].pid, 9)
    started[1].wait()
    assert startup.begin(tmp_path) == []
    assert (tmp_path / "locks/0.output.lock").exists()
    (said,) = startup.end_orphans(tmp_path)
    assert f"(process {dead})" in said
    os.kill(living, 0)


def test_other_folders_jobs_are_left_alone(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    job, _ = begin(tmp_path / "one", started)
    os.kill(started[0].pid, 9)
    started[0].wait()
    assert startup.end_orphans(tmp_path / "other") == []
    os.kill(job, 9)  # it would raise


def test_a_folder_that_cannot_be_made_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert startup.begin(tmp_path / "file/folder") == []


def test_folders_that_can_be_written_or_made_are_fine(tmp_path: Path) -> None:
    startup.check_writable("results", tmp_path / "to/be/made")


# --- who holds a folder


def test_a_living_run_is_named_with_its_command_and_without_secrets(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    begin(tmp_path, started)
    report = startup.in_use(tmp_path)
    pid = started[0].pid
    assert f"{tmp_path.parent} is in use, so this run has not begun." in report
    assert f"process {pid} on this machine, since 20" in report
    assert ": snakemake --cores 4 --storage-s3-secret-key '***'" in report
    assert "hush" not in "".join(path.read_text() for path in tmp_path.glob("grace-runs/*"))
    assert "unlock" not in report


def test_a_dead_run_is_not_named_and_its_mark_goes(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    begin(tmp_path, started)
    os.kill(started[0].pid, 9)
    started[0].wait()
    assert "process" not in startup.in_use(tmp_path)
    assert "removes the lock of a run that is dead" in startup.in_use(tmp_path)
    assert list(tmp_path.glob("grace-runs/*"))
    startup.begin(tmp_path)
    assert not list(tmp_path.glob("grace-runs/*"))


def test_a_run_that_ends_takes_its_mark_along(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    job, _ = begin(tmp_path, started)
    assert started[0].stdin is not None
    started[0].stdin.close()
    started[0].wait()
    os.kill(job, 9)
    assert not list(tmp_path.glob("grace-runs/*"))


def on_another_host(folder: Path, **facts: object) -> Path:
    """What a run on another host that shares the volume says of itself; and Snakemake's lock."""
    (folder / "locks").mkdir(parents=True)
    (folder / "locks/0.output.lock").write_text("results/a\n")
    path = folder / "grace-runs" / "7-abcd.json"
    path.parent.mkdir()
    said = {
        "host": "node7", "space": "another boot", "pid": 7, "started": 1.5,
        "since": "2026-11-20T10:00:00+00:00", "command": "snakemake --cores 4", **facts,
    }  # fmt: skip
    path.write_text(json.dumps(said))
    return path


def test_a_run_on_another_host_keeps_its_lock_as_long_as_it_lives(tmp_path: Path) -> None:
    """Although the kernel's lock, as on some network volumes, says nothing of it."""
    path = on_another_host(tmp_path)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.02):
            path.touch()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        assert startup.begin(tmp_path) == []
        assert (tmp_path / "locks/0.output.lock").exists()
        assert "process 7 on node7, last heard of " in startup.in_use(tmp_path)
    finally:
        ended.set()
        thread.join()


def test_a_run_on_another_host_that_is_silent_counts_as_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "BEAT_S", 0.02)
    path = on_another_host(tmp_path)
    assert startup.begin(tmp_path) == [
        "The last run was killed: its lock on the folder is removed."
    ]
    assert not path.exists()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "\x00", '{"host": 1}', "[" * 9_000, "x" * 100_000]
)
def test_a_mark_that_is_none_is_passed_over(tmp_path: Path, content: str) -> None:
    on_another_host(tmp_path).write_text(content)
    assert "process" not in startup.in_use(tmp_path)
    startup.begin(tmp_path)


def test_what_a_mark_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    on_another_host(tmp_path, command="\x1b[2J" + "x" * 5000, host="a\nb")
    report = startup.in_use(tmp_path)
    assert "\x1b" not in report
    assert "on a?b" in report
    assert len(report) < 1500


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(ConfigError, match=r"`results` is .*closed/mine"):
        startup.check_writable("results", tmp_path / "closed/mine")


def test_a_process_that_ends_between_two_questions_does_not_run(monkeypatch):
    me = psutil.Process()
    known = ProcessId.of(me)
    assert running(me)
    assert known.alive()

    def over(process: psutil.Process) -> str:
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(psutil.Process, "status", over)
    assert not running(me)
    assert not known.alive()
