"""How far a run is: which of its jobs are done, and how long the rest takes by what others took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from grace.terminal.plan import PlannedJob, Row

#: Jobs of one kind take about as long: a step's of one model and study.
Kind = tuple[str, str | None, str | None]


@dataclass
class StageCount:
    """Jobs of a row of the table at one stage."""

    total: int = 0
    done: int = 0
    failed: int = 0
    running: set[int] = field(default_factory=set)


@dataclass
class _Took:
    """Seconds that jobs took, and how many these were."""

    seconds: float = 0.0
    jobs: int = 0

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self.jobs += 1


@dataclass(frozen=True)
class TimeLeft:
    """Seconds until the run is done; `at_least` where some jobs are of a kind not measured yet."""

    seconds: float
    at_least: bool


class Progress:
    """Counts of a run's jobs; every event costs the same, however many jobs there are.

    Times are seconds by any one clock. What the plan does not hold is not counted.
    """

    def __init__(self, jobs: Iterable[PlannedJob]) -> None:
        self.jobs = {job.jobid: job for job in jobs}
        self.done = self.failed = 0
        self.cells: dict[Row, dict[str, StageCount]] = {}
        self.began: dict[int, float] = {}
        self._first: float | None = None
        self._busy = 0.0
        self._ended: set[int] = set()
        self._took: dict[Kind, _Took] = {}
        self._left: Counter[Kind] = Counter()
        for job in self.jobs.values():
            self._cell(job).total += 1
            self._left[_kind(job)] += 1

    def _cell(self, job: PlannedJob) -> StageCount:
        return self.cells.setdefault(job.row, {}).setdefault(job.stage, StageCount())

    @property
    def total(self) -> int:
        """Jobs that the run needs."""
        return len(self.jobs)

    def start(self, jobid: int, now: float) -> None:
        """A job begins, or begins once more."""
        if jobid in self.jobs:
            self._first = now if self._first is None else self._first
            self.began[jobid] = now
            if jobid in self._ended:  # a further try of one that failed
                self._ended.discard(jobid)
                self.failed -= 1
                self._cell(self.jobs[jobid]).failed -= 1
                self._left[_kind(self.jobs[jobid])] += 1
            self._cell(self.jobs[jobid]).running.add(jobid)

    def finish(self, jobid: int, now: float) -> float | None:
        """A job is done; the seconds it took, None where its beginning was not seen."""
        took = self._end(jobid, now)
        if jobid in self.jobs:
            self.done += 1
            self._cell(self.jobs[jobid]).done += 1
            if took is not None:
                for kind in _alike(_kind(self.jobs[jobid])):
                    self._took.setdefault(kind, _Took()).add(took)
        return took

    def fail(self, jobid: int, now: float) -> None:
        """A job has failed; said twice of the same try, it counts once."""
        if jobid in self.jobs and jobid not in self._ended:
            self._end(jobid, now)
            self.failed += 1
            self._cell(self.jobs[jobid]).failed += 1

    def _end(self, jobid: int, now: float) -> float | None:
        job, began = self.jobs.get(jobid), self.began.pop(jobid, None)
        if job is not None and jobid not in self._ended:
            self._ended.add(jobid)
            self._left[_kind(job)] -= 1
            self._cell(job).running.discard(jobid)
        if began is None:
            return None
        self._busy += now - began
        return now - began

    def seconds_left(self, now: float, rest: dict[int, float] | None = None) -> TimeLeft | None:
        """Until all jobs are done; None where most of them are of a kind that none has shown yet.

        Work that is left, by the mean of finished jobs of the same step, model and study, or else
        of the step alone, over the number of jobs that ran at once so far.

        Args:
            now: The time.
            rest: Seconds that a running job says of itself it still needs, by its number.
        """
        if self._first is None:
            return None
        known, timed, untimed = 0.0, 0, 0
        rest = {job: left for job, left in (rest or {}).items() if job in self.began}
        for kind, number in self._left.items():
            if number and (mean := self._mean(kind)) is not None:
                known += number * mean
                timed += number
            else:
                untimed += number
        for jobid, began in self.began.items():
            mean = self._mean(_kind(self.jobs[jobid]))
            if jobid in rest:
                known += rest[jobid] - (mean or 0.0)
                timed, untimed = (timed + 1, untimed - 1) if mean is None else (timed, untimed)
            elif mean is not None:
                known -= min(mean, now - began)
        if untimed > timed:
            return None
        busy = self._busy + sum(now - began for began in self.began.values())
        at_once = max(1.0, busy / max(now - self._first, 1e-9))
        return TimeLeft(max(0.0, known) / at_once, untimed > 0)

    def _mean(self, kind: Kind) -> float | None:
        for alike in _alike(kind):
            if took := self._took.get(alike):
                return took.seconds / took.jobs
        return None


def _kind(job: PlannedJob) -> Kind:
    return job.step, job.of, job.study


def _alike(kind: Kind) -> tuple[Kind, ...]:
    """A kind and wider ones, the nearest first."""
    step, of, study = kind
    return tuple(dict.fromkeys((kind, (step, of, None), (step, None, study), (step, None, None))))


def duration(seconds: float) -> str:
    """Such as "12 s", "3 min" and "2 h 05 min"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def clock(seconds: float) -> str:
    """Such as "0:12" and "2:05:00"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def left_in_words(left: TimeLeft | None) -> str:
    """Such as "about 3 min left"; "" where it is not known."""
    if left is None or (left.at_least and left.seconds < 1):
        return ""
    return f"{'at least' if left.at_least else 'about'} {duration(left.seconds)} left"
