"""A run's Jobs: what is there is compared with what is wanted, and made more like it.

Reconciling lists all Jobs and pods of the run, in two calls, and then creates, adopts, waits,
reports, deletes. A call that failed is made up for the next time. Knows nothing of Snakemake: what
a Job is for is its caller's, to whom its end is reported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grace.cluster.plan.placement import Placement
from grace.cluster.plan.pods import CONTAINER, PodRequest
from grace.cluster.plan.settings import Cluster
from grace.cluster.run.api import Api, ApiError
from grace.cluster.run.disruptions import avoiding
from grace.cluster.run.pod_refusals import PodRefusals
from grace.cluster.run.queue import Order, ready
from grace.cluster.run.refusals import Refusals
from grace.cluster.run.states import (
    WAITING,
    JobState,
    Outcome,
    active,
    ended,
    job_state,
    outcome,
)
from grace.cluster.run.tracked import (
    SubmittedJob,
    TrackedJob,
    annotations_of,
    deleted,
    makes_of,
    name_of,
    needs_of,
)
from grace.cluster.run.tries import Tries
from grace.errors import GraceError

LOG_LINES = 200
#: Lines of a failed pod's log on the terminal.
SHOWN_LINES = 20
#: Looks between two at the events of Jobs that have no pod.
LOOKS_PER_EVENTS = 3
#: Times that a failed pod's log is asked for, at as many looks.
LOG_TRIES = 3
#: What all Jobs wait for together.
_QUOTA = "quota"
Json = dict[str, Any]


@dataclass(kw_only=True)
class Jobs:
    """The Jobs that a run wants (`submit`) or has: `tracked_jobs`, by the Job's name.

    `selector` finds the run's Jobs and pods, `placements` are each model's GPUs, `manifest` makes
    a Job of a request. How a Job ended is reported once: `succeeded`, or `failed` with the reason
    and the file in `logs` with what its pod wrote; `saw` gets each pod at each look. `omit_cleanup`
    leaves finished Jobs where they are. `prepare` is called before a Job is created, and raises
    `ApiError` where none can be. `wake` is set where to reconcile again at once; nothing
    begins once `over` is set.

    One thread reconciles; others may call `submit` meanwhile.
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
    succeeded: Callable[[TrackedJob], object]
    failed: Callable[[TrackedJob, str, Path | None], object]
    saw: Callable[[Json], object] = lambda pod: None
    prepare: Callable[[], object] = lambda: None
    tracked_jobs: dict[str, TrackedJob] = field(default_factory=dict, init=False)
    _failed: dict[str, TrackedJob] = field(default_factory=dict, init=False)
    _ended: set[str] = field(default_factory=set, init=False)
    #: Those that were given up before they ended, until they are deleted.
    _pending_deletion: set[str] = field(default_factory=set, init=False)
    _just_failed: bool = field(default=False, init=False)
    refusals: Refusals = field(init=False)
    #: Jobs in the namespace at the last look.
    _there: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.refusals = Refusals(self.cluster.api_backoff_s)
        every_s = LOOKS_PER_EVENTS * self.cluster.poll_s
        self._pod_refusals = PodRefusals(self.api, every_s, self.logger)

    @property
    def _tries(self) -> Tries:
        return Tries(self.cluster, self.placements)

    def submit(self, info: SubmittedJob, request: PodRequest) -> None:
        """Want a Job; `reconcile` creates it when its turn has come.

        Another attempt at one that failed has what was to be changed then.
        """
        before = self._failed.pop(request.name, None)
        if before is not None and request.attempt > 1:
            placement, mem_mb = before.request.placement, before.request.mem_mb
            request = replace(request, placement=placement, mem_mb=max(mem_mb, request.mem_mb))
        self.tracked_jobs[request.name] = TrackedJob(
            info, request, placement=before.placement if before else 0
        )

    def reconcile(self) -> None:
        """Compare what is there with what is wanted, and act. Raises `ApiError` of a list."""
        # What the bucket lets through until the next time; lists come first.
        most = self.api.calls + max(3, int(self.cluster.api_calls_per_s * self.cluster.poll_s))
        jobs = {name_of(job): job for job in self.api.jobs(self.selector)}
        if len(jobs) < self._there:
            self.refusals.forget(_QUOTA)
        self._there = len(jobs)
        pods: dict[str, list[Json]] = {}
        for pod in self.api.pods(self.selector):
            pods.setdefault(pod["metadata"]["labels"].get("job-name", ""), []).append(pod)
            self.saw(pod)
        # Pods that go on although their Job is gone.
        orphan_pods = {
            name: pod
            for name, several in pods.items()
            for pod in several
            if name not in jobs and not ended(pod)
        }
        places: list[TrackedJob] = []
        self._just_failed = False
        for tracked in self._wanted():
            if tracked.created:
                self._judge(tracked, jobs.get(tracked.name), pods.get(tracked.name, []))
            elif self._is_free(tracked, jobs, orphan_pods):
                places.append(tracked)
        # They come first: ended Jobs count in a quota of Jobs until they are deleted.
        unwanted = (
            self._pending_deletion if self.omit_cleanup else self._pending_deletion | self._ended
        )
        for name in sorted(unwanted - self.tracked_jobs.keys()):
            if self.api.calls >= most or self.over.is_set():
                break
            self._delete(name)
        # What failed may be tried once more, and comes before the models after it.
        self._create([one for one in places if not (self._just_failed and one.request.gpus)], most)

    def _wanted(self) -> list[TrackedJob]:
        """The tracked_jobs now; `submit` may add to them meanwhile."""
        return list(self.tracked_jobs.values())  # one step of the interpreter, unlike a loop

    def _is_free(
        self, tracked: TrackedJob, jobs: Mapping[str, Json], orphan_pods: Mapping[str, Json]
    ) -> bool:
        """Whether a Job may be created now; one that does the same already is adopted.

        Never are there two that make the same file: what is left of another run, or of a try
        before, is deleted and waited for. One that makes more does, too: what it had finished is
        not wanted any more. A pod on a node that is silent never goes, and may still write.
        """
        makes = makes_of(tracked.request.annotations)

        def alike(thing: Json) -> bool:
            return bool(makes.keys() & makes_of(annotations_of(thing)).keys())

        others = {name: job for name, job in jobs.items() if name == tracked.name or alike(job)}
        left = [name for name, pod in orphan_pods.items() if name == tracked.name or alike(pod)]
        if not others and not left:
            return True
        mine = {
            name for name in others if name in self.tracked_jobs and self.tracked_jobs[name].created
        }
        if len(others) == 1 and makes and not mine and not left:
            ((name, job),) = others.items()
            same = makes.items() <= makes_of(annotations_of(job)).items()
            if same and active(job) and name not in self._ended | self._pending_deletion:
                self.logger.info(f"{name} runs already: adopted.")
                del self.tracked_jobs[tracked.name]
                tracked.adopt(job, self.placements.get(tracked.request.loads or "", []))
                self.tracked_jobs[tracked.name] = tracked
                return False
        for name, job in others.items():
            if name not in mine and not deleted(job):
                self._delete(name)
        waited = tracked.seconds_in("blocked", time.monotonic())
        if not mine and waited >= self.cluster.removal_s:
            self._fail_blocked(tracked, [*others, *left][0], waited)
        return False

    def _fail_blocked(self, tracked: TrackedJob, name: str, waited_s: float) -> None:
        reason = (
            f"the Job {name} makes the same and was deleted, but its pod is there after"
            f" {waited_s:.0f} s. Its node may be silent, and the pod still write. When that is out"
            f" of the question: kubectl -n {self.cluster.namespace} delete pods --force"
            f" -l job-name={name}"
        )
        self._fail(tracked, reason, None)

    def _create(self, places: Sequence[TrackedJob], most: int) -> None:
        """Create those of the tracked_jobs whose turn it is, until so many calls were made."""
        free = {tracked.name for tracked in places}
        # One that waits for what was there before it to go has its place already.
        taken = [tracked.waiting() for tracked in self._wanted() if tracked.name not in free]
        begun = time.monotonic()
        names = ready([tracked.waiting() for tracked in places], taken, self.order)
        # Those that were refused come after those that were not.
        for name in sorted(names, key=self.refusals.times):
            tracked = self.tracked_jobs[name]
            if self.api.calls >= most or self.over.is_set():
                self.wake.set()
                break
            if not all(map(self.refusals.due, (name, _QUOTA, ("disrupted", name)))):
                continue
            try:
                self.prepare()
                self.api.create_job(avoiding(self.manifest(tracked.request), tracked.avoid))
            except ApiError as error:
                self._refused(tracked, error)
                # No one answers, or slowly: the next look sees to the others.
                if error.status == 0 or time.monotonic() - begun > self.cluster.poll_s:
                    break
                continue
            tracked.created, tracked.phase = True, ""
            self._forget(name)
            self.refusals.forget(name)
            self.refusals.forget(_QUOTA)
            self.logger.info(f"Job {name}: {tracked.request.rule}.")

    def _refused(self, tracked: TrackedJob, error: ApiError) -> None:
        """A Job was not created: it waits, alone or with all others, or has failed for good."""
        if error.status == 409:
            return  # the next list shows what came of it
        if not error.passing and not error.quota:
            self._fail(tracked, str(error), None)
            return
        if error.quota and not error.beyond_quota:
            # There is room once Jobs have gone, whosever they are: that takes as long as it takes.
            if self.refusals.note(_QUOTA, str(error)):
                self.logger.info(f"{tracked.name} waits, and all after it: {error}")
            return
        if self.refusals.note(tracked.name, str(error)):
            self.logger.warning(f"{tracked.name} waits: {error}")
        patience_s = self.cluster.patience_s if error.quota else self.cluster.api_patience_s
        waited_s = self.refusals.seconds(tracked.name)
        if waited_s >= patience_s:
            self.refusals.forget(tracked.name)
            self._fail(tracked, f"{error}, for {waited_s:.0f} s", None)

    def _judge(self, tracked: TrackedJob, job: Json | None, pods: list[Json]) -> None:
        """Report a Job that has ended, or start it again."""
        seen = job_state(job, pods, CONTAINER)
        if seen.phase == "podless" and job is not None:
            seen = self._pod_refusals.explain(job, seen, tracked.pod_made)
        for pod in pods:
            tracked.pod_made = max(tracked.pod_made, pod["metadata"].get("creationTimestamp") or "")
        for words in tracked.newly_disrupted(pods):
            self.logger.warning(
                f"{tracked.name}: the cluster ended its pod, {len(tracked.disruptions)} of at most"
                f" {self.cluster.disruptions} times: {words}"
            )
        if tracked.disruptions and (seen.overdue or (seen.phase == "lost" and not seen.pod)):
            # The Job's time counts the pods that the cluster ended, too; or the pod is gone
            # before the Job that failed with it.
            words = f"{seen.reason}; {tracked.last_words}"
            seen = JobState("lost", words, seen.pod, disrupted=True)
        if seen.too_long and tracked.phase in WAITING:
            seen = JobState("lost", "it waited for a node until its Job's deadline", seen.pod)
        now = time.monotonic()
        waited_s = tracked.seconds_in(seen.phase, now)
        if self._tries.waits_for_own(tracked, seen, self._wanted()):
            tracked.since, waited_s = now, 0.0
        found = outcome(seen, waited_s, self.cluster)
        if seen.phase == "unscheduled" and tracked.avoid and waited_s >= self.cluster.grace_s:
            tracked.avoid = ()
            found = Outcome("failed", f"only nodes that it avoided: {seen.reason}", disrupted=True)
        if found.kind == "active" and len(tracked.disruptions) <= self.cluster.disruptions:
            shown = seen.phase in (*WAITING, "unstartable")
            if found.reason and found.reason != tracked.last_reason and shown:
                tracked.last_reason = found.reason
                self.logger.info(f"{tracked.name} waits: {found.reason}")
            return
        if found.kind == "succeeded":
            self._ended.add(tracked.name)
            del self.tracked_jobs[tracked.name]
            self.succeeded(tracked)
            return
        log = None
        if seen.phase in ("failed", "lost"):
            key = ("log", tracked.name)
            if not self.refusals.due(key):
                return
            log = self._log(tracked, seen.pod)
            if log is None and seen.phase == "failed" and 0 < self.refusals.times(key) < LOG_TRIES:
                return  # a later look may find it
            self.refusals.forget(key)
            self._ended.add(tracked.name)
        else:  # it has not begun, or is gone
            self._pending_deletion.add(tracked.name)
            self._delete(tracked.name)
        if found.disrupted:
            tracked.disrupted(seen.pod, found.reason, seen.bad_node)
            self.refusals.note(("disrupted", tracked.name), found.reason)
        again = self._tries.next_try(tracked, found)
        if again is not None:
            self.logger.warning(
                f"{tracked.name} ({tracked.request.rule}): {found.reason}. Started again, try"
                f" {again.tries} of {self.cluster.tries}: {needs_of(again.request)}"
                f"{again.elsewhere}."
            )
            self.tracked_jobs[tracked.name] = again
            return
        self._failed[tracked.name] = self._tries.changed(tracked, found)
        reason = found.reason
        if len(tracked.disruptions) > self.cluster.disruptions:
            reason = (
                f"the cluster ended its pods {len(tracked.disruptions)} times, at last:"
                f" {tracked.last_words}"
            )
        self._fail(tracked, reason, log)

    def _fail(self, tracked: TrackedJob, reason: str, log: Path | None) -> None:
        log_tail = ""
        if log is not None:
            lines = log.read_text(encoding="utf-8").splitlines()[-SHOWN_LINES:]
            log_tail = "\n".join([f"\nThe pod's last lines ({log}):", *lines])
        self.logger.error(f"{tracked.name} ({tracked.request.rule}) failed: {reason}{log_tail}")
        del self.tracked_jobs[tracked.name]
        self._just_failed = True
        self.failed(tracked, reason, log)

    def _log(self, tracked: TrackedJob, pod: str | None) -> Path | None:
        """What a failed pod wrote, as a file here; None where it cannot be had."""
        if pod is None:
            return None
        path = self.logs / f"{tracked.name}.log"
        try:
            path.write_text(self.api.log(pod, CONTAINER, LOG_LINES), encoding="utf-8")
        except ApiError as error:
            if error.passing:
                self.refusals.note(("log", tracked.name), str(error))
            self.logger.warning(str(error))
            return None
        return path

    def _delete(self, name: str) -> None:
        """Delete a Job; what cannot be deleted now is at the end of the run."""
        key = ("delete", name)
        if not self.refusals.due(key):
            return
        try:
            self.api.delete_job(name)
            self._forget(name)
            self.refusals.forget(key)
        except ApiError as error:
            if self.refusals.note(key, str(error)):
                self.logger.warning(str(error))

    def _forget(self, name: str) -> None:
        self._ended.discard(name)
        self._pending_deletion.discard(name)

    def clean_up(self) -> None:
        """Delete what is left of the run, and wait until it is gone. Raises `GraceError`."""
        deadline = time.monotonic() + self.cluster.removal_s
        while left := [job for job in self.api.jobs(self.selector) if self._is_leftover(job)]:
            for job in left if self.omit_cleanup else []:
                self._delete(name_of(job))
            if not self.omit_cleanup and any(not deleted(job) for job in left):
                self.api.delete_jobs(self.selector)
            if time.monotonic() >= deadline:
                raise GraceError("the run's Jobs were deleted, but do not go away")
            self.over.wait(min(1.0, self.cluster.poll_s))

    def _is_leftover(self, job: Json) -> bool:
        """Whether a Job is to go at the end of the run."""
        if not self.omit_cleanup or deleted(job):
            return True
        return active(job) and name_of(job) not in self._ended
