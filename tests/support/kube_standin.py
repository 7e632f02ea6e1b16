"""A stand-in for a Kubernetes API server, its controllers and its nodes, over HTTP.

This room has the objects and the Job controller; `kube_http` has the API, `kube_nodes` scheduler
and nodes, `kube_faults` what goes wrong with requests.

Jobs, Pods, their logs, and Secrets, with label selectors, pages, collections and Foreground
deletion. A pod is a local process that runs its container's command, with the paths where it
mounts volumes mapped to folders here; or, for many of them, a number of seconds (`simulate`).
Faults are scripted: each is asked about every request, or set for the pods that a predicate names.
`calls` holds every request with its time, `runs` when each pod's process began and ended.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from kube_admission import Admission
from kube_faults import ApiFaults, Fault
from kube_http import Call, Handler, Server, calls_per_second
from kube_nodes import IMAGE_DIGEST, Nodes, Run, signal_group
from kube_objects import Json, Refused, check, condition, labels_of, selects, timestamp

__all__ = ["IMAGE_DIGEST", "Cluster", "Json", "calls_per_second"]
_TICK_S = 0.05


class Cluster(Nodes):
    """The cluster. `claims` maps claim names to folders; `environment` is that of every node.

    `gpus` is how many of each extended resource its nodes have. Pods whose memory limit is below
    what `needs_mib` says of their labels are OOMKilled when they start.
    """

    def __init__(
        self,
        claims: dict[str, Path] | None = None,
        environment: dict[str, str] | None = None,
        gpus: dict[str, int] | None = None,
        simulate: Callable[[Json], float] | None = None,
    ) -> None:
        super().__init__(claims or {}, environment or {}, gpus or {}, simulate)
        self.calls: list[Call] = []
        self.token = secrets.token_hex(8)
        self.pods_per_job = 1
        self.admission = Admission(timestamp)
        self.faults = ApiFaults()
        self._pages: dict[str, list[Json]] = {}
        self._stopped = threading.Event()
        handler = type("Handler", (Handler,), {"cluster": self})
        self._server = Server(("127.0.0.1", 0), handler)
        self.port = self._server.server_address[1]
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(_TICK_S,), daemon=True),
            threading.Thread(target=self._control, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # What tests use.

    def kubeconfig(self, path: Path, token: str | None = None) -> Path:
        """Write a kubeconfig for this cluster."""
        values = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "standin",
            "clusters": [
                {"name": "standin", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
            ],
            "users": [{"name": "me", "user": {"token": token or self.token}}],
            "contexts": [{"name": "standin", "context": {"cluster": "standin", "user": "me"}}],
        }
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    def fails(self, status: int, **how: Any) -> None:
        """Script a fault."""
        self.faults.add(Fault(status, **how))

    def works(self) -> None:
        """Forget all faults."""
        self.faults.clear()

    def objects(self, kind: str) -> list[Json]:
        """All objects of a kind: `jobs`, `pods`, `secrets`."""
        with self._lock:
            return [value for (found, _, _), value in self._objects.items() if found == kind]

    def names(self, kind: str) -> list[str]:
        return [one["metadata"]["name"] for one in self.objects(kind)]

    def pods_of(self, **labels: str) -> list[Json]:
        """Pods with labels below `grace/`, such as `rule`."""
        wanted = {f"grace/{key}": value for key, value in labels.items()}
        return [one for one in self.objects("pods") if wanted.items() <= labels_of(one).items()]

    def remove(self, kind: str, name: str, namespace: str = "default") -> None:
        """Delete an object as somebody else would."""
        with self._lock:
            self._delete(kind, namespace, name, {"propagationPolicy": "Background"})

    def log(self, pod: str, namespace: str = "default") -> str:
        path = self._logs.get((namespace, pod))
        return path.read_text(encoding="utf-8", errors="replace") if path else ""

    def overlaps(self) -> list[tuple[Run, Run]]:
        """Pairs of pods with the same model, replication and rule that ran at the same time."""

        def key(run: Run) -> tuple[str | None, ...]:
            return tuple(run.labels.get(f"grace/{k}") for k in ("model", "replication", "rule"))

        return [
            (one, other)
            for index, one in enumerate(self.runs)
            for other in self.runs[index + 1 :]
            if key(one) == key(other) and one.began < (other.ended or 1e18)
            and other.began < (one.ended or 1e18)
        ]  # fmt: skip

    def close(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for process in self._processes.values():
                signal_group(process, signal.SIGKILL)
                process.wait()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Requests.

    def answer(
        self, method: str, namespace: str, kind: str, name: str | None, sub: str | None,
        query: dict[str, str], body: Json,
    ) -> Json | str:  # fmt: skip
        """Do what a request asks for. Raises `Refused`."""
        with self._lock:
            if method == "POST":
                return self._create(kind, namespace, body)
            if kind == "events":
                return self.admission.listed(namespace, query.get("fieldSelector", ""))
            if name is None and method == "GET":
                return self._list(kind, namespace, query)
            if name is None and method == "DELETE":
                options = {**body, **query}
                for one in self._selected(kind, namespace, query.get("labelSelector", "")):
                    self._delete(kind, namespace, one["metadata"]["name"], options)
                return {"kind": "Status", "status": "Success"}
            assert name is not None
            found = self._get(kind, namespace, name)
            if method == "DELETE":
                self._delete(kind, namespace, name, {**body, **query})
                return {"kind": "Status", "status": "Success"}
            if sub == "log":
                return self._read_log(found, namespace, query)
            return found

    def _get(self, kind: str, namespace: str, name: str) -> Json:
        try:
            return self._objects[kind, namespace, name]
        except KeyError:
            raise Refused(404, "NotFound", f'{kind} "{name}" not found') from None

    def _create(self, kind: str, namespace: str, body: Json) -> Json:
        name = body["metadata"]["name"]
        if (kind, namespace, name) in self._objects:
            raise Refused(409, "AlreadyExists", f'{kind} "{name}" already exists')
        check(body)
        self.faults.admit(kind, body, len(self._selected(kind, namespace, "")))
        made = json.loads(json.dumps(body))
        made["metadata"] |= {"uid": secrets.token_hex(8), "creationTimestamp": timestamp()}
        made.setdefault("status", {})
        self._objects[kind, namespace, name] = made
        return made

    def _selected(self, kind: str, namespace: str, selector: str) -> list[Json]:
        return [
            value
            for (found, where, _), value in self._objects.items()
            if found == kind and where == namespace and selects(selector, labels_of(value))
        ]

    def _list(self, kind: str, namespace: str, query: dict[str, str]) -> Json:
        token = query.get("continue")
        if token is None:
            rest = self._selected(kind, namespace, query.get("labelSelector", ""))
        elif token in self._pages:
            rest = self._pages.pop(token)
        else:
            raise Refused(410, "Expired", "the provided continue parameter is too old")
        limit = int(query.get("limit", 0)) or len(rest)
        metadata: Json = {"resourceVersion": "1"}
        if len(rest) > limit:
            token = secrets.token_hex(4)
            self._pages[token] = rest[limit:]
            metadata["continue"] = token
        return {"kind": "List", "metadata": metadata, "items": rest[:limit]}

    def _delete(self, kind: str, namespace: str, name: str, options: Json) -> None:
        found = self._get(kind, namespace, name)
        policy = options.get("propagationPolicy", "Background")
        if kind == "secrets" or (kind == "jobs" and policy != "Foreground"):
            del self._objects[kind, namespace, name]
        if kind == "jobs":
            found["metadata"].setdefault("deletionTimestamp", timestamp())
            for pod in self._pods(namespace, name):
                self._end(namespace, pod)
        if kind == "pods":
            self._end(namespace, found)

    def _read_log(self, pod: Json, namespace: str, query: dict[str, str]) -> str:
        if query.get("previous") == "true":
            raise Refused(400, "BadRequest", "previous terminated container not found")
        lines = self.log(pod["metadata"]["name"], namespace).splitlines(keepends=True)
        return "".join(lines[-int(query.get("tailLines", 1_000_000)) :])

    # The controllers, the scheduler and the kubelet.

    def _control(self) -> None:
        while not self._stopped.wait(_TICK_S):
            with self._lock:
                now = time.monotonic()
                for (kind, namespace, _), value in list(self._objects.items()):
                    if kind == "jobs":
                        self._control_job(namespace, value)
                    elif kind == "pods":
                        self._control_pod(namespace, value, now)

    def _pods(self, namespace: str, job: str) -> list[Json]:
        return [
            value
            for (kind, where, _), value in self._objects.items()
            if kind == "pods" and where == namespace and labels_of(value).get("job-name") == job
        ]

    def _control_job(self, namespace: str, job: Json) -> None:
        name, status = job["metadata"]["name"], job["status"]
        pods = self._pods(namespace, name)
        if job["metadata"].get("deletionTimestamp"):
            if not pods:
                del self._objects["jobs", namespace, name]
            return
        if status.get("conditions"):
            return
        if "startTime" not in status:
            if self.admission.refused(namespace, job):
                return
            status["startTime"] = timestamp()
            for _ in range(self.pods_per_job):
                self._make_pod(namespace, job)
            return
        phases = [pod["status"]["phase"] for pod in pods]
        if "Succeeded" in phases:
            status["succeeded"] = 1
            status["conditions"] = [condition("Complete", "True")]
        elif not pods or set(phases) == {"Failed"}:
            status["failed"] = 1
            status["conditions"] = [
                condition(
                    "Failed", "True", "BackoffLimitExceeded",
                    "Job has reached the specified backoff limit",
                )
            ]  # fmt: skip

    def _make_pod(self, namespace: str, job: Json) -> None:
        template = job["spec"]["template"]
        name = f"{job['metadata']['name']}-{secrets.token_hex(3)}"
        self._objects["pods", namespace, name] = {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": secrets.token_hex(8),
                "creationTimestamp": timestamp(),
                "annotations": template["metadata"].get("annotations", {}),
                "labels": {**labels_of(template), "job-name": job["metadata"]["name"]},
            },
            "spec": template["spec"],
            "status": {"phase": "Pending", "conditions": []},
        }
