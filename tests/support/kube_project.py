"""A project on a stand-in for a Kubernetes cluster, and `snakemake --executor kubernetes` in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kube_standin import Cluster
from workflow_project import Project

#: Small enough to be quick, and both experiments of both studies.
QUICK = ("replications=1", "limit=2", "cluster=standin")
ENTRY: dict[str, Any] = {
    "images": {"default": "grace:test"},
    "poll_s": 0.3,
    "grace_s": 2,
    "patience_s": 2,
    "start_patience_s": 2,
    "api_backoff_s": 0.1,
    "api_attempts": 3,
    "api_timeout_s": 2,
    "gpus": {
        "a100": {"resource": "nvidia.com/a100", "memory_gib": 80, "compute_capability": 8.0},
        "l40": {"resource": "nvidia.com/gpu", "memory_gib": 48, "compute_capability": 8.9},
    },
}


@dataclass
class KubeProject:
    """A copy of the project in a shared volume, which is mounted where it lies.

    `environment` is what Snakemake sees beyond this process's; `entry` the cluster's entry.
    """

    project: Project
    cluster: Cluster
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def on(cls, cluster: Cluster, folder: Path, **entry: Any) -> KubeProject:
        project = Project.copied_to(folder / "project")
        volumes = {
            "project": {"claim": "shared", "mount": str(project.folder), "purpose": "project"}
        }
        cluster.claims["shared"] = project.folder
        made = cls(project, cluster, {"KUBECONFIG": str(cluster.kubeconfig(folder / "kubeconfig"))})
        made.settings({"volumes": volumes, **entry})
        return made

    def settings(self, entry: dict[str, Any]) -> None:
        """Write config/clusters.yaml."""
        path = self.project.folder / "config/clusters.yaml"
        path.write_text(yaml.safe_dump({"standin": {**ENTRY, **entry}}), encoding="utf-8")

    def start(self, *arguments: str, config: tuple[str, ...] = QUICK) -> Running:
        """Start Snakemake as a user would."""
        log = self.project.folder.parent / "terminal.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", "--executor", "kubernetes", *arguments]
                + (["--config", *config] if config else []),
                cwd=self.project.folder,
                env={**os.environ, "PYTHONPATH": self._path(), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Running(process, log)

    def snakemake(
        self, *arguments: str, config: tuple[str, ...] = QUICK, timeout_s: float = 300
    ) -> tuple[int, str]:
        """Run it to its end: exit status, and what was on the terminal."""
        running = self.start(*arguments, config=config)
        return running.wait(timeout_s), running.output()

    def run(self, *arguments: str, config: tuple[str, ...] = QUICK) -> str:
        """Run it; it must succeed."""
        status, output = self.snakemake(*arguments, config=config)
        assert status == 0, output
        return output

    def leftovers(self) -> list[str]:
        """What is left in the namespace."""
        kinds = ("jobs", "pods", "secrets")
        return [f"{kind}/{name}" for kind in kinds for name in self.cluster.names(kind)]

    def _path(self) -> str:
        own = str(self.project.folder / "workflow" / "lib")
        return os.pathsep.join([own, os.environ.get("PYTHONPATH", "")])


@dataclass
class Running:
    """Snakemake under way."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait(self, timeout_s: float = 300) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            raise AssertionError(f"no end within {timeout_s} s:\n{self.output()}") from None

    def signal(self, number: int) -> None:
        """To Snakemake alone; its pods are not its children."""
        self.process.send_signal(number)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")
