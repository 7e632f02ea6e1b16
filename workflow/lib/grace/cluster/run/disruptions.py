"""Pods that the cluster itself ended: why, as it says, and which nodes the next one avoids.

Kubernetes marks them with the condition `DisruptionTarget`, whose reason names who ended them; a
Job whose `podFailurePolicy` ignores that makes another pod by itself. Pure.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
#: Reasons that are no fault of the pod's node: another pod was more urgent, somebody drained it.
NOT_THE_NODE = ("PreemptionByScheduler", "PreemptionByKubeScheduler", "EvictionByEvictionAPI")
#: Nodes that a pod avoids at most: the last ones on which it was ended.
MOST_AVOIDED = 5


def disruption(pod: Json) -> Json | None:
    """The condition `DisruptionTarget` of a pod, where it holds."""
    for one in (pod.get("status") or {}).get("conditions") or []:
        if one.get("type") == "DisruptionTarget" and one.get("status") == "True":
            return dict(one)
    return None


def node_at_fault(pod: Json) -> bool:
    """Whether another node may do better, as far as the cluster says."""
    found = disruption(pod)
    return found is None or found.get("reason") not in NOT_THE_NODE


def ignores_disruptions(job: Json) -> bool:
    """Whether the cluster makes another pod where one was disrupted, without counting it."""
    rules = ((job.get("spec") or {}).get("podFailurePolicy") or {}).get("rules") or []
    return any(
        rule.get("action") == "Ignore"
        and any(one.get("type") == "DisruptionTarget" for one in rule.get("onPodConditions") or [])
        for rule in rules
    )


def avoiding(job: Json, nodes: Sequence[str]) -> dict[str, Any]:
    """A Job's manifest whose pod runs on none of these nodes."""
    made: dict[str, Any] = copy.deepcopy(dict(job))
    if not nodes:
        return made
    pod = made["spec"]["template"]["spec"]
    affinity = pod.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    expression = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": sorted(nodes)}
    # A node has to fit one of the terms, so that each has to exclude these.
    for term in required.setdefault("nodeSelectorTerms", [{}]):
        term.setdefault("matchExpressions", []).append(expression)
    return made
