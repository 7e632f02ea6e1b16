"""Rules of the API server that JSON schemas do not hold, for Jobs as plain dicts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from grace.cluster.plan.policy import quantity

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
DNS_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
VARIABLE = re.compile(r"[-._A-Za-z][-._A-Za-z0-9]*")
ACTIONS = ("FailJob", "FailIndex", "Ignore", "Count")
MOST_RULES = 20
INDEX_DIGITS = 11
"""Characters that the pods of a Job add to its name."""


def problems(job: dict[str, Any]) -> list[str]:
    """What the API server or the kubelet would refuse, a line each."""
    return [*_names(job), *_spec(job["spec"]), *_pod(job["spec"]["template"]["spec"])]


def _names(job: dict[str, Any]) -> Iterator[str]:
    name = job["metadata"]["name"]
    if not DNS_LABEL.fullmatch(name) or len(name) > 63 - INDEX_DIGITS:
        yield f"name {name!r}"
    for where in (job["metadata"], job["spec"]["template"]["metadata"]):
        for key, value in where["labels"].items():
            prefix, slash, own = key.rpartition("/")
            if not LABEL_NAME.fullmatch(own) or (slash and not DNS_DOMAIN.fullmatch(prefix)):
                yield f"label {key!r}"
            if value and not LABEL_NAME.fullmatch(value):
                yield f"value {value!r} of label {key!r}"
        for key, value in where.get("annotations", {}).items():
            if not isinstance(value, str) or not LABEL_NAME.fullmatch(key.rpartition("/")[2]):
                yield f"annotation {key!r}"


def _spec(spec: dict[str, Any]) -> Iterator[str]:
    indexed = spec.get("completionMode") == "Indexed"
    if indexed and "completions" not in spec:
        yield "Indexed without completions"
    if "backoffLimitPerIndex" in spec and not indexed:
        yield "backoffLimitPerIndex needs Indexed"
    if spec["template"]["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
        yield "restartPolicy of a Job"
    if spec.get("backoffLimitPerIndex") and spec["template"]["spec"]["restartPolicy"] != "Never":
        yield "backoffLimitPerIndex needs restartPolicy Never"
    for where in (spec, spec["template"]["spec"]):
        if where.get("activeDeadlineSeconds", 1) < 1:
            yield "activeDeadlineSeconds"
    if "podFailurePolicy" in spec:
        yield from _failure_policy(spec, indexed)


def _failure_policy(spec: dict[str, Any], indexed: bool) -> Iterator[str]:
    """What the API's reference says of it (`PodFailurePolicy` of batch/v1)."""
    if spec["template"]["spec"].get("restartPolicy") != "Never":
        yield "podFailurePolicy needs restartPolicy Never"
    if spec.get("podReplacementPolicy", "Failed") != "Failed":
        yield "podFailurePolicy needs podReplacementPolicy Failed"
    rules = spec["podFailurePolicy"]["rules"]
    if len(rules) > MOST_RULES:
        yield f"podFailurePolicy has more than {MOST_RULES} rules"
    for rule in rules:
        if rule["action"] not in ACTIONS:
            yield f"podFailurePolicy has no action {rule['action']!r}"
        if rule["action"] == "FailIndex" and not (indexed and "backoffLimitPerIndex" in spec):
            yield "podFailurePolicy: FailIndex needs backoffLimitPerIndex"
        if ("onExitCodes" in rule) == ("onPodConditions" in rule):
            yield "podFailurePolicy: a rule has either onExitCodes or onPodConditions"
        for one in rule.get("onPodConditions", []):
            if one.get("status", "True") not in ("True", "False", "Unknown"):
                yield f"podFailurePolicy has no status {one['status']!r}"


def _pod(pod: dict[str, Any]) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    if len(volumes) < len(pod.get("volumes", [])):
        yield "two volumes of one name"
    for volume in volumes.values():
        if len(volume) != 2:
            yield f"volume {volume['name']} must have one source"
    for toleration in pod.get("tolerations", []):
        if toleration["operator"] == "Exists" and "value" in toleration:
            yield "toleration Exists with a value"
        if toleration["operator"] == "Equal" and not toleration.get("key"):
            yield "toleration Equal without a key"
    for container in pod["containers"]:
        yield from _resources(container["resources"])
        yield from _mounts(container, volumes)
        names = [one["name"] for one in container.get("env", [])]
        if len(set(names)) < len(names):
            yield "an environment variable twice"
        yield from (f"variable {name!r}" for name in names if not VARIABLE.fullmatch(name))
    security = pod.get("securityContext", {})
    if security.get("runAsNonRoot") and security.get("runAsUser") == 0:
        yield "runAsNonRoot as root"


def _resources(resources: dict[str, dict[str, str]]) -> Iterator[str]:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for name, request in requests.items():
        extended = "/" in name
        if extended and limits.get(name) != request:
            yield f"{name}: Limit must be set for non overcommitable resources"
        if extended and not request.isdigit():
            yield f"{name}: {request} is no whole number"
        if name in limits and quantity(request) > quantity(limits[name]):
            yield f"{name}: more requested than the limit"


def _mounts(container: dict[str, Any], volumes: dict[str, Any]) -> Iterator[str]:
    mounts = container.get("volumeMounts", [])
    for mount in mounts:
        if mount["name"] not in volumes:
            yield f"no volume {mount['name']}"
        if not mount["mountPath"].startswith("/") or ":" in mount["mountPath"]:
            yield f"mount path {mount['mountPath']}"
    if len({mount["mountPath"] for mount in mounts}) < len(mounts):
        yield "two mounts in one place"
    memory = quantity(container["resources"]["limits"]["memory"])
    in_memory = sum(
        quantity(volume["emptyDir"]["sizeLimit"])
        for volume in volumes.values()
        if volume.get("emptyDir", {}).get("medium") == "Memory"
    )
    if in_memory >= memory:
        yield "volumes in memory leave none for the container"
