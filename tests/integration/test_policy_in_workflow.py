"""`snakemake policy`, `snakemake manifests`, and refusals before anything is submitted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess

import pytest
import yaml
from kube_project import KubeProject, Noting, sent_as_planned
from kube_standin import Cluster
from warm_python import warm
from workflow_project import Project

import grace.settings.project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project.copied_to(tmp_path_factory.mktemp("policy") / "project")
    # A budget that 20 replications of the largest model break, with the few trials that are here.
    project.edit("config/clusters.yaml", "max_gpu_hours: 250", "max_gpu_hours: 5")
    return project


def test_the_table_is_shown_and_logged(project):
    shown = project.run("policy", "--config", "models=[gemma-27b]", "gpus=[rtx3090]")
    assert "inference  gemma-27b  rtx3090" in shown
    log = (project.folder / "results/logs/policy.log").read_text()
    assert log in shown
    assert "GPU-hours" in log


def test_a_broken_rule_fails_the_target_and_says_what_to_do(project):
    done = project.snakemake("policy", "--config", "models=[llama-70b]", "replications=20")
    assert done.returncode == 1
    assert "BROKEN  GPU-hours" in done.stdout
    violation_text = "expected, but at most 5. To do: run fewer"
    assert done.stdout.count(violation_text) == 1
    assert done.stdout.count("BROKEN") == 1
    for noise in ("Traceback", "RuleException", "Nothing was submitted", "Error in rule"):
        assert noise not in done.stdout
    log = (project.folder / "results/logs/policy.log").read_text()
    assert log in done.stdout
    assert log.startswith("Cluster 'nrp'")
    assert log.count("BROKEN  GPU-hours") == 1


@pytest.mark.parametrize(
    ("line_up", "models", "replications", "tag"),
    [("a100-six", 6, 3, "a100"), ("rtx3090-seven", 7, 5, "rtx3090")],
)
def test_a_line_up_is_a_config_file(project, line_up, models, replications, tag):
    path = f"config/lineups/{line_up}.yaml"
    told = project.run("-n", "--configfile", path, "--config", "limit=4")
    counted = re.findall(r"^  \S+ +0-\d+ +(\d+) +\d+ +(\d+) +\d+$", told, re.M)
    assert len(counted) == models, told
    assert set(counted) == {(str(replications), str(2 * replications))}, told
    values = yaml.safe_load((project.folder / path).read_text())
    with contextlib.chdir(project.folder):
        found = grace.settings.project.Project(project.folder, values, environment={})
        placed = {model: found.placements[model][0] for model in found.config.models}
    assert found.config.results == f"results-{line_up}"
    assert len(placed) == models
    assert {one.tag for one in placed.values()} == {tag}
    owners = {"gemma-27b": 2, "llama-70b": 2, "gpt-oss-120b": 2} if tag == "a100" else {
        "gemma-27b": 4, "llama-70b": 8, "deepseek-r1-70b": 8,
    }  # fmt: skip
    assert {model: one.gpus for model, one in placed.items() if one.gpus > 1} == owners


@pytest.mark.parametrize("target", ["policy", "manifests"])
def test_a_model_that_fits_nowhere_is_reported_once(project, target):
    done = project.snakemake(target, "--config", "models=[gemma-27b]", "engine=transformers")
    assert done.returncode == 1
    assert done.stdout.count("model 'gemma-27b' fits none of the cluster's tags") == 1
    assert "RuleException" not in done.stdout


def test_manifests_that_cannot_be_are_not_written(project):
    done = project.snakemake("manifests", "--config", "models=[llama-70b]", "replications=20")
    assert done.returncode == 1
    assert done.stdout.count("expected, but at most 5") == 1
    away = project.snakemake("manifests", "--config", "results=/away")
    assert away.returncode == 1
    assert "'/away', but pods know the project's own" in away.stdout
    assert "RuleException" not in done.stdout + away.stdout
    assert not (project.folder / "results/manifests").exists()


def test_names_of_folders_are_quoted_for_the_shell(project):
    shown = project.run("manifests", "--config", "results='my results'")
    assert "kubectl apply -f 'my results/manifests/pico.yaml'" in shown
    assert (project.folder / "my results/manifests/pico.yaml").exists()


def test_a_misfit_stops_when_the_workflow_is_parsed(project):
    settings = ("models=[llama-70b]", "gpus=[v100]")
    project.edit("config/models.yaml", "v100: {gpus: 8, dtype: float16}", "v100: {gpus: 4}")
    done = project.snakemake("-n", "--config", *settings)
    assert done.returncode == 1
    assert "model 'llama-70b' fits none of the tags in `gpus`" in done.stdout
    project.edit("config/models.yaml", "v100: {gpus: 4}", "v100: {gpus: 4, dtype: float16}")
    done = project.snakemake("-n", "--config", *settings)
    assert "131.4 GiB of weights (70.55 billion x 2 bytes, float16)" in done.stdout
    assert "4 x 32 GiB x 0.9 = 115.2 GiB" in done.stdout
    assert "Traceback" not in done.stdout


def test_pods_of_an_indexed_job_make_what_a_run_makes(tmp_path):
    project = Project.copied_to(tmp_path / "project")
    project.tells_jobs()
    settings = (
        "--config", "limit=2", "replications=[0, 5]", "studies=[study2]", "results=out",
    )  # fmt: skip
    project.run("manifests", *settings)
    job = yaml.safe_load((project.folder / "out/manifests/pico.yaml").read_text())
    assert (job["spec"]["completionMode"], job["spec"]["completions"]) == ("Indexed", 2)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    path = os.pathsep.join([str(warm().command.parent), os.environ["PATH"]])
    pods = [
        subprocess.Popen(
            container["command"],
            cwd=project.folder,
            env={**os.environ, "PATH": path, "JOB_COMPLETION_INDEX": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    # Both at once, in one folder, as on a volume that they share.
    for pod in pods:
        output, _ = pod.communicate(timeout=600)
        assert pod.returncode == 0, output
    made = {folder.name for folder in (project.folder / "out/pico").iterdir()}
    assert made == {"replication-0", "replication-5"}

    left = {job.split()[0] for job in project.jobs(*settings)}
    assert left == {
        "tabulate", "structure", "probabilities", "validate", "merge", "reference",
        "fit", "analysis_study2", "trial_browser", "report",
    }  # fmt: skip


def test_nothing_reaches_a_cluster_whose_rules_would_be_broken(tmp_path):
    with Cluster() as cluster:
        project = KubeProject.of_grace(cluster, tmp_path, policy={"max_hours_per_pod": 0.01})
        status, output = project.snakemake()
        assert status == 1
        assert "Nothing was submitted: it would break the rules of the cluster 'standin'" in output
        assert "hours, grace-pico-0: 4.33 h, but at most 0.01 h. To do: set a lower" in output
        assert "Traceback" not in output
        assert [call for call in cluster.calls if call.method != "GET"] == []
        assert project.leftovers() == []


def test_pods_are_those_of_the_table(tmp_path):
    """Of several replications; those of all steps are in test_kubernetes_chain.py."""
    choice = {"replications": 2, "studies": ["study2"], "experiments": ["exp2"]}
    settings = {"limit": 2, "cluster": "standin", **choice}
    with Noting() as cluster:
        project = KubeProject.of_grace(cluster, tmp_path)
        status, output = project.snakemake(
            *(f"results/pico/replication-{number}/metadata.json" for number in range(2)),
            config=tuple(f"{key}={json.dumps(value)}" for key, value in choice.items()),
        )
        assert status == 0, output
    assert len(cluster.sent) == 2
    sent_as_planned(cluster.sent, project, settings)
