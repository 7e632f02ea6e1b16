"""Systems take turns, and every run's answers are checked."""

from __future__ import annotations

import gc
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)


def nothing() -> None:
    """Before a run that needs no preparation."""


@dataclass(frozen=True)
class System:
    """Something whose speed is measured.

    `run` is timed, `prepare` before it is not. `check` says how many options or tokens a run's
    result holds, and raises `GraceError` where it is wrong. `own_seconds` reads a result's duration
    where the system keeps its own time. `here` says whether this process's CPU computes, so that
    its CPU time says something.
    """

    key: str
    name: str
    run: Callable[[], Any]
    check: Callable[[Any], int]
    prepare: Callable[[], None] = nothing
    own_seconds: Callable[[Any], float] | None = None
    here: bool = False


class Rate(NamedTuple):
    """Units a second by the clock, and a second of CPU time of all threads, if that is known."""

    wall: float
    cpu: float | None


def timed(system: System) -> Rate:
    """Of one run."""
    system.prepare()
    gc.collect()  # what the run before left behind is not this one's to clear up
    started, started_cpu = time.perf_counter(), time.process_time()
    result = system.run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    if system.own_seconds is not None:
        seconds = system.own_seconds(result)
    units = system.check(result)
    return Rate(units / seconds, units / cpu if system.here else None)


def measure(systems: Sequence[System], repetitions: int) -> dict[str, list[Rate]]:
    """Rates of each system's every repetition, by key, after a run to warm up."""
    rates: dict[str, list[Rate]] = {system.key: [] for system in systems}
    gc.collect()
    gc.freeze()  # as a run does: libraries and models are not searched for garbage again and again
    for repetition in range(repetitions + 1):
        for system in systems:
            rate = timed(system)
            logger.info(
                "%s: %.1f a second%s (%s)",
                system.name,
                rate.wall,
                "" if rate.cpu is None else f", {rate.cpu:.1f} a second of CPU time",
                repetition or "to warm up, not counted",
            )
            if repetition:
                rates[system.key].append(rate)
    return rates


def summary(rates: Sequence[Rate]) -> dict[str, Any]:
    """Every repetition with median, least and most: by the clock, and under `cpu` by CPU time."""
    known = [rate.cpu for rate in rates if rate.cpu is not None]
    return {**_spread([rate.wall for rate in rates]), "cpu": _spread(known) if known else None}


def _spread(rates: Sequence[float]) -> dict[str, Any]:
    return {
        "rates": list(rates),
        "median": statistics.median(rates),
        "min": min(rates),
        "max": max(rates),
    }
