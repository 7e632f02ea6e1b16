"""A pod's phases with their times, until it answers, on the terminal of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grace.cluster.plan.pods import NO_MODEL
from grace.runs.pod_phases import noted

Json = Mapping[str, Any]
MARK = "Phase of"
"""How such a line begins; scripts/cluster/status.sh looks for it."""
NODE, IMAGE, RUNNING = "waiting for a node", "pulling the image", "preparing"


def timeline(pod: Json, notes: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """When each phase of a pod began (seconds of the epoch), in order, the present one last.

    `notes` are its own, from when its container runs.
    """
    status = pod.get("status") or {}
    found = [(_seconds(pod["metadata"].get("creationTimestamp")), NODE)]
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("status") == "True":
            found.append((_seconds(condition.get("lastTransitionTime")), IMAGE))
    for container in status.get("containerStatuses") or []:
        running = (container.get("state") or {}).get("running")
        if running is not None:
            found.append((_seconds(running.get("startedAt") or status.get("startTime")), RUNNING))
            found += [*notes]
            break
    return [(at, phase) for at, phase in found if at > 0]


def line(pod: str, phases: Sequence[tuple[float, str]]) -> str:
    """The present phase, since when, and how long those before it took."""
    ends = [at for at, _ in phases[1:]]
    took = [
        f"{phase} {max(0.0, end - at):.0f} s"
        for (at, phase), end in zip(phases, ends, strict=False)
    ]
    since = datetime.fromtimestamp(phases[-1][0], UTC).strftime("%H:%M:%S UTC")
    before = f" (before: {', '.join(took)})" if took else ""
    return f"{MARK} {pod}: {phases[-1][1]} since {since}{before}"


class PodPhases:
    """Says each new phase of the pods that ask a model; `folder` is where pods note theirs."""

    def __init__(self, folder: Path | None, say: Callable[[str], object]) -> None:
        self._folder, self._say = folder, say
        self._shown: dict[str, int] = {}

    def look(self, pod: Json) -> None:
        """Say what is new of a pod that goes on."""
        name, labels = str(pod["metadata"]["name"]), pod["metadata"].get("labels") or {}
        if labels.get("grace/rule") in NO_MODEL or "grace/model" not in labels:
            return
        if (pod.get("status") or {}).get("phase") not in ("Pending", "Running"):
            self._shown.pop(name, None)
            return
        notes = noted(self._folder, name) if self._folder is not None and "/" not in name else []
        phases = timeline(pod, notes)
        if phases and len(phases) != self._shown.get(name):
            self._shown[name] = len(phases)
            self._say(line(name, phases))


def _seconds(text: object) -> float:
    """A time as the cluster writes it; 0 where there is none."""
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) and text else 0.0
