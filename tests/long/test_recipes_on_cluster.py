"""A recipe in pods, on the stand-in for a cluster: which pods, in which order, what they leave."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from kube_project import KubeProject, Noting, sent_as_planned
from recipe_runs import add_recipe
from workflow_project import Project

pytestmark = pytest.mark.long
CONFIG = ("models=[base, demo.dpo-1]", "studies=[study1]", "experiments=[exp2]")
MADE = ("results/training/demo/seed-1/dpo/README.md", "results/demo.dpo-1/replication-0/plan.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with Noting() as cluster:
        project = KubeProject.of_grace(cluster, tmp_path_factory.mktemp("kube"))
        add_recipe(Project(project.folder))
        status, output = project.snakemake(*MADE, config=CONFIG)
        assert status == 0, output
        yield SimpleNamespace(project=project, cluster=cluster, output=output)


def test_steps_that_share_a_server_share_a_pod_and_each_training_has_its_own(finished):
    rules = [run.labels["grace/rule"] for run in finished.cluster.runs]
    order = ["training_data", "sample", "select", "sft", "training_pairs", "pairs", "dpo"]
    assert [rule for rule in rules if rule in order] == order
    # A card has costs and rates in it, which follow the evaluations.
    assert set(rules) - set(order) == {
        "evaluate", "compare", "training_costs", "model_card", "inference",
    }  # fmt: skip
    seeds = {run.labels["grace/rule"]: run.labels.get("grace/training-seed")
             for run in finished.cluster.runs}  # fmt: skip
    assert (seeds["dpo"], seeds["training_data"]) == ("1", None)
    assert all(run.labels["grace/recipe"] == "demo" for run in finished.cluster.runs
               if run.labels["grace/rule"] != "inference")  # fmt: skip


def test_pods_are_those_of_the_policys_table(finished):
    settings = {"models": ["base", "demo.dpo-1"], "studies": ["study1"], "experiments": ["exp2"],
                "replications": 1, "limit": 2, "cluster": "standin"}  # fmt: skip
    own = ("training_data", "sample", "select", "sft", "training_pairs", "pairs", "dpo")
    sent = [job for job in finished.cluster.sent
            if job["metadata"]["labels"]["grace/rule"] in own]  # fmt: skip
    sent_as_planned(sent, finished.project, settings)


def test_the_adapters_and_what_they_took_lie_in_the_project(finished):
    folder = finished.project.folder / "results/training/demo"
    assert (folder / "seed-1/dpo/adapter_model.safetensors").exists()
    costs = json.loads((folder / "costs.json").read_text(encoding="utf-8"))
    taken = {row["step"] for row in costs["steps"] if row["tries"]}
    evaluated = {f"evaluate {name}" for name in ("base", "base-few-shot", "dpo-1")}
    assert taken == evaluated | {"answers", "judge", "sft", "candidates", "judge_pairs", "dpo"}
    assert finished.project.leftovers() == []


def test_a_finished_recipe_has_nothing_to_do_here_or_there(finished):
    status, output = finished.project.snakemake("-n", *MADE, config=CONFIG)
    assert status == 0
    assert "Nothing to be done" in output
