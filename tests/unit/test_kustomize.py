"""The manifests of workflow/kubernetes: valid, and of one mind with config/clusters.yaml."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from grace.cluster.plan.settings import load_clusters

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "workflow" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
CLUSTERS = load_clusters(ROOT / "config" / "clusters.yaml")
VERSIONS = ("1.30", kubernetes_validate.latest_version())

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")


@cache
def built(overlay: str) -> list[dict]:
    """All objects of an overlay, those that it starts included."""
    found = []
    for folder in (KUBERNETES / "overlays" / overlay, KUBERNETES / "overlays" / overlay / "jobs"):
        done = subprocess.run(
            ["kubectl", "kustomize", folder], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found += list(yaml.safe_load_all(done.stdout))
    return found


def of_kind(overlay: str, kind: str) -> dict[str, dict]:
    return {found["metadata"]["name"]: found for found in built(overlay) if found["kind"] == kind}


def pods(overlay: str) -> dict[str, dict]:
    """Pod specs by the name of what makes them."""
    jobs = {name: job["spec"]["template"]["spec"] for name, job in of_kind(overlay, "Job").items()}
    return jobs | {name: pod["spec"] for name, pod in of_kind(overlay, "Pod").items()}


def test_every_overlay_is_a_cluster_of_the_config():
    assert set(OVERLAYS) == set(CLUSTERS)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_api_would_take_every_object(overlay, version):
    for found in built(overlay):
        kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_names_are_those_of_the_config(overlay):
    cluster = CLUSTERS[overlay]
    namespaced = [found for found in built(overlay) if found["kind"] != "Namespace"]
    assert {found["metadata"]["namespace"] for found in namespaced} == {cluster.namespace}
    assert {pod["containers"][0]["image"] for pod in pods(overlay).values()} == {
        cluster.images["default"]
    }
    claims = of_kind(overlay, "PersistentVolumeClaim")
    mounts = {volume.claim: volume.mount for volume in cluster.volumes.values()}
    assert set(mounts) == set(claims)
    for volume in cluster.volumes.values():
        assert claims[volume.claim]["spec"].get("storageClassName") == volume.storage_class
    for pod in pods(overlay).values():
        places = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
        for volume in pod["volumes"]:
            claim = volume["persistentVolumeClaim"]["claimName"]
            assert places[volume["name"]] == mounts[claim]
        assert pod["containers"][0]["workingDir"] == mounts["grace-project"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_token_comes_from_the_secret_of_the_config(overlay):
    (secret,) = yaml.safe_load_all((KUBERNETES / "base/hf-token.example.yaml").read_text())
    token = CLUSTERS[overlay].hf_token
    assert token is not None
    assert (secret["metadata"]["name"], [*secret["stringData"]]) == (token.name, [token.key])
    variables = pods(overlay)["grace-prefetch"]["containers"][0]["env"]
    (source,) = [v["valueFrom"]["secretKeyRef"] for v in variables if v["name"] == "HF_TOKEN"]
    assert (source["name"], source["key"]) == (token.name, token.key)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_that_clusters_forbid(overlay):
    assert not of_kind(overlay, "Secret"), "a template must not overwrite a token"
    for pod in pods(overlay).values():
        (container,) = pod["containers"]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert "sleep" not in str(container["command"]) + str(container.get("args"))
    tokens = {name for name, pod in pods(overlay).items() if pod["automountServiceAccountToken"]}
    assert tokens == {"grace-controller"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_any_user_may_run_them(overlay):
    """One that the image does not know has no home, and Snakemake asks for a name."""
    for pod in pods(overlay).values():
        variables = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
        assert (variables["HOME"], variables["USER"]) == ("/tmp", "grace")
    # git must read a commit that belongs to another user, wherever HOME is.
    assert "git config --system --add safe.directory" in (ROOT / "envs/Containerfile").read_text()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_controller_has_the_time_to_delete_its_jobs(overlay):
    controller = pods(overlay)["grace-controller"]
    assert controller["terminationGracePeriodSeconds"] > CLUSTERS[overlay].removal_s


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_controller_alone_gets_keys_of_endpoints(overlay):
    sources = {name: pod["containers"][0].get("envFrom") for name, pod in pods(overlay).items()}
    secret = {"secretRef": {"name": "grace-environment", "optional": True}}
    assert {name: found for name, found in sources.items() if found} == {
        "grace-controller": [secret]
    }


def test_the_quota_has_room_for_every_pod():
    cluster = CLUSTERS["local"]
    quota = of_kind("local", "ResourceQuota")["grace"]["spec"]["hard"]
    gpus = {name: int(n) for name, n in quota.items() if "nvidia.com" in name}
    assert set(gpus) == {f"requests.{gpu.resource}" for gpu in cluster.gpus.values()}
    models = yaml.safe_load((ROOT / "config/models.yaml").read_text()).values()
    largest = max(
        {**model, **model.get("placements", {}).get(tag, {})}.get("gpus", 1)
        for model in models
        for tag in cluster.gpus
    )
    assert min(gpus.values()) >= max(largest, cluster.peak_gpus or 0)


def test_the_controller_may_do_what_it_does_and_no_more():
    role = of_kind("nrp", "Role")["grace-controller"]
    allowed = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == {
        *(("jobs", verb) for verb in ("create", "list", "delete", "deletecollection")),
        ("pods", "list"),
        ("pods/log", "get"),
        *(("secrets", verb) for verb in ("create", "delete")),
    }


def test_nrp_gets_nothing_that_its_portal_makes():
    assert not of_kind("nrp", "Namespace")
    assert not of_kind("nrp", "ResourceQuota")
    assert of_kind("local", "Namespace")
