"""A project on a stand-in for a Kubernetes cluster, and `snakemake --executor kubernetes` in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kube_standin import Cluster, Json
from warm_python import warm
from workflow_project import ROOT, Project

import grace.settings.project
from grace.cluster.plan import pod_plan
from grace.cluster.plan.pods import job_manifest

#: Small enough to be quick, and both experiments of both studies.
QUICK = ("replications=1", "limit=2", "cluster=standin")
ENTRY: dict[str, Any] = {
    "images": {"default": "grace:test"},
    "poll_s": 0.6,
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
    """A folder in a shared volume, which is mounted where it lies.

    `environment` is what Snakemake sees beyond this process's; `config` is always given to it.
    """

    folder: Path
    cluster: Cluster
    config: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_grace(cls, cluster: Cluster, folder: Path, **entry: Any) -> KubeProject:
        """A copy of the project."""
        made = cls(Project.copied_to(folder / "project").folder, cluster, QUICK)
        made._connect("config/clusters.yaml", entry)
        made.environment["PYTHONPATH"] = _path(made.folder / "workflow" / "lib")
        return made

    @classmethod
    def toy(cls, cluster: Cluster, folder: Path, **entry: Any) -> KubeProject:
        """A small workflow on the same executor, quicker to start: kube_toy/Snakefile."""
        made = cls(folder / "toy", cluster, ())
        made.folder.mkdir()
        shutil.copy2(Path(__file__).parent / "kube_toy" / "Snakefile", made.folder)
        made._connect("clusters.yaml", entry)
        library = str(ROOT / "workflow" / "lib")
        made.environment |= {"GRACE_LIB": library, "PYTHONPATH": _path(Path(library))}
        cluster.environment |= {"GRACE_LIB": library, "PYTHONPATH": library}
        return made

    def _connect(self, path: str, entry: Mapping[str, Any]) -> None:
        mount = {"claim": "shared", "mount": str(self.folder), "purpose": "project"}
        self.cluster.claims["shared"] = self.folder
        self.environment["KUBECONFIG"] = str(self.cluster.kubeconfig(self.kubeconfig))
        values = {**ENTRY, "volumes": {"project": mount}, **entry}
        file = self.folder / path
        others = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
        file.write_text(yaml.safe_dump({**others, "standin": values}), encoding="utf-8")

    @property
    def kubeconfig(self) -> Path:
        return self.folder.parent / "kubeconfig"

    def start(self, *arguments: str, config: tuple[str, ...] = ()) -> Running:
        """Start Snakemake as a user would."""
        log = self.folder.parent / "terminal.log"
        with log.open("ab") as output:
            begin = output.tell()
            process = subprocess.Popen(
                [
                    *(warm().command, "-m", "snakemake", "--executor", "kubernetes", *arguments),
                    *("--config", *self.config, *config),
                ],
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_as_on_a_terminal,
            )
        return Running(process, log, begin)

    def want(self, *names: str, arguments: tuple[str, ...] = (), **config: str) -> Running:
        """Start the toy for these files of `out`."""
        settings = [f"{key}={value}" for key, value in config.items()]
        return self.start(*arguments, config=("want=" + "+".join(names), *settings))

    def snakemake(self, *arguments: str, config: tuple[str, ...] = ()) -> tuple[int, str]:
        """Run it to its end: exit status, and what was on the terminal."""
        running = self.start(*arguments, config=config)
        return running.wait(), running.output()

    def made(self) -> set[str]:
        """Names of the files that the toy has made."""
        return {path.name for path in (self.folder / "out").glob("*")}

    def leftovers(self) -> list[str]:
        """What is left in the namespace."""
        kinds = ("jobs", "pods", "secrets")
        return [f"{kind}/{name}" for kind in kinds for name in self.cluster.names(kind)]


@dataclass
class Running:
    """Snakemake under way. `log` is that of all runs in the folder, this one's from `begin` on."""

    process: subprocess.Popen[bytes]
    log: Path
    begin: int

    def wait(self, timeout_s: float = 900) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            raise AssertionError(f"no end within {timeout_s} s:\n{self.output()}") from None

    def signal(self, number: int) -> None:
        """To Snakemake alone; its pods are not its children."""
        self.process.send_signal(number)

    def output(self) -> str:
        """What was on the terminal since it started, without the runs before it."""
        return self.log.read_bytes()[self.begin :].decode("utf-8", errors="replace")


def _as_on_a_terminal() -> None:
    """Ctrl-C works, though what a shell starts in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _path(own: Path) -> str:
    return os.pathsep.join([str(own), os.environ.get("PYTHONPATH", "")])


class Noting(Cluster):
    """Keeps every Job that it was sent."""

    def __init__(self) -> None:
        self.sent: list[Json] = []
        super().__init__()

    def _create(self, kind: str, namespace: str, body: Json) -> Json:
        if kind == "jobs":
            self.sent.append(body)
        return super()._create(kind, namespace, body)


def sent_as_planned(sent: list[Json], project: KubeProject, settings: Json) -> None:
    """Fails unless these pods are those that the policy's table has of their rules."""
    with contextlib.chdir(project.folder):  # where its own config is looked for first
        planned = grace.settings.project.Project(project.folder, settings, environment={})
        expected = [job_manifest(pod, planned.cluster) for pod in pod_plan.pods(planned)]
    rules = {_rule(job) for job in sent}
    found = sorted(map(_size, sent))
    wanted = sorted(_size(job) for job in expected if _rule(job) in rules)
    assert found == wanted, f"sent {found}, planned {wanted}"


def _rule(job: Json) -> str:
    return str(job["metadata"]["labels"]["grace/rule"])


def _size(job: Json) -> tuple[str, ...]:
    """Whose pod it is, and all that it asks for."""
    labels, pod = job["metadata"]["labels"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    whose = [labels.get(f"grace/{key}", "-") for key in ("rule", "model", "replication")]
    asked = container["resources"]["limits"]
    return (*whose, *map(str, sorted(asked.items())), str(pod["activeDeadlineSeconds"]))
