"""Why the cluster makes no pod for a Job: the words of its events.

A pod that a quota, a LimitRange, a policy or a webhook refuses is in no list: the Job's events
alone tell of it (reason FailedCreate).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from grace.cluster.run.api import ApiError
from grace.cluster.run.states import JobState

Json = Mapping[str, Any]
#: Words of a refusal that may pass by itself, which count before those of one that does not. The
#: API server says the third and fourth while its caches fill.
PASSING = (
    "exceeded quota", "Internal error occurred", "status unknown for quota", "not yet ready",
    "failed calling webhook", "timed out", "timeout", "error looking up service account",
)  # fmt: skip
#: Words of one that a person has to change something for.
FINAL = ("is forbidden", "denied the request", "is invalid", "no PriorityClass")
#: What follows are its author's words, of whatever they remind. A webhook's ("denied the request:")
#: may be those of its own failure.
_POLICY = re.compile(r"ValidatingAdmissionPolicy .* denied request: ")


@dataclass(frozen=True)
class PodRefusal:
    """What the cluster says, when (as it writes times), and whether it cannot pass by itself."""

    words: str
    at: str
    final: bool


class Events(Protocol):
    """Where events come from: `grace.cluster.run.api.Api`."""

    def failed_creates(self) -> list[dict[str, Any]]: ...


def refusals(events: Iterable[Json]) -> dict[str, PodRefusal]:
    """The newest refusal of each Job, by its uid: a Job before it may have had its name."""
    found: dict[str, PodRefusal] = {}
    for event in events:
        name = event["involvedObject"].get("uid") or event["involvedObject"]["name"]
        made = event["metadata"].get("creationTimestamp")
        at = str(event.get("lastTimestamp") or event.get("eventTime") or made or "")
        if name not in found or at >= found[name].at:
            words = str(event.get("message") or "").removeprefix("Error creating: ").strip()
            passing = any(one in words for one in PASSING) and not _POLICY.search(words)
            final = not passing and any(one in words for one in FINAL)
            found[name] = PodRefusal(words.rstrip("."), at, final)
    return found


@dataclass
class PodRefusals:
    """The refusals of a run's Jobs, read anew at most every `every_s` seconds."""

    api: Events
    every_s: float
    logger: logging.Logger
    clock: Callable[[], float] = time.monotonic
    _found: dict[str, PodRefusal] = field(default_factory=dict, init=False)
    _read_at: float = field(default=float("-inf"), init=False)
    _forbidden: int = field(default=0, init=False)

    def explain(self, job: Json, seen: JobState, pod_made: str) -> JobState:
        """The state of a Job without a pod, with the cluster's words for it.

        `pod_made` is when its last pod was, empty where there was none.
        """
        if self.clock() - self._read_at >= self.every_s:
            self._read()
        found = self._found.get(job["metadata"].get("uid") or job["metadata"]["name"])
        if found is not None and (not pod_made or found.at[:19] > pod_made[:19]):
            return replace(seen, phase="refused" if found.final else "podless", reason=found.words)
        if pod_made:
            gone = "its pod was deleted, or its node went away, and no other was made"
            return replace(seen, reason=gone)
        return seen

    def _read(self) -> None:
        self._read_at = self.clock()
        try:
            self._found = refusals(self.api.failed_creates())
        except ApiError as error:
            # An API server that has just started says so once, too.
            self._forbidden += error.status == 403
            if self._forbidden == 2:
                self._forbidden += 1
                self.logger.warning(
                    f"{error}. Why the cluster makes no pods stays unknown; `make cluster-up` gives"
                    " the right to list events (docs/kubernetes.md)."
                )
