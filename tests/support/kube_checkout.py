"""A checkout, `make cluster-…` in it, and kubectl, for the cluster of tests/cluster/inside.sh."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from waiting import PATIENCE_S, wait_until

NAMESPACE = "grace"
#: Pods that compute get one core of the node's two.
CORES = ("--set-threads", "generate=1", "score=1")
#: The cluster's entry; tests change keys of it.
ENTRY: dict[str, Any] = {
    "namespace": NAMESPACE,
    "gpus": {
        "a100": {"resource": "nvidia.com/a100", "memory_gib": 80, "compute_capability": 8.0},
        "l40": {
            "memory_gib": 45,
            "compute_capability": 8.9,
            "labels": {"nvidia.com/gpu.product": ["NVIDIA-L40"]},
        },
    },
    "volumes": {
        "project": {"claim": "grace-project", "mount": "/grace", "purpose": "project"},
        "journal": {"claim": "grace-journal", "mount": "/journal", "purpose": "journal"},
        "weights": {"claim": "grace-weights", "mount": "/weights", "purpose": "weights"},
    },
    "run_as": {"user": 1000, "group": 1000, "fs_group": 1000},
    "poll_s": 1,
    # Longer than a pod may take to end.
    "grace_s": 45,
    "ttl_s": 600,
}


def kubectl(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["kubectl", "--namespace", NAMESPACE, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout


def listed(kind: str, selector: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        kubectl("get", kind, "--selector", selector, "--output", "json")
    )["items"]
    return found


def computing() -> list[dict[str, Any]]:
    """The pods that a controller has submitted."""
    return listed("pods", "app.kubernetes.io/name=grace,!app.kubernetes.io/component")


def group(name: str) -> list[dict[str, Any]]:
    return listed("pods", f"app.kubernetes.io/name=grace,grace/rule={name}")


@dataclass
class Checkout:
    """A copy of this checkout under git, as a researcher has it."""

    folder: Path

    def make(self, target: str, arguments: str = "") -> str:
        """A target of the Makefile, which must succeed; what it printed."""
        done = subprocess.run(
            ["make", "--no-print-directory", target, f"ARGS={arguments}"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def settings(self, **entry: Any) -> None:
        """Write the cluster's entry."""
        image = {"default": os.environ["GRACE_TEST_IMAGE"]}
        values = {"test": {**ENTRY, "images": image, **entry}}
        (self.folder / "config/clusters.yaml").write_text(yaml.safe_dump(values))

    def models(self, **entries: dict[str, Any]) -> None:
        """Add entries to models.yaml."""
        path = self.folder / "config/models.yaml"
        values = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**values, **entries}))

    def run(self, results: str, *arguments: str, config: str = "replications=1 limit=2") -> None:
        """Start a run in the cluster, in a folder of results of its own."""
        words = [*arguments, *CORES, "--config", f"results={results}", config]
        self.make("cluster-run", " ".join(words))

    def ended(self, timeout_s: float = 900) -> tuple[bool, str]:
        """Wait for the controller's end: whether it succeeded, and its log."""

        def conditions() -> dict[str, str]:
            job = json.loads(kubectl("get", "job", "grace-controller", "--output", "json"))
            found = job["status"].get("conditions") or []
            return {one["type"]: one["status"] for one in found}

        try:
            wait_until(conditions, timeout_s, "the controller's end")
        except AssertionError:
            print(self.log(), kubectl("get", "pods"), kubectl("get", "events"))
            raise
        return conditions().get("Complete") == "True", self.log()

    def log(self) -> str:
        return kubectl("logs", "job/grace-controller", "--tail=-1", check=False)

    def succeeded(self, timeout_s: float = 900) -> str:
        """Wait for the controller's success; its log."""
        success, log = self.ended(timeout_s)
        assert success, log
        return log

    def failed(self, timeout_s: float = 900) -> str:
        """Wait for the controller's failure; its log."""
        success, log = self.ended(timeout_s)
        assert not success, log
        return log


def volume(name: str) -> Path:
    """The folder behind a claim."""
    return Path(os.environ["GRACE_TEST_VOLUME"]) / name


def processes_of(pod: dict[str, Any]) -> list[psutil.Process]:
    """What runs in a pod, as this machine sees it."""
    mark = f"pod{pod['metadata']['uid']}"
    found = []
    for process in psutil.process_iter():
        with suppress(OSError):
            if mark in Path(f"/proc/{process.pid}/cgroup").read_text():
                found.append(process)
    return found


def controllers() -> list[psutil.Process]:
    """Processes of Snakemake as the controller, which this machine sees."""
    found = []
    for process in psutil.process_iter():
        with process.oneshot():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
        if "--executor" in line and any(word.endswith("snakemake") for word in line):
            found.append(process)
    return found
