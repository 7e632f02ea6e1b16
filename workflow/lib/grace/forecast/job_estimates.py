"""What a job, and a replication of a model, is expected to take. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from grace.cluster.plan.placement import Placement
from grace.forecast.calibration import Arithmetic, Calibration
from grace.forecast.throughput import Work


@dataclass(frozen=True)
class JobEstimate:
    """One job of a replication: an experiment of a study.

    Attributes:
        work: What it asks.
        start_s: Seconds of it before its first request, a start of the model among them where the
            job itself loads it.
        work_s: Seconds with the model, as the arithmetic says.
        longest_s: The same if every answer were as long as it may be.
        calibration: By what both are multiplied.
        answers: Tokens of an answer on average, in experiment 1.
        measured: They are those of past answers, and not assumed.
        around_s: Seconds of it where the journal holds all answers and no model is loaded.
        kept: Later replications find its answers in the journal: distributions, but not those
            after traces, which each draws anew.
    """

    model: str
    study: str
    experiment: str
    work: Work
    start_s: float
    work_s: float
    longest_s: float
    calibration: Calibration
    answers: float | None = None
    measured: bool = False
    around_s: float = 0.0
    kept: bool = False

    @property
    def label(self) -> str:
        return f"{self.study}_{self.experiment}"

    @property
    def seconds(self) -> float:
        return self.calibration.held(Arithmetic(self.start_s, self.work_s))

    @property
    def seconds_kept(self) -> float:
        """The same where the journal holds all answers."""
        return self.calibration.held(Arithmetic(self.around_s, 0.0))


@dataclass(frozen=True)
class ReplicationEstimate:
    """A replication of a model where it is placed: its jobs, one after the other.

    Attributes:
        start_s: Of a server or process that its jobs share, or 0.
        on: What computes it, such as `2 x a100`.
    """

    model: str
    placement: Placement | None
    on: str
    start_s: float
    jobs: tuple[JobEstimate, ...]

    @property
    def gpus(self) -> int:
        return self.placement.gpus if self.placement else 0

    @property
    def seconds(self) -> float:
        return self.taking([job.label for job in self.jobs])

    def taking(self, asked: Collection[str], kept: Collection[str] = ()) -> float:
        """Seconds of these of its jobs, by label; the journal holds the answers of `kept`."""
        jobs = [job for job in self.jobs if job.label in asked]
        loads = any(job.label not in kept for job in jobs)
        each = (job.seconds_kept if job.label in kept else job.seconds for job in jobs)
        return loads * self.start_s + sum(each)

    def slowest(self, number: int) -> tuple[float, float]:
        """Seconds of one job, the longer of what arithmetic and past jobs say.

        Those that are expected, and those with answers as long as may be; both with the job's part
        of a start that all share.
        """
        job = self.jobs[number]
        ratio = max(1.0, job.calibration.ratio)
        start = job.start_s * max(1.0, job.calibration.start) + self.start_s / len(self.jobs)
        return start + job.work_s * ratio, start + job.longest_s * ratio

    @property
    def estimated_tokens(self) -> bool:
        """Whether a tokeniser was stood in for."""
        return any(job.work.estimated for job in self.jobs)
