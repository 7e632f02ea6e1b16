"""How busy this machine's GPUs are while a model answers, as nvidia-smi tells it."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

#: Seconds between two looks.
EVERY_S = 10.0
#: Seconds that one look may take; a driver that hangs costs samples, never an answer.
_PATIENCE_S = 30.0


class GpuSampler:
    """Looks at the GPUs that this process may use, for as long as it is entered.

    Nothing is looked at, and nothing goes wrong, without an NVIDIA driver.

    Args:
        wait: Waits that many seconds; whether this is over.
    """

    def __init__(self, wait: Callable[[float], bool] | None = None) -> None:
        self._over = threading.Event()
        self._wait = wait or self._over.wait
        self._thread: threading.Thread | None = None
        #: By GPU: per cent of the time in which something ran, and MiB taken; None where unknown.
        self._samples: dict[str, list[tuple[float | None, float | None]]] = {}

    def __enter__(self) -> Self:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        tool = shutil.which("nvidia-smi")
        if tool is None or (visible is not None and visible.strip() in ("", "-1", "NoDevFiles")):
            return self
        command = [
            tool, "--query-gpu=index,utilization.gpu,memory.used",
            "--format=csv,noheader,nounits", *(["-i", visible] if visible else []),
        ]  # fmt: skip
        self._thread = threading.Thread(target=self._look_on, args=(command,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=_PATIENCE_S)

    def facts(self) -> list[dict[str, Any]] | None:
        """A record of each GPU; None where none was looked at.

        `samples` is how often it was looked at, `busy_percent` the mean share of the time in which
        something ran on it (nvidia-smi's `utilization.gpu`), `memory_mib` the most that was taken;
        null where the driver does not tell.
        """
        found = []
        for index, samples in sorted(self._samples.items()):
            busy = [share for share, _ in samples if share is not None]
            taken = [memory for _, memory in samples if memory is not None]
            found.append(
                {
                    "gpu": index,
                    "samples": len(samples),
                    "busy_percent": round(statistics.fmean(busy), 1) if busy else None,
                    "memory_mib": max(taken, default=None),
                }
            )
        return found or None

    def _look_on(self, command: list[str]) -> None:
        while not self._wait(EVERY_S):
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
                )
            except (OSError, subprocess.TimeoutExpired):
                continue
            for line in done.stdout.splitlines() if done.returncode == 0 else []:
                index, *values = (part.strip() for part in line.split(","))
                if index.isdecimal() and len(values) == 2:
                    busy, taken = map(_number, values)
                    self._samples.setdefault(index, []).append((busy, taken))


def _number(text: str) -> float | None:
    """A whole number of nvidia-smi; None for its `[N/A]`, as for a part of a GPU (MIG)."""
    return float(text) if text.isdecimal() else None
