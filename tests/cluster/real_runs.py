"""Runs on a real API server, controller manager and scheduler; the kubelet is simulated.

Restarts of the API, quotas, refusals, taints and pre-emption are the server's own. With
GRACE_TEST_PODS=no these need no image. GRACE_TEST_RESTARTS=50 for more restarts than 5,
GRACE_TEST_JOBS=500 for more Jobs at once than 100.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from kube_http import Call, calls_per_second
from kube_project import ENTRY, KubeProject
from kube_real import RealCluster
from kube_words import NAMESPACE, NODE, Webhook, admin, job, kill_api_server, limit, minor, pods_of
from waiting import wait_until
from workflow_project import Project

from grace.cluster.plan.settings import Cluster

MINOR = minor()
RESTARTS = int(os.environ.get("GRACE_TEST_RESTARTS", "5"))
JOBS = int(os.environ.get("GRACE_TEST_JOBS", "100"))
pytestmark = pytest.mark.usefixtures("empty_namespace")
#: Of the entry for tests, what is no setting for quick ones.
OWN = ("images", "gpus")
HERE: dict[str, Any] = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
                    ]
                }
            ]
        }
    }
}


def toy(cluster: RealCluster, folder: Path, **entry: Any) -> KubeProject:
    """The toy, with time for a busy machine."""
    return KubeProject.toy(
        cluster,  # type: ignore[arg-type]
        folder,
        **{
            "namespace": NAMESPACE,
            "affinity": HERE,
            "grace_s": 10,
            "patience_s": 60,
            "start_patience_s": 60,
            "api_timeout_s": 10,
            "removal_s": 60,
            **entry,
        },
    )


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_restarts_of_the_api_end_neither_the_run_nor_a_pod(rights: Path, tmp_path: Path) -> None:
    over = False
    names = [f"sim-{number}" for number in range(4)]
    with RealCluster(rights, ends=lambda since_s: over) as cluster:
        project = toy(cluster, tmp_path)
        run = project.want(*names)
        wait_until(lambda: len(cluster.started) == len(names), 300, "all pods")
        for number in range(RESTARTS):
            kill_api_server()
            wait_until(ready, 300, f"the API server after restart {number + 1}")
            time.sleep(2)  # for looks of the run, which meet what it answers first
            assert run.process.poll() is None, run.output()
        over = True
        assert run.wait() == 0, run.output()
        assert project.made() == set(names)
        assert dict(cluster.started) == dict.fromkeys(names, 1)
        assert project.leftovers() == []
    print(words(run.output())[-4000:])


def ready() -> bool:
    try:
        return admin("get", "--raw", "/readyz") == "ok"
    except AssertionError:
        return False


def test_a_quota_of_fewer_jobs_than_wait_is_waited_for(rights: Path, tmp_path: Path) -> None:
    limit("ResourceQuota", hard={"count/jobs.batch": "2"})
    names = [f"sim-{number}" for number in range(7)]
    with RealCluster(rights) as cluster:
        project = toy(cluster, tmp_path)
        run = project.want(*names)
        assert run.wait() == 0, run.output()
        assert project.made() == set(names)
        assert dict(cluster.started) == dict.fromkeys(names, 1)
        assert "exceeded quota" in words(run.output())
        assert "Started again" not in run.output()
        assert project.leftovers() == []


def test_a_limit_range_is_told_at_once_in_its_words(rights: Path, tmp_path: Path) -> None:
    limit("LimitRange", limits=[{"type": "Container", "max": {"memory": "64Mi"}}])
    with RealCluster(rights) as cluster:
        project = toy(cluster, tmp_path, patience_s=3600)
        run = project.want("sim-0")
        assert run.wait() == 1
        assert "maximum memory usage per Container is 64Mi" in words(run.output())
        assert "does not change by itself" in words(run.output())
        assert "quota" not in run.output()
        assert project.leftovers() == []


def test_a_webhook_that_answers_500_holds_up_its_own_job_alone(
    rights: Path, tmp_path: Path
) -> None:
    with RealCluster(rights) as cluster:
        project = toy(cluster, tmp_path)
        with Webhook("jobs", fails=True, rule="gpu"):
            run = project.want("sim-0", "sim-1", "gpu-first-0", tags="[l40]")
            wait_until(lambda: project.made() >= {"sim-0", "sim-1"}, 300, "the others' results")
            wait_until(lambda: "failed calling webhook" in words(run.output()), 60, "its words")
            assert run.process.poll() is None, run.output()
        assert run.wait() == 0, run.output()
        assert project.leftovers() == []


def test_a_tainted_node_of_gpus_takes_pods_that_ask_for_them(rights: Path, tmp_path: Path) -> None:
    admin("taint", "node", NODE, "nvidia.com/gpu=present:NoSchedule")
    with RealCluster(rights) as cluster:
        project = toy(cluster, tmp_path)
        run = project.want("gpu-first-0", tags="[a100,l40]")
        assert run.wait() == 0, run.output()
        assert "Insufficient nvidia.com/a100" in words(run.output())
        assert project.leftovers() == []


def test_a_pod_that_is_pre_empted_is_made_again(rights: Path, tmp_path: Path) -> None:
    urgent = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
    admin("apply", "-f", "-", given=json.dumps({**urgent, "metadata": {"name": "urgent"}}))
    over = False
    with RealCluster(rights, ends=lambda since_s: over) as cluster:
        project = toy(cluster, tmp_path, patience_s=300)
        run = project.want("gpu-first-0", tags="[l40]")
        rounds = 4 if MINOR >= 26 else 1  # younger ones say who did it, and that takes no try
        for number in range(1, rounds + 1):
            wait_until(lambda: sum(cluster.started.values()) >= number, 300, "its pod")  # noqa: B023
            admin(
                "create", "-f", "-",
                given=json.dumps(job(f"high-{number}", gpus=1, priorityClassName="urgent")),
            )  # fmt: skip
            wait_until(lambda: placed(f"high-{number}"), 120, "pre-emption")  # noqa: B023
            admin("delete", "job", f"high-{number}", "--wait")
        wait_until(lambda: cluster.started["gpu-first-0"] > rounds, 300, "its last pod")
        over = True
        assert run.wait() == 0, run.output()
        if MINOR >= 26:
            assert "PreemptionByScheduler" in run.output()
            assert "try 2" not in run.output()
        assert project.leftovers() == []


def test_cluster_down_names_a_pod_on_a_silent_node(rights: Path, tmp_path: Path) -> None:
    folder = Project.copied_to(tmp_path / "checkout").folder
    for path, old, new in (
        ("config/clusters.yaml", "namespace: grace", f"namespace: {NAMESPACE}"),
        ("config/config.yaml", "\ncluster: ", "\n# cluster: "),
    ):
        (folder / path).write_text((folder / path).read_text().replace(old, new))
    with (folder / "config/config.yaml").open("a") as config:
        config.write("\ncluster: local\n")
    stuck = job("stuck")
    for one in (stuck, stuck["spec"]["template"]):
        one.setdefault("metadata", {})["labels"] = {"app.kubernetes.io/name": "grace"}
    admin("create", "-f", "-", given=json.dumps(stuck))
    wait_until(lambda: placed("stuck"), 60, "its node")
    (pod,) = pods_of("stuck")

    def down(limit_s: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["scripts/cluster/down.sh"], cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "LIMIT_S": str(limit_s)}, timeout=120,
        )  # fmt: skip

    silent = down(5)
    assert silent.returncode == 1, silent.stdout
    assert "this is left after 5 s:" in silent.stderr
    assert f"Pod {pod['metadata']['name']} on the node {NODE}" in silent.stderr
    admin("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")
    done = down(60)
    assert done.returncode == 0, done.stderr
    assert not admin("get", "jobs,pods", "-o", "name")


def test_many_jobs_at_once_take_few_calls(rights: Path, tmp_path: Path) -> None:
    """With the settings' defaults; calls are those that the API server logged."""
    room = {"cpu": "4k", "memory": "8Ti", "pods": "4k"}
    status = json.dumps({"status": {"capacity": room, "allocatable": room}})
    admin("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", status)
    before = len(calls())
    lasts_s = 0.3 * JOBS  # longer than their submission takes
    with RealCluster(rights, ends=lambda since_s: since_s > lasts_s) as cluster:
        defaults = {key: Cluster.model_fields[key].default for key in ENTRY if key not in OWN}
        project = KubeProject.toy(
            cluster,  # type: ignore[arg-type]
            tmp_path,
            **{**defaults, "namespace": NAMESPACE, "affinity": HERE},
        )
        names = {f"sim-{number}" for number in range(JOBS)}
        run = project.want(*names)
        assert run.wait() == 0, run.output()
        assert project.made() == names
        assert dict(cluster.started) == dict.fromkeys(names, 1)
        assert project.leftovers() == []
    made = calls()[before:]
    creates = [call.at for call in made if call.method == "create" and "/jobs" in call.path]
    per_s = len(made) / (made[-1].at - made[0].at)
    most = calls_per_second(made)
    print(f"{JOBS} Jobs: submitted in {creates[-1] - creates[0]:.0f} s; {len(made)} calls,")
    print(f"{per_s:.1f} a second, at most {most} in 10 s, in {made[-1].at - made[0].at:.0f} s")
    assert len(creates) == JOBS
    assert most < 5


def calls() -> list[Call]:
    """The controller's calls, as the API server logged them."""
    log = Path(os.environ["GRACE_TEST_CALLS"])  # with the first call
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [
        Call(
            datetime.fromisoformat(one["stageTimestamp"]).timestamp(),
            one["verb"],
            one["requestURI"],
            one["responseStatus"]["code"],
        )
        for one in map(json.loads, lines)
        if one["stage"] == "ResponseComplete"
    ]


def placed(name: str) -> bool:
    return any(pod["spec"].get("nodeName") for pod in pods_of(name))
