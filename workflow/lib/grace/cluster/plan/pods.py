"""A pod's wishes as a Kubernetes Job: a plain dict, complete, ready to be sent. Pure.

Sizes: `mem_mb` and `disk_mb` are Snakemake's, in units of 10^6 bytes; Kubernetes gets MiB.
"""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from grace.cluster.plan.placement import Placement
from grace.cluster.plan.settings import Cluster, Gpu, Toleration, Volume
from grace.provenance.environment import IMAGE_VARIABLE

CONTAINER = "snakemake"
"""Name of the one container of our pods."""
WORKDIR = "/workdir"
"""Where pods work that do not share the project's volume."""
NO_MODEL = ("tables", "report")
"""Groups whose pods load no model: they get neither weights nor token, nor the journal unless a
model at an API reads answers in them."""
VARIABLES = {"weights": "HF_HOME", "journal": "GRACE_JOURNAL_DIR"}
"""What tells a pod where a volume is, by the volume's purpose."""
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
TAG_LABEL = "grace/gpu"
"""Label of Jobs and pods with GPUs: their tag."""
_LABEL = 63
"""Most characters of a label's value."""


@dataclass(frozen=True)
class PodRequest:
    """What one pod is to run, and what it needs.

    `name` is the Job's; `rule` a rule's or a group's. It is ended after `runtime_min` minutes, and
    expected to take `expected_min`; None where that is not known, and without effect on it. Of
    `secret_environment`, each variable comes from a Secret's (name, key). `shared` pods work in
    the cluster's `project` volume, the others in an empty folder of their own, `WORKDIR`. Of pods
    like it `at_once` may run at a time. Where `reads_answers`, a model reads answers in it, so that
    it gets the journal: somebody's at an API, or `reader`, a model of the run's own, which it
    loads. `hosts` are those of the APIs that it asks. A pod of a recipe has `recipe` and, of one
    of its seeds, `training_seed`; its `model` stands for the base, or for a training on it.
    """

    name: str
    run: str
    rule: str
    model: str | None
    replication: int | None
    command: list[str]
    placement: Placement | None
    cores: int
    mem_mb: int
    disk_mb: int | None = None
    runtime_min: int | None = None
    expected_min: float | None = None
    attempt: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    secret_environment: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    shared: bool = True
    at_once: int = 1
    reads_answers: bool = False
    hosts: tuple[str, ...] = ()
    reader: str | None = None
    recipe: str | None = None
    training_seed: int | None = None

    @property
    def cpu(self) -> int:
        """Cores of the pod."""
        return max(self.cores, self.placement.cpu if self.placement else 0)

    @property
    def shm_mib(self) -> int:
        """Size of /dev/shm; 0 leaves the runtime's own."""
        return self.placement.shm_mib if self.placement else 0

    @property
    def memory_mib(self) -> int:
        """Memory of the pod; what is in /dev/shm counts."""
        own = math.ceil(self.mem_mb * 10**6 / 2**20)
        return max(own, self.placement.memory_mib if self.placement else 0) + self.shm_mib

    @property
    def gpus(self) -> int:
        """GPUs of the pod."""
        return self.placement.gpus if self.placement else 0

    @property
    def loads_model(self) -> bool:
        """Whether it asks a model, or loads one."""
        return self.loads is not None or self.rule not in NO_MODEL

    @property
    def loads(self) -> str | None:
        """The model that it asks or loads; None for one that has none."""
        return self.model if self.rule not in NO_MODEL else self.reader


def label_value(text: str) -> str:
    """Text as a label's value: at most 63 letters, digits, `-`, `_`, `.`.

    What had to be changed ends in a digest, so that different texts stay different.
    """
    valid = re.sub(r"[^A-Za-z0-9._-]", "-", text)
    cut = valid.strip("._-")
    if cut == text and len(text) <= _LABEL:
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{cut[: _LABEL - 9]}-{mark}".strip("._-")


def dns_name(text: str, longest: int = 52) -> str:
    """Text as a Job's name: lower-case letters, digits and `-`.

    Changed or cut text ends in a digest, as in `label_value`. A Job's pods add up to 11 characters
    to its name, and have 63.
    """
    valid = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if valid == text and len(text) <= longest:
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{valid[: longest - 9].strip('-')}-{mark}".strip("-")


def own_labels(cluster: Cluster) -> dict[str, str]:
    """What every object of Grace has, and of one instance alone where the namespace is shared."""
    own = {INSTANCE_LABEL: cluster.instance} if cluster.instance else {}
    return {NAME_LABEL: "grace", **own}


def labels(request: PodRequest, cluster: Cluster) -> dict[str, str]:
    """Labels of a Job and of its pods."""
    found = {
        **own_labels(cluster),
        "grace/run": request.run,
        "grace/rule": request.rule,
    }
    if request.model is not None and request.recipe is None:
        found["grace/model"] = request.model
    if request.replication is not None:
        found["grace/replication"] = str(request.replication)
    if request.recipe is not None:
        found["grace/recipe"] = request.recipe
    if request.training_seed is not None:
        found["grace/training-seed"] = str(request.training_seed)
    if request.placement is not None:
        found[TAG_LABEL] = request.placement.tag
    return {key: label_value(value) for key, value in found.items()}


def resources(request: PodRequest, cluster: Cluster) -> dict[str, str]:
    """What the container requests, and is limited to: the same."""
    found = {"cpu": str(request.cpu), "memory": f"{request.memory_mib}Mi"}
    if request.disk_mb is not None:
        found["ephemeral-storage"] = f"{math.ceil(request.disk_mb * 10**6 / 2**20)}Mi"
    if request.placement is not None:
        found[cluster.gpus[request.placement.tag].resource] = str(request.gpus)
    return found


def job_manifest(request: PodRequest, cluster: Cluster) -> dict[str, Any]:
    """The batch/v1 Job."""
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": cluster.ttl_s,
        "template": {
            "metadata": {
                "labels": labels(request, cluster),
                "annotations": {**cluster.annotations, **request.annotations},
            },
            "spec": _pod(request, cluster),
        },
    }
    if request.runtime_min is not None:
        # The pod's own deadline counts from when it has a node, the Job's from when it is made.
        waiting = math.ceil(cluster.patience_s + cluster.start_patience_s)
        spec["activeDeadlineSeconds"] = request.runtime_min * 60 + waiting
        spec["template"]["spec"]["activeDeadlineSeconds"] = request.runtime_min * 60
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": request.name,
            "namespace": cluster.namespace,
            "labels": labels(request, cluster),
            "annotations": dict(request.annotations),
        },
        "spec": spec,
    }


def _pod(request: PodRequest, cluster: Cluster) -> dict[str, Any]:
    gpu = cluster.gpus[request.placement.tag] if request.placement else None
    tolerations = [*cluster.tolerations, *(gpu.tolerations if gpu else [])]
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "containers": [_container(request, cluster)],
        "volumes": _volumes(request, cluster),
        "imagePullSecrets": [{"name": name} for name in cluster.pull_secrets(request.rule)],
        "tolerations": [toleration_of(toleration) for toleration in tolerations],
        "affinity": _affinity(gpu, cluster.affinity),
        "runtimeClassName": (gpu.runtime_class if gpu else None) or cluster.runtime_class,
        "priorityClassName": gpu.priority_class if gpu else None,
        "serviceAccountName": cluster.service_account,
        "securityContext": _pod_security(cluster),
    }
    return {key: value for key, value in pod.items() if value or value is False}


def _container(request: PodRequest, cluster: Cluster) -> dict[str, Any]:
    needed = resources(request, cluster)
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": cluster.image(request.rule),
        "command": list(request.command),
        "env": _environment(request, cluster),
        "resources": {"requests": needed, "limits": dict(needed)},
        "volumeMounts": _mounts(request, cluster),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    project = cluster.volume("project") if request.shared else None
    container["workingDir"] = project.mount if project else WORKDIR
    return {key: value for key, value in container.items() if value}


def _environment(request: PodRequest, cluster: Cluster) -> list[dict[str, Any]]:
    plain: dict[str, str] = {}
    if cluster.run_as is not None:
        # The user need not exist in the image.
        plain |= {"HOME": "/tmp", "USER": "grace"}
    for volume in mounted(request, cluster).values():
        if volume.purpose in VARIABLES:
            plain[VARIABLES[volume.purpose]] = volume.mount
    if request.placement is not None:
        plain["GRACE_GPU_TAG"] = request.placement.tag
    # Provenance tells in which image an answer was given.
    plain[IMAGE_VARIABLE] = cluster.image(request.rule)
    plain |= request.environment
    found: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in sorted(plain.items())
    ]
    for name, (secret, key) in sorted(request.secret_environment.items()):
        reference = {"name": secret, "key": key}
        found.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
    token = cluster.hf_token
    if token and request.loads_model and "HF_TOKEN" not in request.secret_environment:
        # Models that no one guards need none.
        optional = {"name": token.name, "key": token.key, "optional": True}
        found.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": optional}})
    # Provenance tells where an answer was given.
    found += [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in (("NODE_NAME", "spec.nodeName"), ("POD_NAME", "metadata.name"))
    ]
    return found


def mounted(request: PodRequest, cluster: Cluster) -> dict[str, Volume]:
    """The cluster's volumes that a pod mounts, by name."""
    left_out = set() if request.shared else {"project"}
    if not request.loads_model:
        left_out |= {"weights"} if request.reads_answers else set(VARIABLES)
    return {
        name: volume for name, volume in cluster.volumes.items() if volume.purpose not in left_out
    }


def _own_workdir(request: PodRequest, cluster: Cluster) -> bool:
    return not request.shared or cluster.volume("project") is None


def _volumes(request: PodRequest, cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "persistentVolumeClaim": {"claimName": volume.claim}}
        for name, volume in mounted(request, cluster).items()
    ]
    if _own_workdir(request, cluster):
        found.append({"name": "workdir", "emptyDir": {}})
    if request.shm_mib:
        shm = {"medium": "Memory", "sizeLimit": f"{request.shm_mib}Mi"}
        found.append({"name": "shm", "emptyDir": shm})
    return found


def _mounts(request: PodRequest, cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "mountPath": volume.mount}
        | ({"subPath": volume.sub_path} if volume.sub_path else {})
        | ({"readOnly": True} if volume.read_only else {})
        for name, volume in mounted(request, cluster).items()
    ]
    if _own_workdir(request, cluster):
        found.append({"name": "workdir", "mountPath": WORKDIR})
    if request.shm_mib:
        found.append({"name": "shm", "mountPath": "/dev/shm"})
    return found


def _affinity(gpu: Gpu | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The cluster's affinity, with a tag's labels in each of its alternatives."""
    found: dict[str, Any] = copy.deepcopy(dict(given))
    if gpu is None or not gpu.labels:
        return found
    labels = [
        {"key": key, "operator": "In", "values": list(values)} for key, values in gpu.labels.items()
    ]
    of_nodes = found.setdefault("nodeAffinity", {})
    required = of_nodes.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in required.setdefault("nodeSelectorTerms", [{}]):
        term["matchExpressions"] = [*term.get("matchExpressions", []), *labels]
    return found


def toleration_of(toleration: Toleration) -> dict[str, Any]:
    """As Kubernetes writes it."""
    return toleration.model_dump(exclude_none=True)


def _pod_security(cluster: Cluster) -> dict[str, Any] | None:
    user = cluster.run_as
    if user is None:
        return None
    found: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": user.user,
        "runAsGroup": user.group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if user.fs_group is not None:
        found["fsGroup"] = user.fs_group
        # Else every start would go through all files of all volumes.
        found["fsGroupChangePolicy"] = "OnRootMismatch"
    return found
