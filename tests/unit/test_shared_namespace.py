"""A namespace that several people share: names and labels of one's own, existing things by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from manifest_rules import problems

from grace.cluster.plan import as_entry, shell_settings
from grace.cluster.plan.overlay import manifest
from grace.cluster.plan.placement import placement_for
from grace.cluster.plan.pods import PodRequest, job_manifest
from grace.cluster.plan.settings import RUN_SECRET, Cluster, load_clusters
from grace.cluster.run.secret import RunSecret
from grace.errors import ConfigError
from grace.settings.config import ModelEntry

ROOT = Path(__file__).parents[2]
BASE = ROOT / "workflow" / "kubernetes"
NRP = load_clusters(ROOT / "config" / "clusters.yaml")["nrp"]
SHIPPED = NRP.model_dump(exclude_unset=True)
#: What the shipped entry says of things by name, told again where an instance is set.
UNNAMED = {
    "hf_token": {"key": "HF_TOKEN"},
    "volumes": {
        name: {"mount": f"/{name}", "purpose": name} for name in ("project", "weights", "journal")
    },
}
Json = dict[str, Any]


def objects(folder: str, label: str = "grace") -> list[Json]:
    """Those of the base or of `jobs`, with the label that kustomize gives them."""
    found = []
    for path in sorted((BASE / folder).glob("*.yaml")):
        if path.name not in ("kustomization.yaml", "hf-token.example.yaml"):
            found += list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    for one in found:
        one["metadata"].setdefault("labels", {})["app.kubernetes.io/name"] = label
    return found


def entry(**keys: Any) -> Cluster:
    return Cluster.model_validate({**SHIPPED, **UNNAMED, **keys})


def by_kind(found: list[Json]) -> dict[str, list[Json]]:
    kinds: dict[str, list[Json]] = {}
    for one in found:
        kinds.setdefault(one["kind"], []).append(one)
    return kinds


def request(**values: Any) -> PodRequest:
    model = ModelEntry(name="a/model", gpus=1)
    return PodRequest(
        **{
            "name": "grace-x", "run": "r", "rule": "inference", "model": "m", "replication": 0,
            "command": ["true"], "placement": placement_for(model, "a100"), "cores": 1,
            "mem_mb": 100, **values,
        }  # type: ignore[arg-type]
    )  # fmt: skip


def pod(cluster: Cluster, **values: Any) -> Json:
    job = job_manifest(request(**values), cluster)
    kubernetes_validate.validate(copy.deepcopy(job), "1.30", strict=True)
    assert problems(job) == []
    found: Json = job["spec"]["template"]["spec"]
    return found


# --- An instance ----------------------------------------------------------------------------------


def test_two_people_make_nothing_of_the_same_name() -> None:
    made = {}
    for person in ("anna", "ben"):
        cluster = entry(instance=person)
        every = [
            *as_entry.applied(objects("base"), cluster),
            *(as_entry.adapted(one, cluster) for one in objects("jobs")),
            job_manifest(request(name=cluster.own("grace-x")), cluster),
        ]
        for one in every:
            assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == person
        made[person] = {(one["kind"], one["metadata"]["name"]) for one in every}
        assert all(name.startswith(f"{person}-grace") for _, name in made[person])
        # Namespace and quota are of all who share it.
        assert not {kind for kind, _ in made[person]} & {"Namespace", "ResourceQuota"}
    assert not made["anna"] & made["ben"]


def test_what_belongs_together_still_does_under_an_instance() -> None:
    cluster = entry(instance="anna")
    kinds = by_kind(as_entry.applied(objects("base"), cluster))
    (account,), (role,), (binding,) = (
        kinds[kind] for kind in ("ServiceAccount", "Role", "RoleBinding")
    )
    assert binding["roleRef"]["name"] == role["metadata"]["name"] == "anna-grace-controller"
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    (named,) = (rule for rule in role["rules"] if "resourceNames" in rule)
    assert named["resourceNames"] == [cluster.own(RUN_SECRET)] == ["anna-grace-run"]
    claims = {one["metadata"]["name"] for one in kinds["PersistentVolumeClaim"]}
    assert claims == {volume.claim for volume in cluster.volumes.values()}
    jobs = {
        component: manifest([as_entry.adapted(one, cluster) for one in objects("jobs")], component)
        for component in ("controller", "prefetch", "desk")
    }
    controller = jobs["controller"]["spec"]["template"]
    assert controller["spec"]["serviceAccountName"] == "anna-grace-controller"
    assert controller["metadata"]["labels"]["app.kubernetes.io/instance"] == "anna"
    (source,) = controller["spec"]["containers"][0]["envFrom"]
    assert source["secretRef"]["name"] == "anna-grace-environment"
    text = yaml.safe_dump(list(jobs.values()))
    used = {claim for claim in claims if f"claimName: {claim}\n" in text}
    assert used == {"anna-grace-project", "anna-grace-weights"}
    assert "name: anna-grace-hf-token" in text
    assert cluster.hf_token is not None
    assert cluster.hf_token.name == "anna-grace-hf-token"


def test_without_an_instance_names_are_as_they_were() -> None:
    assert as_entry.applied(objects("base"), entry()) == objects("base")
    for one in objects("jobs"):
        assert as_entry.adapted(one, entry()) == one


def test_the_commands_and_snakemake_speak_of_the_same_objects(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "workflow/kubernetes/overlays/nrp").mkdir(parents=True)
    (tmp_path / "config/config.yaml").write_text("cluster: nrp\n")
    clusters = tmp_path / "config/clusters.yaml"
    clusters.write_text("nrp: {instance: anna, start_patience_s: 9.5, hf_token: {name: lab}}\n")
    found = shell_settings.cluster(tmp_path)
    assert (found["INSTANCE"], found["START_PATIENCE_S"]) == ("anna", "10")
    assert found["TOKEN_SECRET"] == "lab"
    clusters.write_text("nrp: {instance: An na}\n")
    with pytest.raises(ConfigError, match=r"`nrp\.instance`: 'An na' cannot begin names"):
        shell_settings.cluster(tmp_path)


# --- Things that exist ----------------------------------------------------------------------------


def test_existing_claims_secrets_and_accounts_are_used_and_not_made() -> None:
    volumes = {**UNNAMED["volumes"]}
    volumes["project"] = {
        "claim": "lab-data", "sub_path": "anna/grace", "mount": "/grace", "purpose": "project",
    }  # fmt: skip
    cluster = entry(
        instance="anna", volumes=volumes, hf_token={"name": "lab-token", "key": "token"},
        environment_secret="lab-keys", controller_account="lab-runner",
    )  # fmt: skip
    kinds = by_kind(as_entry.applied(objects("base"), cluster))
    assert set(kinds) == {"PersistentVolumeClaim"}
    claims = {one["metadata"]["name"] for one in kinds["PersistentVolumeClaim"]}
    assert claims == {"anna-grace-weights", "anna-grace-journal"}
    adapted = {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: as_entry.adapted(one, cluster)
        for one in objects("jobs")
    }
    spec = adapted["prefetch"]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    (token,) = (one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one)
    assert (token["name"], token["key"]) == ("lab-token", "token")
    controller = adapted["controller"]["spec"]["template"]["spec"]
    assert controller["serviceAccountName"] == "lab-runner"
    assert controller["containers"][0]["envFrom"][0]["secretRef"]["name"] == "lab-keys"
    for one in (spec, controller, adapted["desk"]["spec"], pod(cluster)):
        mounts = {mount["name"]: mount for mount in one["containers"][0]["volumeMounts"]}
        assert mounts["project"]["subPath"] == "anna/grace"
        volume = next(volume for volume in one["volumes"] if volume["name"] == "project")
        assert volume["persistentVolumeClaim"]["claimName"] == "lab-data"


def test_an_administrator_is_told_the_rights_of_the_account() -> None:
    cluster = entry(instance="anna", controller_account="lab-runner")
    found = {one["kind"]: one for one in as_entry.rights(objects("base"), cluster)}
    assert set(found) == {"ServiceAccount", "Role", "RoleBinding"}
    assert found["RoleBinding"]["subjects"][0]["name"] == "lab-runner"
    assert found["ServiceAccount"]["metadata"]["name"] == "lab-runner"
    assert found["RoleBinding"]["roleRef"]["name"] == found["Role"]["metadata"]["name"]


def test_a_folder_of_a_claim_is_below_it() -> None:
    for wrong in ("/abs", "a/../b", "", "a b"):
        volumes = {"project": {"mount": "/grace", "purpose": "project", "sub_path": wrong}}
        with pytest.raises(ValueError, match="sub_path"):
            entry(volumes=volumes)


# --- Fields of the pod ----------------------------------------------------------------------------


def test_pull_secrets_are_of_the_cluster_and_of_an_image() -> None:
    cluster = entry(
        image_pull_secrets={"default": ["lab"], "inference": ["private"]},
        images={"default": "a:1", "inference": "b:1"},
    )
    assert pod(cluster)["imagePullSecrets"] == [{"name": "lab"}, {"name": "private"}]
    assert pod(cluster, rule="report", placement=None)["imagePullSecrets"] == [{"name": "lab"}]
    for one in objects("jobs"):
        made = as_entry.adapted(one, cluster)["spec"]
        spec = made["template"]["spec"] if "template" in made else made
        assert spec["imagePullSecrets"] == [{"name": "lab"}]


def test_a_clusters_own_fields_reach_every_pod_and_a_tags_labels_hold_as_well() -> None:
    zone = {"key": "zone", "operator": "In", "values": ["here"]}
    disk = {"key": "disk", "operator": "Exists"}
    terms = [{"matchExpressions": [zone]}, {"matchExpressions": [disk]}]
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
        }
    }
    cluster = entry(
        affinity=affinity, annotations={"example.org/team": "lab"}, runtime_class="plain",
        tolerations=[{"key": "lab", "effect": "NoSchedule"}],
        gpus={**SHIPPED["gpus"], "fast": {
            "memory_gib": 80, "compute_capability": 9, "runtime_class": "nvidia",
            "labels": {"nvidia.com/gpu.product": ["H100"]}, "tolerations": [],
        }},
    )  # fmt: skip
    fast = pod(cluster, placement=placement_for(ModelEntry(name="a/m", gpus=1), "fast"))
    product = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["H100"]}
    required = fast["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [
        {"matchExpressions": [zone, product]}, {"matchExpressions": [disk, product]},
    ]  # fmt: skip
    assert (fast["runtimeClassName"], [one["key"] for one in fast["tolerations"]]) == (
        "nvidia", ["lab"],
    )  # fmt: skip
    plain = pod(cluster, rule="report", placement=None)
    assert (plain["affinity"], plain["runtimeClassName"]) == (affinity, "plain")
    job = job_manifest(request(annotations={"grace/makes": "x:y"}), cluster)
    assert job["spec"]["template"]["metadata"]["annotations"] == {
        "example.org/team": "lab", "grace/makes": "x:y",
    }  # fmt: skip
    for one in objects("jobs"):
        made = as_entry.adapted(one, cluster)
        whole = made["spec"].get("template", made)
        assert whole["metadata"]["annotations"]["example.org/team"] == "lab"
        assert whole["spec"]["affinity"] == affinity


@pytest.mark.parametrize("tag", [*NRP.gpus])
def test_every_tag_tolerates_the_taint_of_gpu_operators(tag: str) -> None:
    placement = placement_for(ModelEntry(name="a/model", gpus=1), tag)
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod(
        NRP, placement=placement
    )["tolerations"]
    assert "tolerations" not in pod(NRP, placement=None)


def test_an_a100_is_one_with_80_gb_and_a40s_come_with_a6000s() -> None:
    assert set(NRP.gpus["a100"].labels["nvidia.com/gpu.product"]) == {
        "NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe",
    }  # fmt: skip
    assert NRP.gpus["a40"].resource == "nvidia.com/a40"
    # RTX 3090, L40, A6000 or A40, V100: the plan's order.
    assert [*NRP.gpus][:6] == ["a100", "rtx3090", "l40", "a6000", "a40", "v100"]


def test_a_cold_pull_of_15_gb_has_the_time() -> None:
    """10 minutes for 5 GB were reported on NRP, so 30 for 15."""
    assert NRP.start_patience_s > 30 * 60


# --- Keys -----------------------------------------------------------------------------------------


def test_a_pod_gets_the_keys_of_the_model_that_it_asks_alone() -> None:
    secret = RunSecret(
        None,  # type: ignore[arg-type]
        "grace-run", run="r", labels={}, keys={"HF_TOKEN": "t"}, storage={"BUCKET_KEY": "b"},
        reading={"READER_KEY": "r"}, own_keys={"one": {"ONE": "1"}, "two": {"TWO": "2"}},
    )  # fmt: skip
    assert set(secret.variables("inference", "one")) == {"HF_TOKEN", "ONE", "BUCKET_KEY"}
    assert set(secret.variables("inference", "two")) == {"HF_TOKEN", "TWO", "BUCKET_KEY"}
    assert set(secret.variables("inference", "local")) == {"HF_TOKEN", "BUCKET_KEY"}
    assert set(secret.variables("tables", "one")) == {"READER_KEY", "BUCKET_KEY"}
    assert set(secret.variables("report", None)) == {"BUCKET_KEY"}
