"""A stand-in for a Kubernetes API server, its controllers and its nodes, over HTTP.

Jobs, Pods, their logs, and Secrets, with label selectors, pages, collections and Foreground
deletion. A pod is a local process that runs its container's command, with the paths where it
mounts volumes mapped to folders here; or, for many of them, a number of seconds (`simulate`).
Faults are scripted: each is asked about every request, or set for the pods that a predicate names.
`calls` holds every request with its time, `runs` when each pod's process began and ended.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import kubernetes_validate
import yaml
from kube_admission import Admission
from manifest_rules import problems
from warm_python import warm

#: Whose schemas new objects are held to.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
Json = dict[str, Any]
#: What every image's name stands for.
IMAGE_DIGEST = f"sha256:{'ab' * 32}"
#: Seconds between SIGTERM and SIGKILL for a pod that is deleted.
TERMINATION_S = 1.0
_TICK_S = 0.05
#: In a container the first process, and only that one, is sent SIGTERM, and ignores it as long as
#: it has no handler for it.
PID_1 = ("/bin/sh", "-c", "trap '' TERM; exec \"$@\"", "sh")


@dataclass(frozen=True)
class Call:
    """A request: when (monotonic seconds), method, path with query, and the status it got."""

    at: float
    method: str
    path: str
    status: int


@dataclass
class Run:
    """A pod's process: of which Job, from when to when (monotonic seconds)."""

    job: str
    pod: str
    labels: dict[str, str]
    began: float
    ended: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class Fault:
    """What becomes of a request instead of an answer.

    `status` 0 drops the connection; with `hang_s` it is answered after so many seconds, or never.
    `times` is how often; `method` and `path` (searched for) say of which requests.
    """

    status: int
    method: str = ""
    path: str = ""
    times: int = 1_000_000
    hang_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    message: str = ""


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class Cluster:
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
        self.claims = claims or {}
        self.environment = environment or {}
        self.gpus = gpus or {}
        self.simulate = simulate
        self.calls: list[Call] = []
        self.runs: list[Run] = []
        self.token = secrets.token_hex(8)
        self.needs_mib: Callable[[dict[str, str]], int] = lambda labels: 0
        self.images_missing: set[str] = set()
        self.pods_per_job = 1
        self.admission = Admission(_now)
        self._faults: list[Fault] = []
        self._objects: dict[tuple[str, str, str], Json] = {}
        self._processes: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self._logs: dict[tuple[str, str], Path] = {}
        self._until: dict[tuple[str, str], float] = {}
        self._kill_at: dict[tuple[str, str], float] = {}
        self._pages: dict[str, list[Json]] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._scratch = Path(tempfile.mkdtemp(prefix="kube-standin-"))
        handler = type("Handler", (_Handler,), {"cluster": self})
        self._server = _Server(("127.0.0.1", 0), handler)
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
        with self._lock:
            self._faults.append(Fault(status, **how))

    def works(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def objects(self, kind: str) -> list[Json]:
        """All objects of a kind: `jobs`, `pods`, `secrets`."""
        with self._lock:
            return [value for (found, _, _), value in self._objects.items() if found == kind]

    def names(self, kind: str) -> list[str]:
        return [one["metadata"]["name"] for one in self.objects(kind)]

    def pods_of(self, **labels: str) -> list[Json]:
        """Pods with labels below `grace/`, such as `rule`."""
        wanted = {f"grace/{key}": value for key, value in labels.items()}
        return [one for one in self.objects("pods") if wanted.items() <= _labels(one).items()]

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
                _signal(process, signal.SIGKILL)
                process.wait()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Requests.

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.method in ("", method) and fault.path in path:
                    left = fault.times - 1
                    if left:
                        self._faults[index] = Fault(**{**fault.__dict__, "times": left})
                    else:
                        del self._faults[index]
                    return fault
        return None

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
        _check(body)
        made = json.loads(json.dumps(body))
        made["metadata"] |= {"uid": secrets.token_hex(8), "creationTimestamp": _now()}
        made.setdefault("status", {})
        self._objects[kind, namespace, name] = made
        return made

    def _selected(self, kind: str, namespace: str, selector: str) -> list[Json]:
        return [
            value
            for (found, where, _), value in self._objects.items()
            if found == kind and where == namespace and _selects(selector, _labels(value))
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
            found["metadata"].setdefault("deletionTimestamp", _now())
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
            if kind == "pods" and where == namespace and _labels(value).get("job-name") == job
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
            status["startTime"] = _now()
            for _ in range(self.pods_per_job):
                self._make_pod(namespace, job)
            return
        phases = [pod["status"]["phase"] for pod in pods]
        if "Succeeded" in phases:
            status["succeeded"] = 1
            status["conditions"] = [_condition("Complete", "True")]
        elif not pods or set(phases) == {"Failed"}:
            status["failed"] = 1
            status["conditions"] = [
                _condition(
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
                "creationTimestamp": _now(),
                "annotations": template["metadata"].get("annotations", {}),
                "labels": {**_labels(template), "job-name": job["metadata"]["name"]},
            },
            "spec": template["spec"],
            "status": {"phase": "Pending", "conditions": []},
        }

    def _control_pod(self, namespace: str, pod: Json, now: float) -> None:
        key = (namespace, pod["metadata"]["name"])
        phase = pod["status"]["phase"]
        if phase == "Pending" and pod["metadata"].get("deletionTimestamp"):
            del self._objects["pods", namespace, key[1]]
        elif phase == "Pending":
            self._start(key, pod, now)
        elif phase == "Running":
            self._watch(key, pod, now)
        elif pod["metadata"].get("deletionTimestamp"):
            del self._objects["pods", namespace, key[1]]

    def _start(self, key: tuple[str, str], pod: Json, now: float) -> None:
        container = pod["spec"]["containers"][0]
        lack = self._lack(key, container)
        if lack:
            pod["status"]["conditions"] = [
                _condition("PodScheduled", "False", "Unschedulable", lack)
            ]
            return
        pod["status"]["conditions"] = [_condition("PodScheduled", "True")]
        if container["image"] in self.images_missing:
            _waits(pod, container, "ErrImagePull", f"{container['image']}: not found")
            return
        try:
            environment = self._environment(*key, container)
        except Refused as error:
            _waits(pod, container, "CreateContainerConfigError", str(error))
            return
        labels = _labels(pod)
        self.runs.append(Run(labels["job-name"], key[1], labels, now))
        pod["status"] |= {"phase": "Running", "startTime": _now()}
        pod["status"]["containerStatuses"] = [
            {
                "name": container["name"],
                "state": {"running": {}},
                "imageID": f"docker.io/library/grace@{IMAGE_DIGEST}",
            }
        ]
        limit_mib = int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
        if limit_mib < self.needs_mib(labels):
            self._ended(key, pod, 137, "OOMKilled")
        elif self.simulate is not None:
            self._until[key] = now + self.simulate(pod)
        else:
            self._processes[key] = self._process(key, pod, container, environment)

    def _lack(self, key: tuple[str, str], container: Json) -> str | None:
        """The scheduler's words where no node has what a pod wants."""
        limits = container["resources"]["limits"]
        for resource, number in limits.items():
            if "/" not in resource:
                continue
            used = sum(
                int(pod["spec"]["containers"][0]["resources"]["limits"].get(resource, 0))
                for pod in self.objects("pods")
                if pod["status"]["phase"] == "Running"
            )
            if used + int(number) > self.gpus.get(resource, 0):
                return f"0/1 nodes are available: 1 Insufficient {resource}."
        return None

    def _environment(self, namespace: str, pod: str, container: Json) -> dict[str, str]:
        fields = {"metadata.name": pod, "metadata.namespace": namespace, "spec.nodeName": "node"}
        found = {}
        for one in container.get("env", []):
            if "value" in one:
                found[one["name"]] = one["value"]
                continue
            if "fieldRef" in one["valueFrom"]:
                found[one["name"]] = fields.get(one["valueFrom"]["fieldRef"]["fieldPath"], "")
                continue
            reference = one["valueFrom"]["secretKeyRef"]
            secret = self._objects.get(("secrets", namespace, reference["name"]))
            if secret is None or reference["key"] not in secret["data"]:
                if reference.get("optional"):
                    continue
                raise Refused(404, "", f'secret "{reference["name"]}" not found')
            found[one["name"]] = base64.b64decode(secret["data"][reference["key"]]).decode()
        return found

    def _process(
        self, key: tuple[str, str], pod: Json, container: Json, environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        folder = self._scratch / key[1]
        folder.mkdir()
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        places = {}
        for mount in container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            if "persistentVolumeClaim" in volume:
                places[mount["mountPath"]] = self.claims[
                    volume["persistentVolumeClaim"]["claimName"]
                ]
            elif "medium" not in volume["emptyDir"]:
                places[mount["mountPath"]] = folder / mount["name"]
                places[mount["mountPath"]].mkdir()

        def mapped(text: str) -> str:
            for path, place in places.items():
                if str(place) != path:
                    text = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", str(place), text)
            return text

        log = folder / "log.txt"
        self._logs[key] = log
        values = {name: mapped(value) for name, value in environment.items()}
        node = dict(self.environment)
        path = [values.pop("PYTHONPATH", ""), node.pop("PYTHONPATH", "")]
        path_of_python = [
            warm().command.parent, Path(sys.executable).parent, os.environ["PATH"],
        ]  # fmt: skip
        with log.open("wb") as output:
            return subprocess.Popen(
                [*PID_1, *(mapped(word) for word in container["command"])],
                cwd=mapped(container.get("workingDir", str(folder))),
                env={
                    "PATH": os.pathsep.join(map(str, path_of_python)),
                    "HOME": str(folder),
                    "LANG": "C.UTF-8",
                    "R_ENABLE_JIT": os.environ.get("R_ENABLE_JIT", "3"),
                    "PYTHONPATH": os.pathsep.join(one for one in path if one),
                    **node,
                    **values,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _watch(self, key: tuple[str, str], pod: Json, now: float) -> None:
        if key in self._until:
            if now >= self._until[key] or pod["metadata"].get("deletionTimestamp"):
                del self._until[key]
                self._ended(key, pod, 0)
            return
        process = self._processes[key]
        if process.poll() is not None:
            _signal(process, signal.SIGKILL)  # what it left behind in its session
            del self._processes[key]
            code = process.returncode
            self._ended(key, pod, code if code >= 0 else 128 - code)
        elif now >= self._kill_at.get(key, now + 1):
            _signal(process, signal.SIGKILL)

    def _ended(self, key: tuple[str, str], pod: Json, code: int, reason: str = "") -> None:
        run = next(run for run in reversed(self.runs) if run.pod == key[1])
        run.ended, run.exit_code = time.monotonic(), code
        reason = reason or ("Completed" if code == 0 else "Error")
        pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
        pod["status"]["containerStatuses"] = [
            {
                "name": pod["spec"]["containers"][0]["name"],
                "state": {"terminated": {"exitCode": code, "reason": reason, "finishedAt": _now()}},
            }
        ]

    def _end(self, namespace: str, pod: Json) -> None:
        """SIGTERM now and SIGKILL later, as a kubelet does."""
        key = (namespace, pod["metadata"]["name"])
        if "deletionTimestamp" not in pod["metadata"]:
            pod["metadata"] |= {
                "deletionTimestamp": _now(TERMINATION_S),
                "deletionGracePeriodSeconds": int(TERMINATION_S),
            }
        if key in self._processes:
            self._kill_at.setdefault(key, time.monotonic() + TERMINATION_S)
            with suppress(ProcessLookupError):
                os.kill(self._processes[key].pid, signal.SIGTERM)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are no news."""


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"
    _path = re.compile(
        r"/(?:api/v1|apis/batch/v1)/namespaces/([^/]+)/(jobs|pods|secrets|events)(?:/([^/]+))?(?:/(log))?$"
    )

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null") or {}
        fault = self.cluster.fault_for(method, self.path)
        if fault is not None and fault.hang_s:
            self.cluster._stopped.wait(fault.hang_s)
        if fault is not None and fault.status == 0:
            self._note(method, 0)
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(2)
            return
        try:
            if fault is not None and fault.status != 200:
                message = fault.message or f"scripted {fault.status}"
                raise Refused(fault.status, "Scripted", message)
            if self.headers.get("Authorization") != f"Bearer {self.cluster.token}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            url = urlparse(self.path)
            match = self._path.match(url.path)
            if match is None:
                raise Refused(404, "NotFound", f"no such path: {url.path}")
            namespace, kind, name, sub = match.groups()
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            answer = self.cluster.answer(method, namespace, kind, name, sub, query, body)
            status = 201 if method == "POST" else 200
            headers: dict[str, str] = {}
        except Refused as error:
            status, headers = error.status, fault.headers if fault is not None else {}
            answer = {
                "kind": "Status", "status": "Failure", "code": error.status,
                "reason": error.reason, "message": str(error),
            }  # fmt: skip
        self._note(method, status)
        with self.cluster._lock:
            text = answer if isinstance(answer, str) else json.dumps(answer)
        with suppress(OSError):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            data = text.encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def _note(self, method: str, status: int) -> None:
        self.cluster.calls.append(Call(time.monotonic(), method, self.path, status))

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


def _labels(thing: Json) -> dict[str, str]:
    found: dict[str, str] = thing["metadata"].get("labels") or {}
    return found


def _selects(selector: str, labels: dict[str, str]) -> bool:
    """Equality and `in`, which is what is asked for here."""
    for one in re.findall(r"[^,(]+(?:\([^)]*\))?", selector):
        if " in " in one:
            key, values = one.split(" in ")
            if labels.get(key.strip()) not in values.strip(" ()").split(","):
                return False
        elif "=" in one:
            key, value = one.split("=")
            if labels.get(key.strip()) != value:
                return False
    return True


def _check(body: Json) -> None:
    """What API servers of several versions hold objects to: their schemas, and further rules."""
    wrong = problems(body) if body["kind"] == "Job" else []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(json.loads(json.dumps(body)), version, strict=True)
        except kubernetes_validate.ValidationError as error:
            wrong.append(f"{version}: {error.message}")
    if wrong:
        name = f'{body["kind"]} "{body["metadata"]["name"]}"'
        raise Refused(422, "Invalid", f"{name} is invalid: {'; '.join(wrong)}")


def _condition(kind: str, holds: str, reason: str = "", message: str = "") -> Json:
    return {"type": kind, "status": holds, "reason": reason, "message": message,
            "lastTransitionTime": _now()}  # fmt: skip


def _waits(pod: Json, container: Json, reason: str, message: str) -> None:
    pod["status"]["containerStatuses"] = [
        {
            "name": container["name"],
            "state": {"waiting": {"reason": reason, "message": message}},
        }
    ]


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _now(later_s: float = 0.0) -> str:
    moment = datetime.now(UTC) + timedelta(seconds=later_s)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def calls_per_second(calls: list[Call], window_s: float = 10.0) -> float:
    """Most calls in any window of so many seconds, per second."""
    times = sorted(call.at for call in calls)
    return max(_counts(times, window_s), default=0) / window_s


def _counts(times: list[float], window_s: float) -> Iterator[int]:
    last = 0
    for index, begin in enumerate(times):
        while last < len(times) and times[last] < begin + window_s:
            last += 1
        yield last - index
