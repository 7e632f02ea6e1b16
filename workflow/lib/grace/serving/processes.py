"""What supervisor and guard share: adoption, death signals, killing descendants."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prctl(option: int, value: int) -> None:
    """Best effort: elsewhere than on Linux the other safeguards have to do."""
    if _libc is not None:
        _libc.prctl(option, value, 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies; for use as `preexec_fn`."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def kill_descendants(timeout_s: float = 10.0) -> None:
    """Kill every descendant of this process, and reap all that are or became its children.

    It repeats until none is left or `timeout_s` seconds have passed, since a dying process's
    children only then become visible as ours. Process groups would not do: vLLM's engine
    processes may start sessions of their own.
    """
    own = psutil.Process()
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        alive = [process for process in own.children(recursive=True) if running(process)]
        if not alive:
            break
        for process in alive:
            with contextlib.suppress(psutil.Error):  # it may go by itself
                process.kill()
        psutil.wait_procs(alive, timeout=0.5)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def running(process: psutil.Process) -> bool:
    """Whether it still executes; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def last_lines(path: Path, count: int = 20, most_bytes: int = 16384) -> list[str]:
    """The last non-empty lines of a log; none when it cannot be read."""
    try:
        with path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - most_bytes))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def poll(condition: Callable[[], bool], timeout_s: float, interval_s: float = 0.1) -> bool:
    """Wait at most `timeout_s` seconds for a condition; returns whether it came true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval_s)
    return True
