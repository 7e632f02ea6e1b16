"""Grace in real pods of a real Kubernetes: `make test-cluster`.

The commands are those that a researcher types, and the controller runs in the cluster with the
rights of its Role alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kube_checkout import (
    Checkout,
    computing,
    controllers,
    group,
    kubectl,
    listed,
    processes_of,
    volume,
)
from kube_words import minor
from waiting import wait_until

ROOT = Path(__file__).parents[2]
MINOR = minor()
PICO = {"name": "resources/models/pico", "engine": "transformers", "dtype": "float32"}
#: One model's records alone; what makes tables and the report is not what is tested.
RECORDS = "studies=[study1] experiments=[exp2] replications=1 limit=2"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Volumes, a checkout, and `make cluster-up`."""
    for name in ("project", "journal", "weights"):
        volume(name).mkdir()
        shutil.chown(volume(name), 1000, 1000)
    folder = tmp_path_factory.mktemp("checkout") / "grace"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    overlay = folder / "workflow/kubernetes/overlays/test"
    shutil.copytree(ROOT / "tests/cluster/overlay", overlay)
    jobs = overlay / "jobs/kustomization.yaml"
    tag = os.environ["GRACE_TEST_IMAGE"].rpartition(":")[2]
    patched = yaml.safe_load(jobs.read_text().replace("TAG", tag))
    if MINOR >= 26:  # it knows podFailurePolicy
        patched["patches"] = [
            one for one in patched["patches"] if "podFailurePolicy" not in one["patch"]
        ]
    jobs.write_text(yaml.safe_dump(patched))
    config = folder / "config/config.yaml"
    text = re.sub(r"(?m)^cluster:.*\n", "", config.read_text())
    config.write_text(f"{text}\ncluster: test\n")
    made = Checkout(folder)
    made.settings()
    identity = ("-c", "user.name=tester", "-c", "user.email=tester@example.org")
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "a checkout"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    made.make("cluster-up")
    return made


@pytest.fixture(autouse=True)
def nothing_left(checkout: Checkout) -> Iterator[None]:
    """Each test begins with the usual entry, and ends with nothing of its run in the namespace."""
    checkout.settings()
    yield
    left = [
        pod["metadata"]["name"] for pod in computing() if "deletionTimestamp" not in pod["metadata"]
    ]
    jobs = listed("jobs", "app.kubernetes.io/name=grace,!app.kubernetes.io/component")
    secrets = listed("secrets", "app.kubernetes.io/name=grace")
    kubectl("delete", "jobs,pods", "--all", "--wait")
    assert (left, jobs, secrets) == ([], [], [])


def running(name: str) -> list[dict]:
    return [pod for pod in group(name) if pod["status"]["phase"] == "Running"]


def uids(name: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in group(name)}


def metadata(results: str, model: str = "pico") -> Path:
    return volume("project") / results / model / "replication-0" / "metadata.json"


def target(results: str, model: str = "pico") -> str:
    return f"{results}/{model}/replication-0/metadata.json"


def test_from_a_checkout_to_a_report_and_back(checkout: Checkout) -> None:
    checkout.run("results", config="replications=2 limit=4")
    wait_until(lambda: running("inference"), 300, "a pod of a replication")
    report = checkout.make("cluster-status")
    assert "REPLICATION" in report
    assert "pico" in report
    (pod, *_) = running("inference")
    (container,) = pod["spec"]["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    log = checkout.succeeded()
    # One pod a replication for all that the model computes, one for its tables, one for the report.
    assert log.count(": inference.") == 2
    assert log.count(": tables.") == 2
    assert log.count(": report.") == 1
    assert "steps (100%) done" in checkout.make("cluster-status")

    checkout.make("cluster-fetch")
    results = checkout.folder / "results"
    assert (results / "report.html").stat().st_size > 10_000
    facts = json.loads((results / "pico/replication-0/metadata.json").read_text())
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=checkout.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert commit in json.dumps(facts)
    assert list(volume("journal").iterdir()), "the journal is on its volume"
    verified = subprocess.run(
        ["python", "-m", "grace.provenance.verify", "results"],
        cwd=checkout.folder,
        env={**os.environ, "PYTHONPATH": str(checkout.folder / "workflow/lib")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr

    checkout.run("results", config="replications=2 limit=4")
    assert "Nothing to be done" in checkout.succeeded()


def test_a_failing_rule_ends_neither_the_others_nor_unexplained(checkout: Checkout) -> None:
    broken = checkout.folder / "resources/models/broken"
    if not broken.exists():
        subprocess.run(["cp", "-r", checkout.folder / "resources/models/pico", broken], check=True)
        (broken / "model.safetensors").write_bytes(b"no weights")
    checkout.models(
        broken={**PICO, "name": "resources/models/broken", "max_model_len": 1024, "gpus": 0}
    )
    checkout.run(
        "results-rule",
        *(target("results-rule", "broken"), target("results-rule"), "--keep-going"),
        *("--retries", "1"),
        config=f"models=[broken,pico] {RECORDS}",
    )
    log = checkout.failed()
    assert "failed: " in log
    assert "The pod's last lines" in log
    assert "cannot be loaded" in log
    assert log.count(": inference.") == 3  # the broken one twice
    assert metadata("results-rule").exists()


def test_out_of_memory_is_reported_and_tried_with_more(checkout: Checkout) -> None:
    little = " ".join(f"{rule}:mem_mb=350" for rule in ("plan", "generate", "score", "collect"))
    checkout.run("results-oom", target("results-oom"), "--set-resources", little, config=RECORDS)
    log = checkout.succeeded()
    assert "OOMKilled" in log
    assert "Started again, try 2 of 3" in log
    assert metadata("results-oom").exists()


@pytest.mark.parametrize("kind", ["pod", "job"])
def test_what_somebody_deletes_is_started_again(checkout: Checkout, kind: str) -> None:
    results = f"results-{kind}"
    checkout.run(results, target(results), config=RECORDS)
    wait_until(lambda: running("inference"), 300, "a pod of a replication")
    (pod,) = running("inference")
    name = {"pod": pod["metadata"]["name"], "job": pod["metadata"]["labels"]["job-name"]}[kind]
    kubectl("delete", kind, name)
    if kind == "pod":
        # A Job of Kubernetes 1.20 replaces its pod by itself; a younger one fails, which is told.
        wait_until(lambda: uids("inference") - {pod["metadata"]["uid"]}, 300, "another pod")
    log = checkout.succeeded()
    assert kind == "pod" or "Started again, try 2 of 3" in log, log
    assert metadata(results).exists()


def test_gpus_that_are_not_to_be_had_make_way_for_the_next(checkout: Checkout) -> None:
    node = os.environ["GRACE_TEST_NODE"]
    kubectl("label", "node", node, "nvidia.com/gpu.product=NVIDIA-L40", "--overwrite")
    for path in ("capacity", "allocatable"):
        patch = [{"op": "add", "path": f"/status/{path}/nvidia.com~1gpu", "value": "2"}]
        kubectl(
            *("patch", "node", node, "--subresource=status", "--type=json"),
            *("--patch", json.dumps(patch)),
        )
    place = {"gpus": 1, "cpu": 1, "memory_mib": 2000}
    checkout.models(big={**PICO, "gpus": 1, "placements": {"a100": place, "l40": place}})
    checkout.settings(patience_s=10)
    checkout.run(
        "results-gpu",
        target("results-gpu", "big"),
        config=f"models=[big] gpus=[a100,l40] {RECORDS}",
    )
    log = checkout.failed()
    assert "Insufficient nvidia.com/a100" in log
    assert "1 × l40" in log
    # The real scheduler gave it the GPU; the device itself is not there, which the job says.
    assert "needs a GPU" in log or "GPU" in log.partition("The pod's last lines")[2]


def test_an_image_that_cannot_be_pulled_is_reported_in_the_kubelets_words(
    checkout: Checkout,
) -> None:
    images = {"default": os.environ["GRACE_TEST_IMAGE"], "inference": "localhost/absent:1"}
    # The kubelet of 1.20 takes up to a minute to let go of a pod that never started.
    checkout.settings(images=images, start_patience_s=15)
    checkout.run("results-image", target("results-image"), config=RECORDS)
    log = checkout.failed()
    assert "the pod did not start" in log
    assert "ImagePullBackOff" in log or "ErrImagePull" in log
    assert "localhost/absent:1" in log


def test_a_killed_controller_finds_its_pods_again(checkout: Checkout) -> None:
    checkout.run("results-kill", target("results-kill"), config=RECORDS)
    wait_until(lambda: running("inference"), 300, "a pod of a replication")
    (before,) = running("inference")
    # Held until there is another controller, however long that takes.
    held = processes_of(before)
    assert held
    for process in held:
        process.suspend()
    (controller,) = controllers()
    controller.kill()
    checkout.failed()
    assert [pod["metadata"]["uid"] for pod in computing()] == [before["metadata"]["uid"]]
    checkout.run("results-kill", target("results-kill"), config=RECORDS)
    wait_until(lambda: "adopted" in checkout.log(), 300, "its adoption")
    for process in held:
        process.resume()
    seen = set()

    def over() -> bool:
        seen.update(pod["metadata"]["uid"] for pod in computing())
        return metadata("results-kill").exists()

    wait_until(over, 900, "the results")
    checkout.succeeded()
    assert seen == {before["metadata"]["uid"]}


def test_down_ends_everything_and_keeps_the_volumes(checkout: Checkout) -> None:
    checkout.run("results-down", target("results-down"), config="replications=1 limit=300")
    wait_until(lambda: running("inference"), 300, "a pod of a replication")
    report = checkout.make("cluster-down")
    assert "Volumes stay" in report
    assert kubectl("get", "jobs,pods", "--output", "name") == ""
    assert "grace-project" in kubectl("get", "persistentvolumeclaims", "--output", "name")
    checkout.make("cluster-down", "--everything")
    kinds = "persistentvolumeclaims,serviceaccounts,roles,rolebindings,resourcequotas"
    assert listed(kinds, "app.kubernetes.io/name=grace") == []
    # It may hold more than ours.
    assert "namespace/grace" in kubectl("get", "namespaces", "--output", "name")
