"""What follows for a Job that is waiting or has ended: whether there is another try, and of what.

Pure: `grace.cluster.run.jobs` acts on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from grace.cluster.plan.placement import Placement
from grace.cluster.plan.settings import Cluster
from grace.cluster.run.states import JobState, Outcome, lacks
from grace.cluster.run.tracked import TrackedJob


@dataclass(frozen=True)
class Tries:
    """Tries of a run's Jobs; `placements` are each model's GPUs, the first choice first."""

    cluster: Cluster
    placements: Mapping[str, Sequence[Placement]]

    def waits_for_own(
        self, tracked: TrackedJob, seen: JobState, wanted: Iterable[TrackedJob]
    ) -> bool:
        """Whether a pod waits for what the run's own pods have, and will have it when they end."""
        if seen.phase not in ("podless", "unscheduled"):
            return False
        beside = [
            other.request
            for other in wanted
            if other is not tracked and other.phase in ("starting", "running")
        ]
        placement = tracked.request.placement
        gpu = self.cluster.gpus.get(placement.tag) if placement is not None else None
        if placement is not None and gpu is not None and lacks(seen.reason, gpu.resource):
            return placement.tag in [one.placement.tag for one in beside if one.placement]
        return bool(beside) and any(lacks(seen.reason, one) for one in ("cpu", "memory", "pods"))

    def next_try(self, tracked: TrackedJob, found: Outcome) -> TrackedJob | None:
        """The next try of a Job that the cluster ended, not what ran; None where there is none."""
        if len(tracked.disruptions) > self.cluster.disruptions:
            return None
        if found.disrupted:
            return replace(
                self.changed(tracked, found), tries=tracked.tries,
                disruptions=tracked.disruptions, avoid=tracked.avoid,
            )  # fmt: skip
        if tracked.tries >= self.cluster.tries or not (found.again or found.move):
            return None
        changed = self.changed(tracked, found)
        if found.move and changed.placement <= tracked.placement:
            return None
        return replace(changed, tries=tracked.tries + 1)

    def changed(self, tracked: TrackedJob, found: Outcome) -> TrackedJob:
        """What another try is to have: more memory after OOMKilled, the next GPUs in the list."""
        request, placement = tracked.request, tracked.placement
        if found.oom:
            own = (request.memory_mib - request.shm_mib) * self.cluster.more_memory
            request = replace(request, mem_mb=math.ceil(own * 2**20 / 10**6))
        options = self.placements.get(request.loads or "", [])
        if found.move and request.placement is not None:
            placement = (placement + 1) % len(options)
            request = replace(request, placement=options[placement])
        return TrackedJob(tracked.info, request, placement=placement)
