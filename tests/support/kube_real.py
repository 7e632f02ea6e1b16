"""A real cluster's API with a kubelet that is only simulated, in the stand-in's place.

For tests/cluster/real_runs.py: API server, controllers and scheduler are real; pods on the node
without a machine are reported as running, and as ended well after some seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from kube_words import NAMESPACE, NODE, admin
from kubernetes import client, config
from kubernetes.client.rest import ApiException
from urllib3.exceptions import HTTPError

Json = dict[str, Any]
CLAIM = "shared"


class RealCluster:
    """What `kube_project.KubeProject` needs of a cluster, and the kubelet of the one node.

    A pod of the toy makes its file and ends well once `ends` holds of it; `started` counts, by
    rule and names of the pod's labels, the pods that ran.
    """

    def __init__(self, rights: Path, ends: Callable[[float], bool] = lambda since_s: since_s > 2):
        self.claims: dict[str, Path] = {}
        self.environment: dict[str, str] = {}
        self.started: Counter[str] = Counter()
        self.ends = ends
        self._rights = rights
        self._since: dict[str, float] = {}
        self._over = threading.Event()
        settings = client.Configuration()
        config.load_kube_config(os.environ["KUBECONFIG"], client_configuration=settings)
        settings.retries = False
        self._core = client.CoreV1Api(client.ApiClient(settings))
        self._thread = threading.Thread(target=self._work, daemon=True)

    def kubeconfig(self, path: Path) -> Path:
        """The controller's own rights."""
        shutil.copy(self._rights, path)
        return path

    def names(self, kind: str) -> list[str]:
        """Names of what a run has left of a kind."""
        selector = "app.kubernetes.io/name=grace"
        return admin("get", kind, "-l", selector, "-o", "name").split()

    def __enter__(self) -> RealCluster:
        make_claim()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(0.3):
            # The API server goes and comes.
            with suppress(ApiException, HTTPError, OSError, ValueError):
                answer = self._core.list_namespaced_pod(
                    NAMESPACE,
                    field_selector=f"spec.nodeName={NODE}",
                    _preload_content=False,
                    _request_timeout=5,
                )
                for pod in json.loads(answer.data)["items"]:
                    self._control(pod)

    def _control(self, pod: Json) -> None:
        metadata, phase = pod["metadata"], pod["status"]["phase"]
        name, uid = metadata["name"], metadata["uid"]
        if "deletionTimestamp" in metadata:
            self._core.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
        elif phase == "Pending":
            self._report(pod, "Running", {"running": {"startedAt": _now()}})
            self._since[uid] = time.monotonic()
            self.started[_file(pod)] += 1
        elif phase == "Running" and self.ends(time.monotonic() - self._since[uid]):
            for folder in self.claims.values():
                (folder / "out").mkdir(exist_ok=True)
                (folder / "out" / _file(pod)).touch()
            ended = {"exitCode": 0, "reason": "Completed", "finishedAt": _now()}
            self._report(pod, "Succeeded", {"terminated": ended})

    def _report(self, pod: Json, phase: str, state: Json) -> None:
        (container,) = pod["spec"]["containers"]
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        body = {"status": {"phase": phase, "startTime": _now(), "containerStatuses": [status]}}
        self._core.patch_namespaced_pod_status(pod["metadata"]["name"], NAMESPACE, body)


def make_claim() -> None:
    """The volume of the toy: its claim is bound, and no machine mounts it."""
    access = {"accessModes": ["ReadWriteMany"]}
    volume = {
        **access,
        "capacity": {"storage": "1Gi"},
        "claimRef": {"namespace": NAMESPACE, "name": CLAIM},
        "hostPath": {"path": "/nowhere"},
    }
    claim = {
        **access,
        "storageClassName": "",
        "volumeName": f"{NAMESPACE}-{CLAIM}",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    for kind, name, spec in (
        ("PersistentVolume", f"{NAMESPACE}-{CLAIM}", volume),
        ("PersistentVolumeClaim", CLAIM, claim),
    ):
        one = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        if not admin("get", kind, name, "--ignore-not-found", "-o", "name"):
            admin("create", "-f", "-", given=json.dumps(one))


def _file(pod: Json) -> str:
    """The file of `out` that a pod of the toy makes."""
    labels = pod["metadata"]["labels"]
    names = [labels.get(f"grace/{key}") for key in ("rule", "model", "replication")]
    return "-".join(name for name in names if name)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
