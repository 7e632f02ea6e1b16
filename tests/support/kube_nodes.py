"""The stand-in's nodes: a pod is a local process, or a number of seconds."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kube_objects import Json, Refused, condition, labels_of, timestamp, waits
from warm_python import warm

#: What every image's name stands for.
IMAGE_DIGEST = f"sha256:{'ab' * 32}"
#: Seconds between SIGTERM and SIGKILL for a pod that is deleted.
TERMINATION_S = 1.0
#: In a container the first process, and only that one, is sent SIGTERM, and ignores it as long as
#: it has no handler for it.
PID_1 = ("/bin/sh", "-c", "trap '' TERM; exec \"$@\"", "sh")


@dataclass
class Run:
    """A pod's process: of which Job, from when to when (monotonic seconds)."""

    job: str
    pod: str
    labels: dict[str, str]
    began: float
    ended: float | None = None
    exit_code: int | None = None


class Nodes:
    """The scheduler and the kubelets: what becomes of pods. See `kube_standin.Cluster`."""

    def __init__(
        self,
        claims: dict[str, Path],
        environment: dict[str, str],
        gpus: dict[str, int],
        simulate: Callable[[Json], float] | None,
    ) -> None:
        self.claims, self.environment, self.gpus = claims, environment, gpus
        self.simulate = simulate
        self.runs: list[Run] = []
        self.needs_mib: Callable[[dict[str, str]], int] = lambda labels: 0
        self.images_missing: set[str] = set()
        self._objects: dict[tuple[str, str, str], Json] = {}
        self._processes: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self._logs: dict[tuple[str, str], Path] = {}
        self._until: dict[tuple[str, str], float] = {}
        self._kill_at: dict[tuple[str, str], float] = {}
        self._lock = threading.RLock()
        #: A pod goes to the first of them that its affinity allows.
        self.nodes = ["node", "node-2"]
        self._disrupted: set[tuple[str, str]] = set()
        self._scratch = Path(tempfile.mkdtemp(prefix="kube-standin-"))

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
                condition("PodScheduled", "False", "Unschedulable", lack)
            ]
            return
        node = next((one for one in self.nodes if one not in _avoided(pod)), None)
        if node is None:
            words = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
            pod["status"]["conditions"] = [
                condition("PodScheduled", "False", "Unschedulable", words)
            ]
            return
        pod["spec"]["nodeName"] = node
        pod["status"]["conditions"] = [condition("PodScheduled", "True")]
        if container["image"] in self.images_missing:
            waits(pod, container, "ErrImagePull", f"{container['image']}: not found")
            return
        try:
            environment = self._environment(*key, container)
        except Refused as error:
            waits(pod, container, "CreateContainerConfigError", str(error))
            return
        labels = labels_of(pod)
        self.runs.append(Run(labels["job-name"], key[1], labels, now))
        pod["status"] |= {"phase": "Running", "startTime": timestamp()}
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
                for pod in self._all_pods()
                if pod["status"]["phase"] == "Running"
            )
            if used + int(number) > self.gpus.get(resource, 0):
                return f"0/1 nodes are available: 1 Insufficient {resource}."
        return None

    def _all_pods(self) -> list[Json]:
        with self._lock:
            return [value for (kind, _, _), value in self._objects.items() if kind == "pods"]

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
            signal_group(process, signal.SIGKILL)  # what it left behind in its session
            del self._processes[key]
            code = process.returncode
            self._ended(key, pod, code if code >= 0 else 128 - code)
        elif now >= self._kill_at.get(key, now + 1):
            signal_group(process, signal.SIGKILL)

    def _ended(self, key: tuple[str, str], pod: Json, code: int, reason: str = "") -> None:
        run = next(run for run in reversed(self.runs) if run.pod == key[1])
        run.ended, run.exit_code = time.monotonic(), code
        reason = reason or ("Completed" if code == 0 else "Error")
        pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
        pod["status"]["containerStatuses"] = [
            {
                "name": pod["spec"]["containers"][0]["name"],
                "state": {
                    "terminated": {"exitCode": code, "reason": reason, "finishedAt": timestamp()}
                },
            }
        ]

    def disrupt(
        self,
        pod: str,
        reason: str,
        message: str = "",
        namespace: str = "default",
        *,
        ends: bool = True,
    ) -> None:
        """The cluster ends a pod: pre-empted, drained (it is deleted), or evicted by its kubelet.

        Without `ends`, it is only marked yet: `remove` ends it.

        The condition and its reasons (`PreemptionByScheduler`, `EvictionByEvictionAPI`,
        `TerminationByKubelet`) were seen on a real server, as was that a Job whose policy ignores
        it makes another pod without counting this one.
        """
        with self._lock:
            found = self._objects["pods", namespace, pod]
            disrupted = condition("DisruptionTarget", "True", reason, message)
            found["status"]["conditions"] = [*found["status"]["conditions"], disrupted]
            self._disrupted.add((namespace, labels_of(found)["job-name"]))
            if reason == "TerminationByKubelet":
                found["status"] |= {"reason": "Evicted", "message": message}
                signal_group(self._processes[namespace, pod], signal.SIGKILL)
            elif ends:
                self._end(namespace, found)

    def _end(self, namespace: str, pod: Json) -> None:
        """SIGTERM now and SIGKILL later, as a kubelet does."""
        key = (namespace, pod["metadata"]["name"])
        if "deletionTimestamp" not in pod["metadata"]:
            pod["metadata"] |= {
                "deletionTimestamp": timestamp(TERMINATION_S),
                "deletionGracePeriodSeconds": int(TERMINATION_S),
            }
        if key in self._processes:
            self._kill_at.setdefault(key, time.monotonic() + TERMINATION_S)
            with suppress(ProcessLookupError):
                os.kill(self._processes[key].pid, signal.SIGTERM)


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _avoided(pod: Json) -> set[str]:
    """Nodes that a pod's affinity excludes by their name."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    return {
        node
        for term in required.get("nodeSelectorTerms", [])
        for one in term.get("matchExpressions", [])
        if one["key"] == "kubernetes.io/hostname" and one["operator"] == "NotIn"
        for node in one["values"]
    }
