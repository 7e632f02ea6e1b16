"""One Job that a run wants or has, and what its object in the cluster says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from grace.cluster.plan.placement import Placement
from grace.cluster.plan.pods import TAG_LABEL, PodRequest
from grace.cluster.run.queue import Waiting

#: Annotation of a Job: for each file that it makes, a digest of its name and one of its making.
MAKES = "grace/makes"
Json = dict[str, Any]


class SubmittedJob(Protocol):
    """Who asked for a Job, and knows it by this name: Snakemake's `SubmittedJobInfo`."""

    job: Any
    external_jobid: str | None


@dataclass
class TrackedJob:
    """A Job of the cluster that this run wants, or has.

    `since` is when its present phase began; `last_reason` for waiting was shown. `pod_made` is when
    its last pod was made, as the cluster writes it; empty before there was one.
    """

    info: SubmittedJob
    request: PodRequest
    created: bool = False
    phase: str = ""
    since: float = 0.0
    last_reason: str = ""
    tries: int = 1
    placement: int = 0
    pod_made: str = ""

    @property
    def name(self) -> str:
        return self.request.name

    def adopt(self, job: Json, options: Sequence[Placement]) -> None:
        """Take a Job that runs for this one, on the GPUs that it has."""
        name, tag = name_of(job), job["metadata"].get("labels", {}).get(TAG_LABEL)
        self.request = replace(self.request, name=name)
        for index, option in enumerate(options):
            if option.tag == tag:
                self.placement = index
                self.request = replace(self.request, placement=option)
        self.info.external_jobid = name
        self.created = True

    def waiting(self) -> Waiting:
        return Waiting(self.name, self.request.loads, self.request.gpus)

    def seconds_in(self, phase: str, now: float) -> float:
        """Seconds since it has been in this phase."""
        if phase != self.phase:
            self.phase, self.since = phase, now
        return now - self.since


def name_of(job: Json) -> str:
    """The Job's name."""
    return str(job["metadata"]["name"])


def deleted(job: Json) -> bool:
    """Whether it is being deleted."""
    return bool(job["metadata"].get("deletionTimestamp"))


def annotations_of(job: Json) -> Mapping[str, str]:
    """Its annotations, maybe none."""
    return job["metadata"].get("annotations") or {}


def makes_of(annotations: Mapping[str, str]) -> dict[str, str]:
    """Digests of the files that a Job makes, each with that of its making."""
    return dict(pair.split(":") for pair in annotations.get(MAKES, "").split())


def needs_of(request: PodRequest) -> str:
    """What a pod has, for people."""
    gpus = f", {request.gpus} × {request.placement.tag}" if request.placement else ""
    return f"{request.cpu} cores, {request.memory_mib} MiB{gpus}"
