"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 300.0
"""Seconds that a wait for an event may take: enough on a machine that is busy with much else."""


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> float:
    """Wait for a condition; the seconds it took. Fails the test when it does not come true."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - begun
