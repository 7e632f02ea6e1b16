"""`snakemake inspect_logs` after runs that failed and that did not."""

from __future__ import annotations

import pytest
from workflow_project import Project

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
