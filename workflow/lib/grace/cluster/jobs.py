"""A run's Jobs: what is there is compared with what is wanted, and made more like it.

One look lists all Jobs and pods of the run, in two calls, and then creates, adopts, waits, reports,
deletes. A call that failed is mended by the next look. Knows nothing of Snakemake: what a Job is
for is its caller's, who is told how it ended.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from grace.cluster.api import Api, ApiError
from grace.cluster.placement import Placement
from grace.cluster.pods import CONTAINER, TAG_LABEL, PodRequest
from grace.cluster.queue import Order, Waiting, ready
from grace.cluster.settings import Cluster
from grace.cluster.states import Verdict, active, ended, state, verdict
from grace.errors import GraceError

#: Annotation of a Job: for each file that it makes, a digest of its name and one of its making.
MAKES = "grace/makes"
LOG_LINES = 200
#: Lines of a failed pod's log on the terminal.
TOLD_LINES = 20
Json = dict[str, Any]


class Asked(Protocol):
    """Who asked for a Job, and knows it by this name: Snakemake's `SubmittedJobInfo`."""

    job: Any
    external_jobid: str | None


@dataclass
class Task:
    """A Job of the cluster that this run wants, or has.

    `since` is when its present phase began; `told` is the last reason for waiting that was shown.
    """

    info: Asked
    request: PodRequest
    created: bool = False
    phase: str = ""
    since: float = 0.0
    told: str = ""
    tries: int = 1
    placement: int = 0

    @property
    def name(self) -> str:
        return self.request.name

    def adopt(self, job: Json, options: Sequence[Placement]) -> None:
        """Take a Job that runs for this one, on the GPUs that it has."""
        name, tag = _name(job), job["metadata"].get("labels", {}).get(TAG_LABEL)
        self.request = replace(self.request, name=name)
        for index, option in enumerate(options):
            if option.tag == tag:
                self.placement = index
                self.request = replace(self.request, placement=option)
        self.info.external_jobid = name
        self.created = True

    def waiting(self) -> Waiting:
        model = self.request.model if self.request.loads_model else None
        return Waiting(self.name, model, self.request.gpus)

    def seconds_in(self, phase: str, now: float) -> float:
        """Seconds since it has been in this phase."""
        if phase != self.phase:
            self.phase, self.since = phase, now
        return now - self.since


@dataclass(kw_only=True)
class Jobs:
    """The Jobs that a run wants (`want`), and those that it has: `tasks`, by the Job's name.

    `selector` finds the run's Jobs and pods, `placements` are each model's GPUs, `manifest` makes
    a Job of a request. How a Job ended is told once: `succeeded`, or `failed` with the reason and
    the file in `logs` with what its pod wrote. `omit_cleanup` leaves finished Jobs where they are.
    `wake` is set where the next look should come at once; nothing begins once `over` is set.

    One thread looks; others may call `want` meanwhile.
    """

    api: Api
    cluster: Cluster
    order: Order
    placements: Mapping[str, Sequence[Placement]]
    selector: str
    logs: Path
    omit_cleanup: bool
    logger: logging.Logger
    wake: threading.Event
    over: threading.Event
    manifest: Callable[[PodRequest], Json]
    succeeded: Callable[[Task], object]
    failed: Callable[[Task, str, Path | None], object]
    tasks: dict[str, Task] = field(default_factory=dict, init=False)
    _failed: dict[str, Task] = field(default_factory=dict, init=False)
    _ended: set[str] = field(default_factory=set, init=False)
    #: Those that were given up before they ended, until they are deleted.
    _doomed: set[str] = field(default_factory=set, init=False)
    _just_failed: bool = field(default=False, init=False)

    def want(self, info: Asked, request: PodRequest) -> None:
        """Want a Job; a look creates it when its turn has come.

        Another attempt at one that failed has what was to be changed then.
        """
        before = self._failed.pop(request.name, None)
        if before is not None and request.attempt > 1:
            placement, mem_mb = before.request.placement, before.request.mem_mb
            request = replace(request, placement=placement, mem_mb=max(mem_mb, request.mem_mb))
        self.tasks[request.name] = Task(info, request, placement=before.placement if before else 0)

    def look(self) -> None:
        """Compare what is there with what is wanted, and act. Raises `ApiError` of a list."""
        # What the bucket lets through until the next look; lists come first.
        most = self.api.calls + max(3, int(self.cluster.api_calls_per_s * self.cluster.poll_s))
        jobs = {_name(job): job for job in self.api.jobs(self.selector)}
        pods: dict[str, list[Json]] = {}
        for pod in self.api.pods(self.selector):
            pods.setdefault(pod["metadata"]["labels"].get("job-name", ""), []).append(pod)
        # Pods that go on although their Job is gone.
        strays = {
            name: pod
            for name, several in pods.items()
            for pod in several
            if name not in jobs and not ended(pod)
        }
        places: list[Task] = []
        self._just_failed = False
        for task in self._wanted():
            if task.created:
                self._judge(task, jobs.get(task.name), pods.get(task.name, []))
            elif self._is_free(task, jobs, strays):
                places.append(task)
        # What failed may be tried once more, and comes before the models after it.
        self._create([one for one in places if not (self._just_failed and one.request.gpus)], most)
        unwanted = self._doomed if self.omit_cleanup else self._doomed | self._ended
        for name in sorted(unwanted - self.tasks.keys()):
            if self.api.calls >= most or self.over.is_set():
                break
            self._delete(name)

    def _wanted(self) -> list[Task]:
        """The tasks now; `want` may add to them meanwhile."""
        return list(self.tasks.values())  # one step of the interpreter, unlike a loop

    def _is_free(self, task: Task, jobs: Mapping[str, Json], strays: Mapping[str, Json]) -> bool:
        """Whether a Job may be created now; one that does the same already is adopted.

        Never are there two that make the same file: what is left of another run, or of a try
        before, is deleted and waited for. One that makes more does, too: what it had finished is
        not wanted any more. A pod on a node that is silent never goes, and may still write.
        """
        makes = _makes(task.request.annotations)

        def alike(thing: Json) -> bool:
            return bool(makes.keys() & _makes(_annotations(thing)).keys())

        others = {name: job for name, job in jobs.items() if name == task.name or alike(job)}
        left = [name for name, pod in strays.items() if name == task.name or alike(pod)]
        if not others and not left:
            return True
        mine = {name for name in others if name in self.tasks and self.tasks[name].created}
        if len(others) == 1 and makes and not mine and not left:
            ((name, job),) = others.items()
            same = makes.items() <= _makes(_annotations(job)).items()
            if same and active(job) and name not in self._ended | self._doomed:
                self.logger.info(f"{name} runs already: adopted.")
                del self.tasks[task.name]
                task.adopt(job, self.placements.get(task.request.model or "", []))
                self.tasks[task.name] = task
                return False
        for name, job in others.items():
            if name not in mine and not _deleted(job):
                self._delete(name)
        waited = task.seconds_in("blocked", time.monotonic())
        if not mine and waited >= self.cluster.removal_s:
            self._fail_blocked(task, [*others, *left][0], waited)
        return False

    def _fail_blocked(self, task: Task, name: str, waited_s: float) -> None:
        reason = (
            f"the Job {name} makes the same and was deleted, but its pod is there after"
            f" {waited_s:.0f} s. Its node may be silent, and the pod still write. When that is out"
            f" of the question: kubectl -n {self.cluster.namespace} delete pods --force"
            f" -l job-name={name}"
        )
        self._fail(task, reason, None)

    def _create(self, places: Sequence[Task], most: int) -> None:
        """Create those of the tasks whose turn it is, until so many calls were made."""
        free = {task.name for task in places}
        # One that waits for what was there before it to go has its place already.
        taken = [task.waiting() for task in self._wanted() if task.name not in free]
        for name in ready([task.waiting() for task in places], taken, self.order):
            task = self.tasks[name]
            if self.api.calls >= most or self.over.is_set():
                self.wake.set()
                break
            try:
                self.api.create_job(self.manifest(task.request))
            except ApiError as error:
                if error.quota and not self._out_of_patience(task, error):
                    continue
                if error.status != 409 and not error.passing:
                    self._fail(task, str(error), None)
                continue  # otherwise the next look shows what came of it
            task.created, task.phase = True, ""
            self._forget(name)
            self.logger.info(f"Job {name}: {task.request.rule}.")

    def _out_of_patience(self, task: Task, error: ApiError) -> bool:
        """Whether a Job that the quota has no room for has waited for long enough."""
        if task.told != str(error):
            task.told = str(error)
            self.logger.info(f"{task.name} waits: {error}")
        return task.seconds_in("no quota", time.monotonic()) >= self.cluster.patience_s

    def _judge(self, task: Task, job: Json | None, pods: list[Json]) -> None:
        """Tell if a Job has ended, or start it again."""
        seen = state(job, pods, CONTAINER)
        found = verdict(seen, task.seconds_in(seen.phase, time.monotonic()), self.cluster)
        if found.kind == "active":
            if found.reason and found.reason != task.told and seen.phase == "unscheduled":
                task.told = found.reason
                self.logger.info(f"{task.name} waits: {found.reason}")
            return
        if found.kind == "succeeded":
            self._ended.add(task.name)
            del self.tasks[task.name]
            self.succeeded(task)
            return
        again = self._again(task, found)
        if seen.phase in ("failed", "lost"):
            log = self._log(task, seen.pod)
            self._ended.add(task.name)
        else:  # it has not begun, or is gone
            log = None
            self._doomed.add(task.name)
            self._delete(task.name)
        if again is not None:
            self.logger.warning(
                f"{task.name} ({task.request.rule}): {found.reason}. Started again, try"
                f" {again.tries} of {self.cluster.tries}: {_needs(again.request)}."
            )
            self.tasks[task.name] = again
            return
        self._failed[task.name] = self._changed(task, found)
        self._fail(task, found.reason, log)

    def _again(self, task: Task, found: Verdict) -> Task | None:
        """The next try of a Job that the cluster ended, not what ran; None where there is none."""
        if task.tries >= self.cluster.tries or not (found.again or found.move):
            return None
        changed = self._changed(task, found)
        if found.move and changed.placement <= task.placement:
            return None
        return replace(changed, tries=task.tries + 1)

    def _changed(self, task: Task, found: Verdict) -> Task:
        """What another try is to have: more memory after OOMKilled, the next GPUs in the list."""
        request, placement = task.request, task.placement
        if found.oom:
            own = (request.memory_mib - request.shm_mib) * self.cluster.more_memory
            request = replace(request, mem_mb=math.ceil(own * 2**20 / 10**6))
        options = self.placements.get(request.model or "", [])
        if found.move and request.placement is not None:
            placement = (placement + 1) % len(options)
            request = replace(request, placement=options[placement])
        return Task(task.info, request, placement=placement)

    def _fail(self, task: Task, reason: str, log: Path | None) -> None:
        told = ""
        if log is not None:
            lines = log.read_text(encoding="utf-8").splitlines()[-TOLD_LINES:]
            told = "\n".join([f"\nThe pod's last lines ({log}):", *lines])
        self.logger.error(f"{task.name} ({task.request.rule}) failed: {reason}{told}")
        del self.tasks[task.name]
        self._just_failed = True
        self.failed(task, reason, log)

    def _log(self, task: Task, pod: str | None) -> Path | None:
        """What a failed pod wrote, as a file here; None where it cannot be had."""
        if pod is None:
            return None
        path = self.logs / f"{task.name}.log"
        try:
            path.write_text(self.api.log(pod, CONTAINER, LOG_LINES), encoding="utf-8")
        except ApiError as error:
            self.logger.warning(str(error))
            return None
        return path

    def _delete(self, name: str) -> None:
        """Delete a Job; what cannot be deleted now is at the end of the run."""
        try:
            self.api.delete_job(name)
            self._forget(name)
        except ApiError as error:
            self.logger.warning(str(error))

    def _forget(self, name: str) -> None:
        self._ended.discard(name)
        self._doomed.discard(name)

    def clean_up(self) -> None:
        """Delete what is left of the run, and wait until it is gone. Raises `GraceError`."""
        deadline = time.monotonic() + self.cluster.removal_s
        while left := [job for job in self.api.jobs(self.selector) if self._is_rubbish(job)]:
            for job in left if self.omit_cleanup else []:
                self.api.delete_job(_name(job))
            if not self.omit_cleanup and any(not _deleted(job) for job in left):
                self.api.delete_jobs(self.selector)
            if time.monotonic() >= deadline:
                raise GraceError("the run's Jobs were deleted, but do not go away")
            self.over.wait(min(1.0, self.cluster.poll_s))

    def _is_rubbish(self, job: Json) -> bool:
        """Whether a Job is to go at the end of the run."""
        if not self.omit_cleanup or _deleted(job):
            return True
        return active(job) and _name(job) not in self._ended


def _name(job: Json) -> str:
    return str(job["metadata"]["name"])


def _deleted(job: Json) -> bool:
    return bool(job["metadata"].get("deletionTimestamp"))


def _annotations(job: Json) -> Mapping[str, str]:
    return job["metadata"].get("annotations") or {}


def _makes(annotations: Mapping[str, str]) -> dict[str, str]:
    """Digests of the files that a Job makes, each with that of its making."""
    return dict(pair.split(":") for pair in annotations.get(MAKES, "").split())


def _needs(request: PodRequest) -> str:
    """What a pod has, for people."""
    gpus = f", {request.gpus} × {request.placement.tag}" if request.placement else ""
    return f"{request.cpu} cores, {request.memory_mib} MiB{gpus}"
