"""Before a run begins: folders that can be written, and nothing left of one that was killed.

Snakemake locks its folder with ordinary files. After `kill -9` they stay, and the next run would
refuse to start. The kernel drops a lock on an open file when its holder dies in whatever way, so
one of these says which of Snakemake's locks still mean something.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from grace.errors import ConfigError
from grace.runs.holders import beats, holders
from grace.runs.process_id import ProcessId

MARK = "GRACE_RUN"
"""Environment variable that a run's jobs carry: its process, when that started, and its folder."""
_END_S = 10.0
_POLL_S = 0.02

_held: dict[Path, IO[str]] = {}


def begin(folder: Path) -> list[str]:
    """Register this process as a run in `folder`, which is where Snakemake keeps its state.

    Where no other run in it is alive, removes the locks of those that were killed; gives a line
    for people if there were any. Where the file system knows no locks, or cannot be written,
    nothing is done. Where the kernel's locks do not reach other hosts, a run there counts as alive
    as long as it is seen to touch its file (`grace.runs.holders`).
    """
    folder = folder.absolute()
    me = ProcessId.of(psutil.Process())
    done: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _held.setdefault(folder, (folder / "grace.lock").open("a", encoding="utf-8"))
        if _locked(file, fcntl.LOCK_EX) and not _alive_elsewhere(folder):
            done = list(_remove_locks(folder))
        # From now on; somebody else may hold the whole, but only while removing locks.
        deadline = time.monotonic() + _END_S
        while not _locked(file, fcntl.LOCK_SH) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    except OSError:
        return done
    os.environ[MARK] = f"{me.pid} {me.started} {folder}"
    return done


def current_run() -> ProcessId | None:
    """The run of the workflow that this process is a job of; None where it is none.

    That is the one whose mark it carries, else the outermost Snakemake among its ancestors.
    """
    with suppress(ValueError):
        pid, started, _ = os.environ.get(MARK, "").split(" ", 2)
        run = ProcessId(int(pid), float(started))
        if run.alive():
            return run
    for process in reversed(psutil.Process().parents()):
        with suppress(psutil.Error):
            if any(Path(word).name == "snakemake" for word in process.cmdline()[:4]):
                return ProcessId.of(process)
    return None


def end_orphans(folder: Path) -> list[str]:
    """Kill what dead runs in `folder` started and what still runs; gives a line for people.

    It would write the same outputs. What it was answered is in the journal.
    """
    jobs = list(_orphans(folder.absolute()))
    for job in jobs:
        with suppress(psutil.NoSuchProcess):
            job.kill()
    psutil.wait_procs(jobs, _END_S)
    if not jobs:
        return []
    numbers = ", ".join(str(job.pid) for job in jobs)
    return [f"The last run was killed: what it had left running is ended (process {numbers})."]


def in_use(folder: Path) -> str:
    """Who holds the folder whose lock is in this run's way, and what to do, for people."""
    alive = [holder for holder in holders(folder) if holder.alive()]
    where = folder.absolute().parent
    if alive:
        who = "\n".join(f"    {holder}" for holder in alive)
        return (
            f"{where} is in use, so this run has not begun. Who holds it:\n{who}\nWait for it to"
            " end, or end it there (Ctrl-C, or `kill` with its number): what its models have"
            " answered is kept. A copy of the project can run beside it."
        )
    return (
        f"{where} is locked, so this run has not begun. Either another run has just begun, or one"
        " was killed while some command was open in the folder. Run the same command again: it"
        " removes the lock of a run that is dead. Where that does not help although nothing runs,"
        " here or on another machine, the volume knows no locks: `snakemake --unlock` removes it."
    )


def _alive_elsewhere(folder: Path) -> bool:
    """Whether a run on another host lives, although this one holds the kernel's lock."""
    for holder in holders(folder):
        if not holder.here and holder.alive() and beats(holder):
            return True
        if not holder.here or not holder.alive():
            holder.path.unlink(missing_ok=True)
    return False


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


def _locked(file: IO[str], kind: int) -> bool:
    """Lock a file, or convert its lock; False where another process is in the way."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
        if where == str(folder) and not ProcessId(int(pid), float(started)).alive():
            yield process
