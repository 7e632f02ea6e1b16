"""`snakemake job_logs` after runs that failed and that did not."""

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
    report = project.run("job_logs", "--config", *RECORDS)
    assert "1 logs of jobs that failed:" in report
    assert "== results/logs/pico/replication-0/study1_exp2.log" in report
    assert "cannot be loaded" in report

    # A run of another target does not change that.
    project.run("results/pico/replication-0/plan.json", "--config", *RECORDS, "--forceall")
    report = project.run("job_logs", "--config", *RECORDS)
    assert "1 logs of jobs that failed in an earlier run" in report
    assert "== results/logs/pico/replication-0/study1_exp2.log" in report
    assert "No job failed" not in report

    weights.write_bytes(whole)
    project.run(goal, "--config", *RECORDS)
    report = project.run("job_logs", "--config", *RECORDS)
    assert "No job failed. The last logs:" in report
    assert "== results/logs/pico/replication-0/study1_exp2.log" in report
    # And it repeats nothing of its own.
    for name in ("job_logs", "inspect_logs"):
        again = project.run(name, "--config", *RECORDS)
        assert "_logs.log" not in again.partition("The last logs:")[2].partition("Finished")[0]


def report_on(folder: Path) -> str:
    """What the script says of a folder, without a run of Snakemake."""
    inspect = runpy.run_path(str(ROOT / "scripts" / "job_logs.py"))["inspect"]
    return "\n".join(inspect(folder / "results/logs", folder / ".snakemake"))


def test_results_without_a_record_of_their_run(tmp_path):
    logs = tmp_path / "results/logs"
    logs.mkdir(parents=True)
    (logs / "a.log").write_text("the last line\n")
    report = report_on(tmp_path)
    assert "There is no record of a run in this folder" in report
    assert "No job failed" not in report
    assert "the last line" in report


def test_a_run_on_a_cluster_whose_records_were_fetched(tmp_path):
    state = tmp_path / ".snakemake"
    pod = state / "auxiliary/kubernetes-logs/inference.log"
    pod.parent.mkdir(parents=True)
    pod.write_text("cannot be loaded\n")
    (state / "log").mkdir()
    (state / "log/2026-01-01T000000.snakemake.log").write_text(
        "Job stats:\njob count\n"
        "[Thu Jan  1 00:00:00 2026]\n"
        "    message: Error in group 5\n"
        f"    log: /grace/.snakemake/auxiliary/kubernetes-logs/inference.log {CHECK}\n"
        "    jobs:\n"
        "        rule score:\n"
        "            jobid: 7\n"
        "            output: results/exp2.json\n"
        f"            log: results/logs/exp2.log {CHECK}\n"
    )
    report = report_on(tmp_path)
    assert "The last run, by" in report
    assert "2 logs of jobs that failed:" in report
    assert "cannot be loaded" in report
    assert "results/logs/exp2.log: no such file here" in report


CHECK = "(check log file(s) for error details)"


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Writes the record of a run: the jobs that failed in it and the rules that finished."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake/log").mkdir(parents=True)
    days = iter(range(1, 10))

    def write(*parts: str) -> None:
        path = tmp_path / f".snakemake/log/2026-01-0{next(days)}T000000.snakemake.log"
        path.write_text("\n".join(["Job stats:", "job  count", *parts, ""]))

    return write


def failed_job(rule: str, jobid: int = 3, output: str | None = "made") -> str:
    log = Path(f"results/logs/{rule}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{rule} went wrong\n")
    return "\n".join(
        [
            "[Thu Jan  1 00:00:00 2026]",
            f"Error in rule {rule}:",
            f"    jobid: {jobid}",
            *([f"    output: {output}"] if output else []),
            f"    log: {log} {CHECK}",
            f"Logfile {log}:",
            # The log's own words, such as those of the Snakemake in a pod.
            "=" * 40,
            *("SNAKEMAKE", "=========", "Error in rule inner:"),
            f"    log: /etc/passwd {CHECK}",
            f"Finished jobid: {jobid} (Rule: {rule})",
            "=" * 40,
        ]
    )


def finished_job(rule: str, jobid: int = 3) -> str:
    return f"[Thu Jan  1 00:00:00 2026]\nFinished jobid: {jobid} (Rule: {rule})"


def test_a_failure_is_shown_until_its_outputs_are_made(tmp_path, records):
    records(failed_job("score"))
    records(finished_job("forecast"))
    report = report_on(tmp_path)
    assert "1 logs of jobs that failed in an earlier run" in report
    assert "score went wrong" in report
    assert "passwd" not in report
    Path("made").touch()
    assert "No job failed" in report_on(tmp_path)


def test_a_failure_without_outputs_is_shown_until_its_rule_finishes(tmp_path, records):
    records(failed_job("verify", output=None))
    records(finished_job("forecast"))
    assert "verify went wrong" in report_on(tmp_path)
    records(finished_job("verify"))
    assert "No job failed" in report_on(tmp_path)


def test_a_job_that_finished_at_the_next_try_did_not_fail(tmp_path, records):
    records(failed_job("score", output="s3://bucket/made"), finished_job("score"))
    assert "No job failed" in report_on(tmp_path)


def test_a_quiet_run_that_failed_is_not_said_to_be_whole(tmp_path, records):
    records("Exiting because a job execution failed. Look above for error messages")
    report = report_on(tmp_path)
    assert "No job failed" not in report
    assert "A job failed in it" in report
