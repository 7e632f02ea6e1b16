"""Pods as Kubernetes gets them: every model on every tag, golden, and valid."""

from __future__ import annotations

import copy
import difflib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pod_table
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_validate import utils as schemas
from manifest_rules import DNS_LABEL, LABEL_NAME, problems
from recipes import blocks

from grace.cluster.plan import indexed, pod_plan, policy
from grace.cluster.plan.placement import needs_gpu, placement_for, why_unfit
from grace.cluster.plan.pods import PodRequest, dns_name, job_manifest, label_value
from grace.cluster.plan.settings import Cluster, Toleration, Volume, load_clusters
from grace.settings import project as of_project
from grace.settings.loading import load_models
from grace.settings.project import Project
from grace.studies.catalogue import load_studies
from grace.studies.study import Study

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "pods"
CLUSTERS = load_clusters(ROOT / "config" / "clusters.yaml")
NRP = CLUSTERS["nrp"]
ENTRIES = load_models(ROOT / "config" / "models.yaml")
#: GRACE_GOLDEN=write pytest tests/unit/test_pods.py -k golden writes them; read the difference.
WRITE = os.environ.get("GRACE_GOLDEN") == "write"
VERSIONS = ("1.30", kubernetes_validate.latest_version())

#: The pods that are kept whole: on cores; on one GPU, found by its label; on two with a priority;
#: in another cluster, on eight; in another dtype than the model's. All are rows of the table.
FAMILIES = (
    "nrp-pico-cpu",
    "nrp-gemma-2b-l40",
    "nrp-gemma-27b-a100",
    "local-llama-70b-rtx3090",
    "nrp-gemma-9b-v100",
)
TABLE = "table.yaml"
HEAD = (
    "What the pods of each model on each tag have that those of nrp-gemma-2b-l40.yaml have not,",
    "and on cores those of nrp-pico-cpu.yaml. `all` is every model on the tag; null, what is gone.",
    "Written by GRACE_GOLDEN=write pytest tests/unit/test_pods.py -k golden.",
)


def unfit(cluster: str, model: str, tag: str) -> str | None:
    """Why a model cannot run on a tag."""
    if tag == "cpu":
        return None
    entry = ENTRIES[model]
    return why_unfit(model, entry, placement_for(entry, tag), CLUSTERS[cluster].gpus[tag])


COMBINATIONS = [
    (cluster, model, tag)
    for cluster, settings in CLUSTERS.items()
    for model, entry in ENTRIES.items()
    for tag in (settings.gpus if needs_gpu(entry) else ["cpu"])
]
CASES = {
    "-".join((cluster, model, tag)): {"models": [model], "cluster": cluster}
    | ({} if tag == "cpu" else {"gpus": [tag]})
    for cluster, model, tag in COMBINATIONS
    if unfit(cluster, model, tag) is None
}


def project(**values: Any) -> Project:
    return Project(ROOT, values, environment={})


@pytest.fixture(scope="module", autouse=True)
def read_once() -> Iterator[None]:
    """Studies, the sheets of config and Kubernetes's schemas are read once, not for each case."""

    @cache
    def studies(names: tuple[str, ...], root: Path, user_dir: Path) -> dict[str, Study]:
        return load_studies(names, root, user_dir)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_project, "load_models", cache(load_models))
        patch.setattr(of_project, "load_clusters", cache(load_clusters))
        patch.setattr(schemas, "schema_contents", cache(schemas.schema_contents))
        patch.setattr(of_project, "load_studies", lambda names, *where: studies((*names,), *where))
        yield


@cache
def case(name: str) -> Project:
    return project(**CASES[name])


@cache
def jobs(name: str) -> dict[str, dict[str, Any]]:
    """The Jobs of a replication, on cores with those that are the same for all, and the Indexed."""
    configured = case(name)
    (model,) = configured.models
    single = {
        pod.rule: job_manifest(pod, configured.cluster)
        for pod in pod_plan.pods(configured)
        if pod.replication in (0, None) and (pod.rule == "inference" or name.endswith("-cpu"))
    }
    return {**single, "indexed": indexed.manifest(configured, model)}


def table() -> str:
    """Every combination of cluster, tag and model, by what differs."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for cluster, settings in CLUSTERS.items():
        found[cluster] = {}
        for tag in [*settings.gpus, "cpu"]:
            base = "nrp-pico-cpu" if tag == "cpu" else "nrp-gemma-2b-l40"
            of_base = pod_table.fields(jobs(base), *base.split("-", 1)[1].rsplit("-", 1))
            models = [one[1] for one in COMBINATIONS if (one[0], one[2]) == (cluster, tag)]
            refused = {model: why for model in models if (why := unfit(cluster, model, tag))}
            rows = {
                model: pod_table.differences(
                    of_base, pod_table.fields(jobs(f"{cluster}-{model}-{tag}"), model, tag)
                )
                for model in models
                if model not in refused
            }
            reasons = {model: f"does not run: {why}" for model, why in refused.items()}
            found[cluster][tag] = {**pod_table.tag_rows(rows), **reasons}
    return pod_table.text(HEAD, found)


def valid(job: dict[str, Any]) -> list[str]:
    for version in VERSIONS:
        kubernetes_validate.validate(copy.deepcopy(job), version, strict=True)
    return problems(job)


def test_manifests_are_golden() -> None:
    texts = {
        f"{name}.yaml": yaml.safe_dump_all(jobs(name).values(), sort_keys=False, width=100)
        for name in FAMILIES
    }
    texts[TABLE] = table()
    if WRITE:
        for name, text in texts.items():
            (GOLDEN / name).write_text(text, encoding="utf-8")
    assert {path.name for path in GOLDEN.iterdir()} == set(texts)
    for name, text in texts.items():
        hint = "GRACE_GOLDEN=write pytest tests/unit/test_pods.py -k golden writes the files anew"
        assert text == (GOLDEN / name).read_text(encoding="utf-8"), hint


@pytest.mark.parametrize("name", CASES)
def test_manifests_are_valid(name: str) -> None:
    for job in jobs(name).values():
        assert valid(job) == []


def test_the_table_names_every_field_that_differs() -> None:
    """A row that left one out would hide a change from readers of the table."""
    one = {
        "a": {"requests": {"memory": 1}, "limits": {"memory": 1}, "old": 1, "affinity": {"x": 1}}
    }
    two = {"a": {"requests": {"memory": 1}, "limits": {"memory": 2}, "new": ["one"]}}
    fields = [pod_table.fields(job, "one", "tag") for job in (one, two)]
    assert pod_table.differences(*fields) == {
        "limits.memory": 2, "old": None, "new": ["<model>"], "affinity": None,
    }  # fmt: skip
    two["a"]["requests"]["memory"] = 2
    fields = [pod_table.fields(job, "one", "tag") for job in (one, two)]
    assert pod_table.differences(*fields)["memory"] == 2
    assert pod_table.tag_rows({"m": {"x": 1, "y": None}, "n": {"x": 1, "y": 2}}) == {
        "all": {"x": 1}, "m": {"y": None}, "n": {"y": 2},
    }  # fmt: skip
    assert pod_table.tag_rows({}) == {"all": {}}  # a tag on which no model fits


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_shipped_model_runs_somewhere_in_every_cluster(cluster: str) -> None:
    placed = {
        model
        for one, model, tag in COMBINATIONS
        if one == cluster and unfit(one, model, tag) is None
    }
    assert placed == set(ENTRIES)


def test_a_gpu_tag_is_a_block_of_config_and_at_most_thirty_lines_of_kept_pods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dict(blocks("Adding a GPU tag"))
    block, command = recipe["yaml"], recipe["bash"]
    for folder in ("config", "tests/unit/golden/pods", "tests/support"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(__file__, tmp_path / "tests" / "unit")
    for name in (
        "pyproject.toml",
        "workflow",
        "scripts",
        "studies",
        "resources",
        "CONTRIBUTING.md",
    ):
        (tmp_path / name).symlink_to(ROOT / name)
    clusters = tmp_path / "config" / "clusters.yaml"
    nrp, volumes, rest = clusters.read_text(encoding="utf-8").partition("\n  volumes:\n")
    clusters.write_text(f"{nrp.rstrip()}\n{block}{volumes}{rest}", encoding="utf-8")
    done = subprocess.run(
        ["bash", "-c", f"set -e; {command}"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    changed = []
    made = tmp_path / "tests/unit/golden/pods"
    assert {path.name for path in made.iterdir()} == {path.name for path in GOLDEN.iterdir()}
    for path in GOLDEN.iterdir():
        before, after = (one.read_text("utf-8").splitlines() for one in (path, made / path.name))
        changed += [
            line
            for line in difflib.unified_diff(before, after, n=0, lineterm="")
            if not line.startswith(("---", "+++", "@@"))
        ]
    assert 0 < len(changed) <= 30, "\n".join(changed)
    (tag,) = yaml.safe_load(block)
    rows = yaml.safe_load((made / TABLE).read_text(encoding="utf-8"))["nrp"][tag]
    assert {"all", *(model for model, entry in ENTRIES.items() if needs_gpu(entry))} == set(rows)

    # What it adds runs, and is asked for in a way that the cluster allows.
    monkeypatch.chdir(tmp_path)  # a user's own config wins
    added = Project(
        tmp_path, {"cluster": "nrp", "gpus": [tag], "models": ["gemma-27b"]}, environment={}
    )
    for pod in pod_plan.pods(added):
        assert valid(job_manifest(pod, added.cluster)) == []
    assert policy.broken(policy.check(pod_plan.pods(added), added.cluster)) == []


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("nrp-")])
def test_the_line_up_keeps_the_rules_of_its_cluster(name: str) -> None:
    configured = case(name)
    verdicts = policy.check(pod_plan.pods(configured), configured.cluster)
    assert policy.broken(verdicts) == []
    assert {verdict.rule for verdict in verdicts} >= {"limits", "hours", "GPU-hours", "sleep"}


REQUEST = PodRequest(
    name="grace-x",
    run="results",
    rule="inference",
    model="gemma-2b",
    replication=0,
    command=["snakemake"],
    placement=placement_for(ENTRIES["gemma-27b"], "rtx3090"),
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


def test_what_a_pod_is_reported() -> None:
    environment = environment_of(replace(REQUEST, environment={"HF_HUB_OFFLINE": "1"}))
    assert environment["GRACE_GPU_TAG"] == "rtx3090"
    assert (environment["HF_HOME"], environment["GRACE_JOURNAL_DIR"]) == ("/weights", "/journal")
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["HF_TOKEN"]["secretKeyRef"]["name"] == "grace-hf-token"
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
        {"key": "nautilus.io/noceph", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
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
