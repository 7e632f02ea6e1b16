"""`snakemake inspect_logs` after runs that failed and that did not."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from workflow_project import ROOT, Project

RECORDS = ("studies=[study1]", "experiments=[exp2]", "replications=1", "limit=2")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project.copied_to(tmp_path_factory.mktemp("logs") / "project")


def test_logs_of_what_failed_then_of_what_ended_last(project):
    goal = "results/pico/replication-0/study1_exp2.json"
    weights = project.folder / "resources/models/pico/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"no weights")
    failed = project.snakemake(goal, "--config", *RECORDS)
    assert failed.returncode != 0
    told = project.run("inspect_logs", "--config", *RECORDS)
    assert "1 logs of jobs that failed:" in told
    assert "== results/logs/pico/replication-0/study1_exp2.log" in told
    assert "cannot be loaded" in told

    weights.write_bytes(whole)
    project.run(goal, "--config", *RECORDS)
    told = project.run("inspect_logs", "--config", *RECORDS)
    assert "No job failed. The last logs:" in told
    assert "== results/logs/pico/replication-0/study1_exp2.log" in told
    # And it repeats nothing of its own.
    again = project.run("inspect_logs", "--config", *RECORDS)
    assert "inspect_logs.log" not in again.partition("The last logs:")[2].partition("Finished")[0]


def told_by(folder: Path) -> str:
    """What the script says of a folder, without a run of Snakemake."""
    inspect = runpy.run_path(str(ROOT / "scripts" / "inspect_logs.py"))["inspect"]
    return "\n".join(inspect(folder / "results/logs", folder / ".snakemake"))


def test_results_without_a_record_of_their_run(tmp_path):
    logs = tmp_path / "results/logs"
    logs.mkdir(parents=True)
    (logs / "a.log").write_text("the last line\n")
    told = told_by(tmp_path)
    assert "There is no record of a run in this folder" in told
    assert "No job failed" not in told
    assert "the last line" in told


def test_a_run_on_a_cluster_whose_records_were_fetched(tmp_path):
    state = tmp_path / ".snakemake"
    pod = state / "auxiliary/kubernetes-logs/inference.log"
    pod.parent.mkdir(parents=True)
    pod.write_text("cannot be loaded\n")
    (state / "log").mkdir()
    (state / "log/2026-01-01T000000.snakemake.log").write_text(
        "Job stats:\njob count\n"
        "    log: /grace/.snakemake/auxiliary/kubernetes-logs/inference.log"
        " (check log file(s) for error details)\n"
    )
    told = told_by(tmp_path)
    assert "The last run, by" in told
    assert "1 logs of jobs that failed:" in told
    assert "cannot be loaded" in told
