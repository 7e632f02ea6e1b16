"""Names for processes of this host that outlast the process itself."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class ProcessId:
    """A process on this host: its pid and start, since pids are used again."""

    pid: int
    started: float

    @classmethod
    def of(cls, process: psutil.Process) -> ProcessId:
        return cls(process.pid, _start(process))

    def alive(self) -> bool:
        """Whether it still runs; a zombie, dead but not yet reaped, does not."""
        try:
            process = psutil.Process(self.pid)
            same = _start(process) == self.started
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def _start(process: psutil.Process) -> float:
    """When it started, in seconds since the boot, to the kernel's hundredth.

    Linux counts from the boot, and a date made of that moves whenever somebody sets the clock.
    Elsewhere it is a date, in seconds since 1970.
    """
    began = process.create_time()
    return round(began - psutil.boot_time(), 2) if psutil.LINUX else began


def process_space() -> str:
    """Names the processes that are seen from here: a boot of a machine, or a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()
