"""Pods as Kubernetes gets them: every model on every tag, golden, and valid."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from manifest_rules import DNS_LABEL, LABEL_NAME, problems

from grace.cluster import demand, indexed, policy
from grace.cluster.placement import misfit, needs_gpu, place
from grace.cluster.pods import PodRequest, dns_name, job_manifest, label_value
from grace.cluster.settings import Cluster, Toleration, Volume, load_clusters
from grace.settings.config import load_models
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "pods"
CLUSTERS = load_clusters(ROOT / "config" / "clusters.yaml")
NRP = CLUSTERS["nrp"]
ENTRIES = load_models(ROOT / "config" / "models.yaml")
#: GRACE_GOLDEN=write pytest tests/unit/test_pods.py writes them anew; read the difference in git.
WRITE = os.environ.get("GRACE_GOLDEN") == "write"
VERSIONS = ("1.30", kubernetes_validate.latest_version())

ON_TAGS = [
    (cluster, model, tag)
    for cluster, settings in CLUSTERS.items()
    for model, entry in ENTRIES.items()
    for tag in (settings.gpus if needs_gpu(entry) else ["cpu"])
    if tag == "cpu" or misfit(model, entry, place(entry, tag), settings.gpus[tag]) is None
]
CASES = {
    "-".join(case): {"models": [case[1]], "cluster": case[0], "gpus": [case[2]]}
    if case[2] != "cpu"
    else {"models": [case[1]], "cluster": case[0]}
    for case in ON_TAGS
}


def project(**values: Any) -> Project:
    return Project(ROOT, values, environment={})


def jobs(configured: Project) -> list[dict[str, Any]]:
    """The Jobs of the first replication and the report, and the Indexed Job."""
    (model,) = configured.models
    single = [
        job_manifest(pod, configured.cluster)
        for pod in demand.pods(configured)
        if pod.replication in (0, None)
    ]
    return [*single, indexed.manifest(configured, model)]


def valid(job: dict[str, Any]) -> list[str]:
    for version in VERSIONS:
        kubernetes_validate.validate(copy.deepcopy(job), version, strict=True)
    return problems(job)


@pytest.mark.parametrize("name", CASES)
def test_manifests_are_golden_and_valid(name: str) -> None:
    made = jobs(project(**CASES[name]))
    for job in made:
        assert valid(job) == []
    # Tables and report are the same for all.
    kept = made if name.endswith("-cpu") else [made[0], made[-1]]
    text = yaml.safe_dump_all(kept, sort_keys=False, width=100)
    path = GOLDEN / f"{name}.yaml"
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    hint = "GRACE_GOLDEN=write pytest tests/unit/test_pods.py writes the files anew"
    assert text == path.read_text(encoding="utf-8"), hint


def test_every_model_runs_on_every_tag_but_those_that_cannot() -> None:
    missing = {
        (model, tag)
        for model, entry in ENTRIES.items()
        for tag in NRP.gpus
        if needs_gpu(entry) and ("nrp", model, tag) not in ON_TAGS
    }
    # Published in a form that V100s cannot compute with.
    assert missing == {("gpt-oss-20b", "v100"), ("gpt-oss-120b", "v100")}
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("nrp-")])
def test_the_line_up_keeps_the_rules_of_its_cluster(name: str) -> None:
    configured = project(**CASES[name])
    verdicts = policy.check(demand.pods(configured), configured.cluster)
    assert policy.broken(verdicts) == []
    assert {verdict.rule for verdict in verdicts} >= {"limits", "hours", "GPU-hours", "sleep"}


REQUEST = PodRequest(
    name="grace-x",
    run="results",
    rule="inference",
    model="gemma-2b",
    replication=0,
    command=["snakemake"],
    placement=place(ENTRIES["gemma-27b"], "rtx3090"),
    cores=4,
    mem_mb=1000,
    runtime_min=60,
)


def pod_of(request: PodRequest, cluster: Cluster = NRP) -> dict[str, Any]:
    pod: dict[str, Any] = job_manifest(request, cluster)["spec"]["template"]["spec"]
    return pod


def container_of(request: PodRequest, cluster: Cluster = NRP) -> dict[str, Any]:
    (container,) = pod_of(request, cluster)["containers"]
    return container


def environment_of(request: PodRequest, cluster: Cluster = NRP) -> dict[str, Any]:
    return {
        one["name"]: one.get("value", one.get("valueFrom"))
        for one in container_of(request, cluster)["env"]
    }


def test_limits_are_requests_and_hold_shared_memory() -> None:
    resources = container_of(REQUEST)["resources"]
    assert resources["limits"] == resources["requests"]
    placement = REQUEST.placement
    assert placement is not None
    assert resources["limits"] == {
        "cpu": "6",
        "memory": f"{placement.memory_mib + placement.shm_mib}Mi",
        "nvidia.com/gpu": "4",
    }
    (shm,) = [volume for volume in pod_of(REQUEST)["volumes"] if volume["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": f"{placement.shm_mib}Mi"}


def test_a_later_attempt_with_more_memory_gets_it() -> None:
    more = replace(REQUEST, mem_mb=100_000)
    assert more.memory_mib == 95368 + more.shm_mib  # 10^11 bytes, rounded up


def test_deadlines() -> None:
    spec = job_manifest(REQUEST, NRP)["spec"]
    assert spec["template"]["spec"]["activeDeadlineSeconds"] == 3600
    assert spec["activeDeadlineSeconds"] == 3600 + NRP.patience_s + NRP.start_patience_s
    endless = job_manifest(replace(REQUEST, runtime_min=None), NRP)["spec"]
    assert "activeDeadlineSeconds" not in endless
    assert "activeDeadlineSeconds" not in endless["template"]["spec"]


def test_what_a_pod_is_told() -> None:
    told = environment_of(replace(REQUEST, environment={"HF_HUB_OFFLINE": "1"}))
    assert told["GRACE_GPU_TAG"] == "rtx3090"
    assert (told["HF_HOME"], told["GRACE_JOURNAL_DIR"]) == ("/weights", "/journal")
    assert told["HF_HUB_OFFLINE"] == "1"
    assert told["HF_TOKEN"]["secretKeyRef"]["name"] == "grace-hf-token"
    own = environment_of(replace(REQUEST, secret_environment={"HF_TOKEN": ("mine", "token")}))
    assert own["HF_TOKEN"] == {"secretKeyRef": {"name": "mine", "key": "token"}}


@pytest.mark.parametrize("group", ["tables", "report"])
def test_pods_without_a_model_get_the_project_alone(group: str) -> None:
    plain = replace(REQUEST, rule=group, placement=None)
    assert [volume["name"] for volume in pod_of(plain)["volumes"]] == ["project"]
    names = {"HOME", "USER", "NODE_NAME", "POD_NAME", "GRACE_IMAGE"}
    assert set(environment_of(plain)) == names


def test_a_pod_that_shares_nothing_works_in_a_folder_of_its_own() -> None:
    apart = replace(REQUEST, shared=False)
    assert container_of(apart)["workingDir"] == "/workdir"
    names = [volume["name"] for volume in pod_of(apart)["volumes"]]
    assert names == ["weights", "journal", "workdir", "shm"]
    assert valid(job_manifest(apart, NRP)) == []
    assert container_of(REQUEST)["workingDir"] == "/grace"


def test_images_users_tolerations_and_service_account() -> None:
    cluster = NRP.model_copy(
        update={
            "images": {"default": "grace:1", "inference": "grace-gpu:1"},
            "tolerations": [Toleration(key="nautilus.io/noceph", effect="NoSchedule")],
            "service_account": "grace",
            "run_as": None,
            "volumes": {"data": Volume(claim="data", mount="/data", read_only=True)},
        }
    )
    pod = pod_of(REQUEST, cluster)
    assert pod["serviceAccountName"] == "grace"
    assert pod["automountServiceAccountToken"] is False
    assert pod["tolerations"] == [
        {"key": "nautilus.io/noceph", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert "securityContext" not in pod
    assert container_of(REQUEST, cluster)["image"] == "grace-gpu:1"
    assert container_of(replace(REQUEST, rule="report"), cluster)["image"] == "grace:1"
    mounts = container_of(REQUEST, cluster)["volumeMounts"]
    assert {"name": "data", "mountPath": "/data", "readOnly": True} in mounts
    assert pod_of(REQUEST)["securityContext"]["runAsNonRoot"] is True


def test_the_checks_find_what_they_are_for() -> None:
    job = job_manifest(REQUEST, NRP)
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["resources"]["limits"]["nvidia.com/gpu"] = "2"
    container["volumeMounts"].append({"name": "nowhere", "mountPath": "/x"})
    job["metadata"]["labels"]["grace/run"] = "a/b"
    found = problems(job)
    assert any("non overcommitable" in problem for problem in found)
    assert "no volume nowhere" in found
    assert "value 'a/b' of label 'grace/run'" in found
    container["volumMounts"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[0], strict=True)


@given(st.text())
def test_any_text_becomes_a_label_and_a_name(text: str) -> None:
    value = label_value(text)
    assert value == "" or LABEL_NAME.fullmatch(value)
    assert DNS_LABEL.fullmatch(dns_name(f"grace-{text}"))
    assert len(dns_name(f"grace-{text}")) <= 52


@given(st.text(), st.text())
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (label_value(one) == label_value(other)) == (one == other)
    assert (dns_name(f"g-{one}") == dns_name(f"g-{other}")) == (one == other)
