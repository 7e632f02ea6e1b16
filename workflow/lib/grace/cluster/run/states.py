"""What has become of a Job, from what the API shows of it and its pods. Pure.

The words are the kubelet's and the scheduler's own wherever they gave any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from grace.cluster.plan.settings import Cluster

Json = Mapping[str, Any]
Phase = Literal[
    "gone",
    "ending",
    "podless",
    "refused",
    "unscheduled",
    "starting",
    "unstartable",
    "running",
    "succeeded",
    "failed",
    "lost",
]

#: Phases of a Job that waits for others, or for the cluster; of each, its words are shown at once.
WAITING: tuple[Phase, ...] = ("podless", "refused", "unscheduled")
#: Why a container does not start wherever it is put.
UNSTARTABLE = (
    "CreateContainerConfigError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
)


@dataclass(frozen=True)
class JobState:
    """Where a Job is, why, and the pod that shows it.

    `podless` has no pod (yet), `refused` none that the cluster would make as it is now.
    `lost` is a failure that the cluster caused, not what ran: evicted, preempted, deleted. `oom`
    is a failure for want of memory, `too_long` one for want of time. `exit_code` is the
    container's, None where it has none.
    """

    phase: Phase
    reason: str = ""
    pod: str | None = None
    exit_code: int | None = None
    oom: bool = False
    too_long: bool = False


@dataclass(frozen=True)
class Outcome:
    """What follows from a state: go on, or how it ended.

    `again` says that another try of the same may do; `move` that it may on other GPUs.
    """

    kind: Literal["active", "succeeded", "failed"]
    reason: str = ""
    again: bool = False
    move: bool = False
    oom: bool = False


def job_state(job: Json | None, pods: Sequence[Json], container: str) -> JobState:
    """Where a Job is. `pods` are its own, usually one; `container` is ours among injected ones."""
    if job is None:
        return JobState("gone", "the Job was deleted")
    newest = sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp") or "")
    seen = [_of_pod(pod, container) for pod in newest]
    if job["metadata"].get("deletionTimestamp"):
        return JobState("ending", "the Job was deleted")
    conditions = _conditions(job)
    if "Complete" in conditions or any(one.phase == "succeeded" for one in seen):
        return next((one for one in seen if one.phase == "succeeded"), JobState("succeeded"))
    if "Failed" in conditions:
        return _of_failed(conditions["Failed"], seen)
    if not seen:
        return JobState("podless")
    return seen[-1]


def outcome(seen: JobState, since_s: float, cluster: Cluster) -> Outcome:
    """What follows from a state in which a Job has been for so many seconds."""
    waited = f"for {since_s:.0f} s"
    if seen.phase == "succeeded":
        return Outcome("succeeded")
    if seen.phase in ("failed", "lost"):
        again = seen.phase == "lost" or seen.oom
        return Outcome("failed", seen.reason, again=again, oom=seen.oom)
    if seen.phase in ("gone", "ending") and since_s >= cluster.grace_s:
        return Outcome("failed", f"{seen.reason}, but not by this run", again=True)
    if seen.phase == "unscheduled" and since_s >= cluster.patience_s:
        return Outcome("failed", f"no node took the pod {waited}: {seen.reason}", move=True)
    if seen.phase == "podless" and since_s >= cluster.patience_s:
        words = seen.reason or "its events do not say why; has the namespace any quota left?"
        return Outcome("failed", f"no pod was made {waited}: {words}", move=True)
    if seen.phase == "refused" and since_s >= cluster.grace_s:
        reason = f"the cluster makes no such pod, which does not change by itself: {seen.reason}"
        return Outcome("failed", reason, move=True)
    if seen.phase == "starting" and since_s >= cluster.start_patience_s:
        return Outcome("failed", f"the pod did not start {waited}: {seen.reason}", again=True)
    if seen.phase == "unstartable" and since_s >= min(cluster.start_patience_s, cluster.patience_s):
        return Outcome("failed", f"the pod did not start {waited}: {seen.reason}")
    return Outcome("active", seen.reason)


def active(job: Json) -> bool:
    """Whether a Job may still run, and is not being deleted."""
    finished = {"Complete", "Failed"} & set(_conditions(job))
    return not finished and not job["metadata"].get("deletionTimestamp")


def ended(pod: Json) -> bool:
    """Whether nothing of a pod runs any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def lacks(words: str, resource: str) -> bool:
    """Whether the scheduler or a quota says that there is too little of a resource."""
    escaped = re.escape(resource)
    of_scheduler = re.search(rf"(Insufficient {escaped}|Too many {escaped})(?![\w./-])", words)
    of_quota = "exceeded quota" in words and re.search(
        rf"requested: [^:]*\b((requests|limits)\.)?{escaped}=", words
    )
    return bool(of_scheduler or of_quota)


def image_id(pod: Json, container: str) -> str | None:
    """What its node says that a pod's image is, with a registry's digest; None before it runs."""
    found = _container(pod.get("status") or {}, container).get("imageID")
    return found if isinstance(found, str) and found else None


def _conditions(thing: Json) -> dict[str, Json]:
    """Conditions that hold, by type."""
    found = (thing.get("status") or {}).get("conditions") or []
    return {one["type"]: one for one in found if one.get("status") == "True"}


def _words(thing: Json) -> str:
    """`reason: message`, as far as given."""
    return ": ".join(str(thing[key]).rstrip(".") for key in ("reason", "message") if thing.get(key))


def _of_failed(condition: Json, seen: Sequence[JobState]) -> JobState:
    """A Job that failed: what its pod says, else that the pod is gone, else the Job's words."""
    explained = [one for one in seen if one.phase in ("failed", "lost")]
    if explained and condition.get("reason") != "DeadlineExceeded":
        return explained[-1]
    words = _words(condition) or "no reason given"
    if condition.get("reason") == "DeadlineExceeded":
        return _too_long(words, _pod(seen))
    if not seen:
        return JobState("lost", f"its pod was deleted, or its node went away ({words})")
    return JobState("lost", words, _pod(seen))


def _too_long(words: str, pod: str | None) -> JobState:
    return JobState("failed", f"it ran longer than its `runtime`: {words}", pod, too_long=True)


def _pod(seen: Sequence[JobState]) -> str | None:
    return seen[-1].pod if seen else None


def _of_pod(pod: Json, container: str) -> JobState:
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    conditions = _conditions(pod)
    ours = _container(status, container)
    ended = (ours.get("state") or {}).get("terminated")
    disrupted = conditions.get("DisruptionTarget")
    if ended is not None and ended["exitCode"] == 0:
        return JobState("succeeded", pod=name, exit_code=0)
    if ended is not None:
        return _of_ended(pod, ended, disrupted)
    if status.get("reason") == "DeadlineExceeded":
        return _too_long(_words(status), name)
    if status.get("phase") == "Failed":
        return JobState("lost", _words(status) or "the pod failed, and no one says why", name)
    if pod["metadata"].get("deletionTimestamp"):
        return JobState("ending", "the pod is being deleted", name)
    if status.get("phase") in ("Running", "Unknown"):  # unknown: its node is silent
        return JobState("running", pod=name)
    unscheduled = _not(status, "PodScheduled")
    if unscheduled is not None:
        return JobState("unscheduled", _words(unscheduled), name)
    waiting = (ours.get("state") or {}).get("waiting") or {}
    phase: Phase = "unstartable" if waiting.get("reason") in UNSTARTABLE else "starting"
    return JobState(phase, _words(waiting) or "its container is being created", name)


def _of_ended(pod: Json, ended: Json, disrupted: Json | None) -> JobState:
    name, status, code = pod["metadata"]["name"], pod["status"], ended["exitCode"]
    if ended.get("reason") == "OOMKilled":
        return JobState("failed", "OOMKilled: it needs more memory", name, code, oom=True)
    if status.get("reason") == "DeadlineExceeded":
        return _too_long(_words(status), name)
    if disrupted is not None or status.get("reason"):
        words = _words(status) or _words(disrupted or {})
        return JobState("lost", f"{words} (exit code {code})", name, code)
    if _deleted_before(pod["metadata"], ended):
        return JobState("lost", f"its pod was deleted (exit code {code})", name, code)
    words = _words(ended)
    plain = "" if words in ("", "Error") else f" ({words})"
    return JobState("failed", f"exit code {code}{plain}", name, code)


def _deleted_before(metadata: Json, ended: Json) -> bool:
    """Whether a pod's container ended because the pod was being deleted.

    `deletionTimestamp` is the end of the time that the container is given, not of the request.
    """
    if not metadata.get("deletionTimestamp"):
        return False
    if not ended.get("finishedAt"):
        return True
    given = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    asked = datetime.fromisoformat(metadata["deletionTimestamp"]) - given
    # Times in the cluster are whole seconds.
    return datetime.fromisoformat(ended["finishedAt"]) >= asked.replace(microsecond=0)


def _container(status: Json, container: str) -> Json:
    found: Sequence[Json] = status.get("containerStatuses") or []
    return next((one for one in found if one["name"] == container), {})


def _not(status: Json, condition: str) -> Json | None:
    found: Sequence[Json] = status.get("conditions") or []
    return next(
        (one for one in found if one["type"] == condition and one.get("status") == "False"), None
    )
