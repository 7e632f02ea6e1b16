"""Objects of workflow/kubernetes as a cluster's entry wants them: names, labels, existing things.

The overlays hold Grace's own names. In a namespace that people share (`instance`) each of these
gets the instance before it, and as a label; where the entry names a claim, a Secret or an account
that exists, pods use that one. Pure.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from grace.cluster.plan.pods import INSTANCE_LABEL, toleration_of
from grace.cluster.plan.settings import HF_TOKEN_SECRET, Cluster, Purpose

ACCOUNT = "grace-controller"
"""Service account, Role and RoleBinding of the controller, without the instance."""
ENVIRONMENT_SECRET = "grace-environment"
"""The Secret with the controller's variables, without the instance."""
RIGHTS = ("ServiceAccount", "Role", "RoleBinding")
SHARED = ("Namespace", "ResourceQuota")
"""What people who share a namespace do not set for each other."""
_CLAIMS: dict[str, Purpose] = {
    "grace-project": "project",
    "grace-weights": "weights",
    "grace-journal": "journal",
}
Json = dict[str, Any]


def applied(objects: Iterable[Json], cluster: Cluster) -> list[Json]:
    """What `make cluster-up` applies: not what exists, nor what is another's to make."""
    claims = {volume.claim for volume in cluster.volumes.values()}
    left_out = {
        *(RIGHTS if cluster.controller_account else ()),
        *(SHARED if cluster.instance else ()),
    }
    found = [adapted(one, cluster) for one in objects if one["kind"] not in left_out]
    return [
        one
        for one in found
        if one["kind"] != "PersistentVolumeClaim" or one["metadata"]["name"] in claims
    ]


def rights(objects: Iterable[Json], cluster: Cluster) -> list[Json]:
    """Account, Role and RoleBinding, for an administrator to apply.

    Where the entry names an account, they are made for that one.
    """
    return [adapted(one, cluster) for one in objects if one["kind"] in RIGHTS]


def adapted(one: Json, cluster: Cluster) -> Json:
    """An object under the entry's names, with its labels; a pod also with its fields."""
    made = copy.deepcopy(one)
    if made["kind"] not in SHARED:
        made["metadata"]["name"] = _name(made["kind"], made["metadata"]["name"], cluster)
    for metadata in _metadata(made):
        if cluster.instance:
            metadata.setdefault("labels", {})[INSTANCE_LABEL] = cluster.instance
    if made["kind"] == "Role":
        for rule in made["rules"]:
            if "resourceNames" in rule:
                rule["resourceNames"] = [cluster.own(name) for name in rule["resourceNames"]]
    if made["kind"] == "RoleBinding":
        made["roleRef"]["name"] = cluster.own(made["roleRef"]["name"])
        for subject in made["subjects"]:
            subject["name"] = _name(subject["kind"], subject["name"], cluster)
    pod = _pod(made)
    if pod:
        _adapt_pod(pod, cluster)
        metadata = _metadata(made)[-1]
        if cluster.annotations:
            metadata["annotations"] = {**cluster.annotations, **metadata.get("annotations", {})}
    return made


def containers(one: Json) -> list[Json]:
    """The containers of a pod, made at once or by a Job."""
    found: list[Json] = _pod(one).get("containers", [])
    return found


def _name(kind: str, name: str, cluster: Cluster) -> str:
    if kind == "ServiceAccount" and cluster.controller_account:
        return cluster.controller_account
    return cluster.own(name)


def _metadata(one: Json) -> list[Json]:
    """Of an object and, last, of the pods that it makes."""
    template = one.get("spec", {}).get("template")
    return [one["metadata"], *([template.setdefault("metadata", {})] if template else [])]


def _pod(one: Json) -> Json:
    spec = one.get("spec", {})
    found: Json = spec["template"]["spec"] if "template" in spec else spec
    return found if "containers" in found else {}


def _adapt_pod(pod: Json, cluster: Cluster) -> None:
    if "serviceAccountName" in pod:
        pod["serviceAccountName"] = _name("ServiceAccount", pod["serviceAccountName"], cluster)
    folders = {}
    for volume in pod.get("volumes", []):
        claim = volume.get("persistentVolumeClaim", {})
        purpose = _CLAIMS.get(claim.get("claimName", ""))
        named = cluster.volume(purpose) if purpose else None
        if named is not None:
            claim["claimName"] = named.claim
            folders[volume["name"]] = named.sub_path
    for container in pod["containers"]:
        for mount in container.get("volumeMounts", []):
            if folders.get(mount["name"]):
                mount["subPath"] = folders[mount["name"]]
        for reference in _secrets(container):
            if reference["name"] == HF_TOKEN_SECRET and cluster.hf_token is not None:
                reference["name"] = cluster.hf_token.name
                reference["key"] = cluster.hf_token.key
            elif reference["name"] == ENVIRONMENT_SECRET and cluster.environment_secret:
                reference["name"] = cluster.environment_secret
            else:
                reference["name"] = cluster.own(reference["name"])
    fields = {
        "imagePullSecrets": [{"name": name} for name in cluster.pull_secrets("default")],
        "tolerations": [toleration_of(one) for one in cluster.tolerations],
        "affinity": copy.deepcopy(cluster.affinity),
        "runtimeClassName": cluster.runtime_class,
    }
    pod |= {key: value for key, value in fields.items() if value}


def _secrets(container: Json) -> Iterator[Json]:
    """References to Secrets among a container's variables."""
    for one in container.get("env", []):
        if "secretKeyRef" in one.get("valueFrom", {}):
            yield one["valueFrom"]["secretKeyRef"]
    for one in container.get("envFrom", []):
        if "secretRef" in one:
            yield one["secretRef"]
