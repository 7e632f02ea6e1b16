"""Before a run begins: folders that can be written, and nothing left of one that was killed.

Snakemake locks its folder with ordinary files. After `kill -9` they stay, and the next run would
refuse to start. The kernel drops a lock on an open file when its holder dies in whatever way, so
one of these says which of Snakemake's locks still mean something.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

from grace.errors import ConfigError

MARK = "GRACE_RUN"
"""Environment variable that a run's jobs carry: its process, when that started, and its folder."""
_END_S = 10.0

_held: dict[Path, IO[str]] = {}


def begin(folder: Path) -> list[str]:
    """Register this process as a run in `folder`, which is where Snakemake keeps its state.

    Where no other run in it is alive, removes the locks and ends the jobs of those that were
    killed; what the jobs were answered is in the journal. Gives a line for people on each. Where
    the file system knows no locks, or cannot be written, nothing is done.
    """
    folder = folder.absolute()
    me = psutil.Process()
    done = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _held.setdefault(folder, (folder / "grace.lock").open("a", encoding="utf-8"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # another run is alive: what there is may be its own
        else:
            done = [*_end_jobs(folder), *_remove_locks(folder)]
        fcntl.flock(file, fcntl.LOCK_SH)  # from now on; others hold the whole for a moment only
    except OSError:
        return done
    os.environ[MARK] = f"{me.pid} {me.create_time()} {folder}"
    return done


def check_writable(name: str, folder: Path) -> None:
    """Raise `ConfigError` where the folder, or the one it is to be made in, cannot be written."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"config: `{name}` is {folder}, but {there} cannot be written: its volume is read-only,"
            " or it is somebody else's. Name another folder."
        )


def _remove_locks(folder: Path) -> Iterator[str]:
    locks = list((folder / "locks").glob("*.lock"))
    for path in locks:
        path.unlink(missing_ok=True)
    if locks:
        yield "The last run was killed: its lock on the folder is removed."


def _end_jobs(folder: Path) -> Iterator[str]:
    """Kill what dead runs in this folder started and what still runs."""
    jobs = list(_orphans(folder))
    for job in jobs:
        job.kill()
    psutil.wait_procs(jobs, _END_S)
    if jobs:
        numbers = ", ".join(str(job.pid) for job in jobs)
        yield f"The last run was killed: what it had left running is ended (process {numbers})."


def _orphans(folder: Path) -> Iterator[psutil.Process]:
    me = psutil.Process()
    above = {process.pid for process in (me, *me.parents())}
    for process in psutil.process_iter():
        if process.pid in above:
            continue
        try:
            pid, started, where = process.environ().get(MARK, "").split(" ", 2)
        except (psutil.Error, ValueError):  # somebody else's, or without the mark
            continue
        if where == str(folder) and not _alive(int(pid), float(started)):
            yield process


def _alive(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        same = process.create_time() == started
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
