"""A cluster's rules: each refuses what it is for, says what to do, and lets the rest pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grace.cluster import demand, policy, table
from grace.cluster.placement import place
from grace.cluster.pods import PodRequest
from grace.cluster.settings import Cluster, load_clusters
from grace.config import load_models
from grace.errors import GraceError
from grace.project import Project

ROOT = Path(__file__).parents[2]
NRP = load_clusters(ROOT / "config" / "clusters.yaml")["nrp"]
GEMMA = load_models(ROOT / "config" / "models.yaml")["gemma-2b"]
POD = PodRequest(
    name="grace-gemma",
    run="results",
    rule="inference",
    model="gemma-2b",
    replication=0,
    command=["/bin/sh", "-c", "snakemake --cores 4"],
    placement=place(GEMMA, "a100"),
    cores=4,
    mem_mb=1000,
    runtime_min=60,
)


def nrp(**changes: Any) -> Cluster:
    return Cluster.model_validate({**NRP.model_dump(), **changes})


def with_policy(**changes: Any) -> Cluster:
    return nrp(policy={**NRP.policy.model_dump(), **changes})


def with_gpu(**changes: Any) -> Cluster:
    gpus = {tag: gpu.model_dump() for tag, gpu in NRP.gpus.items()}
    gpus["a100"] |= changes
    return nrp(gpus=gpus)


def with_volume(**changes: Any) -> Cluster:
    volumes = {name: volume.model_dump() for name, volume in NRP.volumes.items()}
    volumes["weights"] |= changes
    return nrp(volumes=volumes)


def rules_broken(pod: PodRequest, cluster: Cluster = NRP, pods: int = 1) -> list[str]:
    return [verdict.rule for verdict in policy.broken(policy.check([pod] * pods, cluster))]


def test_a_pod_that_keeps_all_rules() -> None:
    verdicts = policy.check([POD], NRP)
    assert all(verdict.ok for verdict in verdicts)
    assert {verdict.rule for verdict in verdicts} == {
        "limits", "hours", "GPUs in a pod", "quota", "priority class", "storage class", "sleep",
        "GPU-hours",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "pod", "cluster"),
    [
        ("hours", replace(POD, runtime_min=24 * 60 + 1), NRP),
        ("hours", replace(POD, runtime_min=None), NRP),
        ("GPUs in a pod", replace(POD, placement=replace(place(GEMMA, "a100"), gpus=9)), NRP),
        ("quota", POD, with_gpu(priority_class=None)),
        ("quota", POD, with_gpu(priority_class="owner-no-preempt")),
        ("priority class", POD, with_gpu(resource="nvidia.com/gpu", priority_class="nice")),
        ("storage class", POD, with_volume(storage_class="rook-cephfs-ucsd")),
        ("one node", replace(POD, at_once=3), with_volume(storage_class="rook-ceph-block")),
        ("sleep", replace(POD, command=["sleep", "infinity"]), NRP),
        ("sleep", replace(POD, command=["/bin/sh", "-c", "run; sleep 3600"]), NRP),
        ("sleep", replace(POD, command=["/bin/sh", "-c", "sleep inf & run"]), NRP),
        ("GPU-hours", POD, with_policy(max_gpu_hours=0.9)),
    ],
)
def test_each_rule_refuses_what_it_is_for(rule: str, pod: PodRequest, cluster: Cluster) -> None:
    assert rules_broken(pod, cluster) == [rule]
    (verdict,) = policy.broken(policy.check([pod], cluster))
    assert verdict.fix
    with pytest.raises(GraceError) as caught:
        policy.refuse(policy.check([pod], cluster), "nrp")
    text = str(caught.value)
    assert text.startswith("Nothing was submitted: it would break the rules of the cluster 'nrp'")
    assert f"  {rule}, " in text
    assert f"{verdict.value}, but {verdict.allowed}. To do: {verdict.fix}." in text


@pytest.mark.parametrize(
    ("pod", "cluster"),
    [
        (replace(POD, runtime_min=24 * 60), with_policy(max_gpu_hours=None)),
        (replace(POD, placement=replace(place(GEMMA, "a100"), gpus=8)), NRP),
        (POD, with_gpu(resource="nvidia.com/gpu", priority_class=None)),
        (POD, with_gpu(priority_class="opportunistic2")),
        (POD, with_volume(storage_class="rook-ceph-block")),
        (replace(POD, command=["sh", "-c", "sleep 1; snakemake", "asleep"]), NRP),
        (replace(POD, runtime_min=None), nrp(policy={})),
    ],
)
def test_what_is_allowed_passes(pod: PodRequest, cluster: Cluster) -> None:
    assert rules_broken(pod, cluster) == []


def test_limits_are_read_from_the_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    def looser(pod: PodRequest, cluster: Cluster) -> dict[str, Any]:
        manifest = policy_manifest(pod, cluster)
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        container["resources"]["limits"]["memory"] = f"{round(pod.memory_mib * factor)}Mi"
        return manifest

    policy_manifest = policy.job_manifest
    monkeypatch.setattr(policy, "job_manifest", looser)
    factor = 1.19
    assert rules_broken(POD) == []
    assert rules_broken(POD, pods=101) == ["limits"]  # more than 100: they must be equal
    factor = 1.21
    assert rules_broken(POD) == ["limits"]


def test_gpu_hours_are_of_the_whole_run() -> None:
    two = replace(POD, placement=replace(place(GEMMA, "a100"), gpus=2), runtime_min=90)
    assert policy.gpu_hours([POD, two, replace(POD, placement=None)]) == 1 + 3
    assert rules_broken(replace(POD, runtime_min=600), pods=25) == []
    assert rules_broken(replace(POD, runtime_min=600), pods=26) == ["GPU-hours"]


def test_the_same_is_told_once() -> None:
    verdicts = policy.check([replace(POD, name=f"p{n}", runtime_min=None) for n in range(9)], NRP)
    assert len(policy.broken(verdicts)) == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", 0.5), ("2", 2), ("16Gi", 2**34), ("3M", 3e6), ("1.5Gi", 3 * 2**29)],
)
def test_quantities(text: str, number: float) -> None:
    assert policy.quantity(text) == number


@pytest.mark.parametrize("text", ["", "Gi", "2X", "-1", "1 Gi"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        policy.quantity(text)


# The pods of a run.

LINE_UP = ["gemma-2b", "gemma-9b", "gemma-27b", "llama-70b", "gpt-oss-20b", "gpt-oss-120b"]


def project(**values: Any) -> Project:
    return Project(ROOT, values, environment={})


def test_the_planned_line_up_is_within_its_budget() -> None:
    planned = demand.pods(project(models=LINE_UP, replications=3))
    # Six models, a day each, one after the other: 9 GPUs x 24 hours.
    assert policy.gpu_hours(planned) == 216
    assert [pod.rule for pod in planned].count("inference") == 18
    assert [pod.rule for pod in planned].count("tables") == 18
    assert [pod.rule for pod in planned].count("report") == 1
    assert len({pod.name for pod in planned}) == len(planned)


def test_a_replication_more_is_beyond_it() -> None:
    verdicts = table.verdicts(project(models=LINE_UP, replications=4))
    with pytest.raises(GraceError, match=r"GPU-hours, \(the run\): 288, but at most 250"):
        policy.refuse(verdicts, "nrp")


def test_only_what_jobs_need_is_looked_at() -> None:
    configured = project(models=LINE_UP, replications=4)
    table.refuse(configured, [("score", "gemma-2b", "0"), ("merge", None, None)])
    needed = demand.needed(
        demand.pods(configured),
        [("score", "gemma-2b", "3"), ("plan", "gemma-2b", "3"), ("report", None, None)],
    )
    assert [(pod.rule, pod.model, pod.replication) for pod in needed] == [
        ("inference", "gemma-2b", 3),
        ("report", None, None),
    ]
    everything = [("generate", model, str(n)) for model in LINE_UP for n in range(4)]
    with pytest.raises(GraceError, match="GPU-hours"):
        table.refuse(configured, everything)


def test_fallbacks_are_held_to_the_rules_too() -> None:
    configured = project(models=["llama-70b"], replications=1)
    configured.cluster = with_policy(max_gpus_per_pod=4)
    with pytest.raises(GraceError, match=r"grace-llama-70b-on-rtx3090: 8, but at most 4"):
        table.refuse(configured, [("score", "llama-70b", "0")])


def test_parallelism() -> None:
    assert demand.parallelism(GEMMA, place(GEMMA, "a100")) == 3
    assert demand.parallelism(GEMMA, replace(place(GEMMA, "a100"), gpus=2)) == 1
    own = GEMMA.model_copy(update={"replication_parallelism": 2})
    assert demand.parallelism(own, place(own, "a100")) == 2


def test_the_table() -> None:
    text = table.text(project(models=["gemma-27b", "pico"], replications=3, gpus=["v100", "a100"]))
    rows = {tuple(line.split()[:3]): line.split()[3:] for line in text.splitlines() if line}
    assert rows["inference", "gemma-27b", "v100"] == [
        "3", "1", "4", "6", "48.0", "8.0", "8.0", "96.0",
    ]  # fmt: skip
    assert rows["inference", "pico", "-"][:4] == ["3", "3", "-", "4"]
    assert "At most 96 GPU-hours" in text
    assert (
        "gemma-27b  a100  would compute other numbers (dtype bfloat16 instead of float32)" in text
    )
    assert "BROKEN" not in text
    wide = table.text(project(models=LINE_UP, replications=4))
    assert "BROKEN  GPU-hours" in wide
