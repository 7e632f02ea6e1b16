"""Systems take turns, and every run's answers are checked."""

from __future__ import annotations

import gc
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)


def nothing() -> None:
    """Before a run that needs no preparation."""


@dataclass(frozen=True)
class System:
    """Something whose speed is measured.

    `run` is timed, `prepare` before it is not. `check` says how many options or tokens a run's
    result holds, and raises `GraceError` where it is wrong. `own_seconds` reads a result's duration
    where the system keeps its own time.
    """

    key: str
    name: str
    run: Callable[[], Any]
    check: Callable[[Any], int]
    prepare: Callable[[], None] = nothing
    own_seconds: Callable[[Any], float] | None = None


def timed(system: System) -> float:
    """Units a second of one run."""
    system.prepare()
    gc.collect()  # what the run before left behind is not this one's to clear up
    started = time.perf_counter()
    result = system.run()
    seconds = time.perf_counter() - started
    if system.own_seconds is not None:
        seconds = system.own_seconds(result)
    return system.check(result) / seconds


def measure(systems: Sequence[System], repetitions: int) -> dict[str, list[float]]:
    """Units a second of each system's every repetition, by key, after a run to warm up."""
    rates: dict[str, list[float]] = {system.key: [] for system in systems}
    gc.collect()
    gc.freeze()  # as a run does: libraries and models are not searched for garbage again and again
    for repetition in range(repetitions + 1):
        for system in systems:
            rate = timed(system)
            logger.info(
                "%s: %.1f a second (%s)", system.name, rate, repetition or "to warm up, not counted"
            )
            if repetition:
                rates[system.key].append(rate)
    return rates


def summary(rates: Sequence[float]) -> dict[str, Any]:
    """Every repetition, and their median, least and most."""
    return {
        "rates": list(rates),
        "median": statistics.median(rates),
        "min": min(rates),
        "max": max(rates),
    }
