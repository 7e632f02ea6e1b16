"""The manifests of workflow/kubernetes: valid, and consistent with config/clusters.yaml."""

from __future__ import annotations

import copy
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from grace.cluster.plan import overlay, shell_settings
from grace.cluster.plan.pods import IGNORE_DISRUPTIONS
from grace.cluster.plan.settings import RUN_SECRET, load_clusters
from grace.errors import ConfigError

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
def test_disruptions_use_up_no_try_of_a_job(overlay):
    jobs = of_kind(overlay, "Job")
    assert set(jobs) >= {"grace-controller", "grace-prefetch"}
    for job in jobs.values():
        assert job["spec"]["podFailurePolicy"]["rules"] == [IGNORE_DISRUPTIONS]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_controller_has_the_time_to_end_a_call_that_is_under_way(overlay):
    controller = pods(overlay)["grace-controller"]
    assert controller["terminationGracePeriodSeconds"] > CLUSTERS[overlay].api_timeout_s


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
        if "resourceNames" not in rule
    }
    (named,) = (rule for rule in role["rules"] if "resourceNames" in rule)
    assert (named["resources"], named["verbs"]) == (["secrets"], ["delete"])
    assert named["resourceNames"] == [RUN_SECRET]
    assert allowed == {
        *(("jobs", verb) for verb in ("create", "list", "delete", "deletecollection")),
        ("pods", "list"),
        ("pods/log", "get"),
        ("secrets", "create"),
        ("events", "list"),
    }


def test_nrp_gets_nothing_that_its_portal_makes():
    assert not of_kind("nrp", "Namespace")
    assert not of_kind("nrp", "ResourceQuota")
    assert of_kind("local", "Namespace")


def test_a_component_is_started_under_a_name_with_snakemakes_arguments():
    objects = built("local")
    before = copy.deepcopy(objects)
    given = ["--config", "models=[a, b]", "it's", "$HOME", ""]
    made = overlay.manifest(objects, "controller", given, "mine")
    assert objects == before
    assert (made["kind"], made["metadata"]["name"]) == ("Job", "mine")
    (container,) = made["spec"]["template"]["spec"]["containers"]
    (value,) = [one["value"] for one in container["env"] if one["name"] == "GRACE_ARGS"]
    assert shlex.split(value) == given
    assert overlay.manifest(objects, "desk")["metadata"]["name"] == "grace-desk"
    with pytest.raises(ValueError, match="not enough values"):
        overlay.manifest(objects, "no such component")


def test_a_mistake_in_another_key_keeps_nobody_from_stopping_what_runs(tmp_path):
    """And what the config says is text to the shell, whatever it looks like."""
    for path, text in {
        "config/config.yaml": "clustr: [x]\ncluster: mine\nresults: [1]\n",
        "config/clusters.yaml": 'mine: {policy: nonsense, context: "it\'s $(touch made); `id`"}\n',
        "workflow/kubernetes/overlays/mine/kustomization.yaml": "",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    found = shell_settings.cluster(tmp_path)
    assert found["CONTEXT"] == "it's $(touch made); `id`"
    assert (found["NAMESPACE"], found["IMAGE"]) == ("default", "grace:latest")
    lines = "\n".join(shell_settings.lines(found))
    shown = subprocess.run(
        ["bash", "-c", f'{lines}\nprintf %s "$CONTEXT"'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == found["CONTEXT"]
    assert not (tmp_path / "made").exists()
    with pytest.raises(ConfigError, match="`results` must be a text"):
        shell_settings.results(tmp_path)
