"""Measure the executor on the stand-in for a cluster.

PYTHONPATH=scripts python -m bench.cluster

First so many Jobs at once whose pods are only simulated: how long their submission takes, API calls
a second, and how long after its pod's end a Job is reported. Then real pods, one after the other:
what one takes beyond its work. The cluster's settings are those of a new entry of clusters.yaml.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "workflow" / "lib")]

import psutil  # noqa: E402
from kube_project import ENTRY, KubeProject  # noqa: E402
from kube_standin import Cluster, calls_per_second  # noqa: E402

#: Settings that are for quick tests; the bench has the defaults.
QUICK = [key for key in ENTRY if key not in ("images", "gpus")]


def many(folder: Path, jobs: int, lasts_s: float) -> dict[str, Any]:
    """So many Jobs at once, each simulated for so many seconds."""
    project: list[KubeProject] = []

    def simulate(pod: dict[str, Any]) -> float:
        number = pod["metadata"]["labels"]["grace/replication"]
        (project[0].folder / "out" / f"sim-{number}").touch()
        return lasts_s

    with Cluster(simulate=simulate) as cluster:
        project.append(plain(cluster, folder))
        (project[0].folder / "out").mkdir()
        begun = time.monotonic()
        running = project[0].want(*(f"sim-{number}" for number in range(jobs)))
        process = psutil.Process(running.process.pid)
        cpu_s, most_mib, at_once = 0.0, 0.0, 0
        while running.process.poll() is None:
            try:
                times, memory = process.cpu_times(), process.memory_info().rss
            except psutil.Error:
                break
            cpu_s, most_mib = times.user + times.system, max(most_mib, memory / 2**20)
            at_once = max(at_once, sum(run.ended is None for run in list(cluster.runs)))
            time.sleep(0.5)
        status = running.wait()
        if status:
            raise SystemExit(running.output()[-3000:])
        creates = [call.at for call in cluster.calls if call.method == "POST"]
        return {
            "jobs": jobs,
            "at once": at_once,
            "submitted in s": round(max(creates) - min(creates), 1),
            "whole run s": round(time.monotonic() - begun, 1),
            "API calls": len(cluster.calls),
            "calls per second, mean": round(
                len(cluster.calls) / (cluster.calls[-1].at - cluster.calls[0].at), 2
            ),
            "calls per second, most in 10 s": calls_per_second(cluster.calls),
            "of which lists": sum(call.method == "GET" for call in cluster.calls),
            "left behind": len(project[0].leftovers()),
            "controller's CPU s": round(cpu_s, 1),
            "controller's memory MiB": round(most_mib),
        }


def overhead(folder: Path, pods: int, work_s: float) -> dict[str, Any]:
    """Seconds that a real pod takes beyond its work, from the submission to the report."""
    beyond = []
    with Cluster(environment={"TOY_WORK_S": str(work_s)}) as cluster:
        project = plain(cluster, folder)
        for number in range(pods):
            running = project.want(f"sim-{number}")
            running.wait()
            begun = next(call.at for call in reversed(cluster.calls) if call.method == "POST")
            removed = [call.at for call in cluster.calls if call.method == "DELETE"]
            beyond.append(removed[-1] - begun - work_s)
        startup = [(run.ended or 0) - run.began - work_s for run in cluster.runs]
    return {
        "pods": pods,
        "work s": work_s,
        "beyond the work s, median": round(statistics.median(beyond), 1),
        "beyond the work s, most": round(max(beyond), 1),
        "of it Snakemake in the pod s, median": round(statistics.median(startup), 1),
    }


def plain(cluster: Cluster, folder: Path) -> KubeProject:
    """The toy with the settings' defaults."""
    project = KubeProject.toy(cluster, folder)
    path = project.folder / "clusters.yaml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(
        "".join(line for line in lines if line.strip().split(":")[0] not in QUICK),
        encoding="utf-8",
    )
    return project


def main() -> None:
    """Run both and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--lasts", type=float, default=240.0, metavar="SECONDS")
    parser.add_argument("--pods", type=int, default=5)
    parser.add_argument("--work", type=float, default=5.0, metavar="SECONDS", help="of a real pod")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "many").mkdir()
        (Path(folder) / "few").mkdir()
        print(
            json.dumps(overhead(Path(folder) / "few", given.pods, given.work), indent=1), flush=True
        )
        print(json.dumps(many(Path(folder) / "many", given.jobs, given.lasts), indent=1))


if __name__ == "__main__":
    main()
