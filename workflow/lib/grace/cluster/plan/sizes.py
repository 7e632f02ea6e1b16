"""What the groups of jobs need, whose pods they become. The rules and the forecast share it.

Memory in units of 10^6 bytes and time in minutes, as Snakemake counts them. A pod that asks for one
core and 2,000 MB is too small for any cluster's rules on idle resources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["inference", "tables", "report"]

CPU_CORES = 4
"""Cores for a model that computes on them, in a pod."""
CLIENT_CORES = 4
"""Cores of a job that asks a server or a GPU."""
DISK_MB = 20_000
"""Scratch of an inference pod: kernels that the server compiles, temporary files."""
GROWTH = 0.5
"""How much more memory each further attempt gets, as a share of the first's."""


@dataclass(frozen=True)
class Size:
    """What one job needs."""

    mem_mb: int
    minutes: int


JOBS: dict[Group, Size] = {
    "inference": Size(mem_mb=1000, minutes=10),  # plan and collect; the model's own are counted
    "tables": Size(mem_mb=2000, minutes=15),
    "report": Size(mem_mb=4000, minutes=30),
}


def memory_for_attempt(mem_mb: int, attempt: int) -> int:
    """Memory of an attempt, from 1: what was too little is not tried again."""
    return round(mem_mb * (1 + GROWTH * (attempt - 1)))


def mib_to_mb(mib: int) -> int:
    """MiB in units of 10^6 bytes, rounded down, so that the way back gives the same MiB."""
    return mib * 2**20 // 10**6


def per_job_minutes(minutes: int, jobs: int) -> int:
    """Each job's part of a pod's time, in which jobs run one after the other; at least a minute."""
    return max(1, minutes // jobs)
