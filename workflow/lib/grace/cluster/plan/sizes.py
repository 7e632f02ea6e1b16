"""What the groups of jobs need, whose pods they become. The rules and the forecast share it.

Memory in units of 10^6 bytes and time in minutes, as Snakemake counts them. What each step needs is
in `grace.steps`.
"""

from __future__ import annotations

CPU_CORES = 4
"""Cores for a model that computes on them, in a pod."""
CLIENT_CORES = 4
"""Cores of a job that asks a server or a GPU."""
DISK_MB = 20_000
"""Scratch of an inference pod: kernels that the server compiles, temporary files."""
GROWTH = 0.5
"""How much more memory each further attempt gets, as a share of the first's."""


def memory_for_attempt(mem_mb: int, attempt: int) -> int:
    """Memory of an attempt, from 1: what was too little is not tried again."""
    return round(mem_mb * (1 + GROWTH * (attempt - 1)))


def mib_to_mb(mib: int) -> int:
    """MiB in units of 10^6 bytes, rounded down, so that the way back gives the same MiB."""
    return mib * 2**20 // 10**6


def per_job_minutes(minutes: int, jobs: int) -> int:
    """Each job's part of a pod's time, in which jobs run one after the other; at least a minute."""
    return max(1, minutes // jobs)
