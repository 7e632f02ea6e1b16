"""kill -9 in the middle of a run, then the same command again: only what is missing is asked.

Every kill comes at an event (so many answers in the journal), not at a time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from fake_openai import FakeOpenAI
from kills import (
    CountingApi,
    Dam,
    Started,
    answers_by_session,
    journaled,
    marks_in_journal,
    outputs,
    remote_model,
)
from stub_environment import stub_environment
from waiting import PATIENCE_S, wait_until
from workflow_project import Project

from grace.serving.processes import running

COMMON = ("replications=1", "on_invalid=warn", "studies=[study2]", "limit=12")
REMOTE = (
    "results/remote/replication-0/study2_exp1.json",
    "results/remote/replication-0/study2_exp2.json",
    "--config", "models=[remote]", "requests={concurrency: 2}", *COMMON,
)  # fmt: skip
#: Without the tokeniser of experiment 2, which takes most of a job's time.
REMOTE_1 = (
    "results/remote/replication-0/study2_exp1.json", "--config", "models=[remote]",
    "requests={concurrency: 2}", "experiments=[exp1]", *COMMON,
)  # fmt: skip
PICO = (
    "results/pico/replication-0/study2_exp1.json", "results/pico/replication-0/study2_exp2.json",
    "--config", *COMMON,
)  # fmt: skip


@contextmanager
def remote(project: Project, api: CountingApi, **entry: object) -> Iterator[None]:
    with closing(FakeOpenAI(api)) as server:
        remote_model(project, server.url, **entry)
        yield


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Outputs of runs that no one killed, by their arguments."""
    found = {}
    for arguments, entry in ((REMOTE, {}), (REMOTE_1, {"tokenizer": None}), (PICO, {})):
        project = Project.copied_to(tmp_path_factory.mktemp("whole") / "project")
        with remote(project, CountingApi(), **entry):
            project.run(*arguments)
        found[arguments] = outputs(project)
        assert found[arguments]
    return found


def kill_job(run: Started) -> None:
    assert run.kill_a_job()


KILLS = {
    "a job": kill_job,
    "Snakemake alone": Started.kill_snakemake,
    "everything": Started.kill_everything,
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_answers_of_an_endpoint_outlive_a_kill(tmp_path, kill, uninterrupted):
    project = Project.copied_to(tmp_path / "project")
    dam = Dam(after=5)
    api = CountingApi(gate=dam)
    arguments, entry = (REMOTE, {}) if kill is kill_job else (REMOTE_1, {"tokenizer": None})
    with remote(project, api, **entry):
        run = Started(project, *arguments)
        wait_until(
            lambda: len(marks_in_journal(project)) == 5 or not run.running(),
            PATIENCE_S,
            "five answers",
        )
        kill(run)
        known = marks_in_journal(project)
        assert len(known) == 5, run.output()
        dam.open()
        shown = project.run(*arguments)
    repeated = api.asked_again()
    assert not repeated & known, "what the journal held was asked again"
    assert len(repeated) <= 2, "more than what was in flight was asked again"
    # Experiment 2 asks for its null context, too.
    assert len(api.asked) == (12 + 12 + 1 if kill is kill_job else 12)
    assert outputs(project) == uninterrupted[arguments]
    if kill is not kill_job:  # then Snakemake could not put its lock away
        assert "The last run was killed: its lock on the folder is removed" in shown


def test_answers_of_a_model_in_process_outlive_a_kill(tmp_path, uninterrupted):
    project = Project.copied_to(tmp_path / "project")
    run = Started(project, *PICO)
    wait_until(lambda: counted(project) >= 3 or not run.running(), PATIENCE_S, "three answers")
    run.kill_everything()
    known = journaled(project)
    project.run(*PICO)
    later = journaled(project)
    assert {key: later[key] for key in known} == known, "an answer was lost or changed"
    assert outputs(project) == uninterrupted[PICO]
    jobs = [answers_by_session(project, "pico", f"study2_{exp}") for exp in ("exp1", "exp2")]
    # With the null context of experiment 2.
    assert [sum(counts) for counts in jobs] == [12, 12 + 1], "every answer was given once"


def counted(project: Project) -> int:
    return sum(value["kind"] != "session" for value in journaled(project).values())


def until_three_answers(project: Project, run: Started) -> None:
    wait_until(
        lambda: len(marks_in_journal(project)) == 3 or not run.running(),
        PATIENCE_S,
        "three answers",
    )


def test_a_job_that_outlived_its_snakemake_is_ended_by_the_next_run(tmp_path):
    project = Project.copied_to(tmp_path / "project")
    dam = Dam(after=3)
    with remote(project, CountingApi(gate=dam), tokenizer=None):
        run = Started(project, *REMOTE_1)
        until_three_answers(project, run)
        (job,) = run.jobs()
        run.kill_snakemake()
        assert running(job), "it goes on alone, and what it is answered is kept"
        second = Started(project, *REMOTE_1)
        wait_until(lambda: not running(job), PATIENCE_S, "the old job ends")
        dam.open()
        assert second.process.wait(PATIENCE_S) == 0, second.output()
    assert f"what it had left running is ended (process {job.pid})" in second.output()


def test_a_second_run_is_reported_who_holds_the_folder_and_nothing_of_unlocking(tmp_path):
    project = Project.copied_to(tmp_path / "project")
    dam = Dam(after=3)
    with remote(project, CountingApi(gate=dam), tokenizer=None):
        run = Started(project, *REMOTE_1)
        until_three_answers(project, run)
        second = project.snakemake(*REMOTE_1)
        assert second.returncode != 0
        assert "is in use, so this run has not begun" in second.stdout
        assert f"process {run.process.pid} on this machine, since 20" in second.stdout
        assert f": snakemake {REMOTE_1[0]} " in second.stdout
        assert "unlock" not in second.stdout
        assert run.running(), run.output()
        dam.open()
        assert run.process.wait(PATIENCE_S) == 0, run.output()


VLLM = (
    "results/pico/replication-0/study2_exp1.json", "--config", *COMMON, "engine=vllm",
    "serving={environment: stub}",
    "requests={concurrency: 2, backoff_s: 0.1, attempts: 3}",
)  # fmt: skip


def test_answers_outlive_their_server(tmp_path):
    """The first kill is fixed within the run, by the lease; after a second the run ends."""
    whole = Project.copied_to(tmp_path / "whole")
    stub_environment(whole)
    whole.run(*VLLM)

    project = Project.copied_to(tmp_path / "project")
    stub = stub_environment(project)

    def answered() -> set[int]:
        found = (value.get("answer", {}).get("usage", {}) for value in journaled(project).values())
        return {usage["mark"] for usage in found if "mark" in usage}

    def starts() -> list[int]:
        path = stub / "starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    asked_before = 0
    known = set()
    (stub / "dam").write_text("4")
    run = Started(project, *VLLM)
    for number in (1, 2):
        wait_until(
            lambda number=number: len(starts()) == number and len(answered()) == 4 * number,
            PATIENCE_S,
            f"{4 * number} answers",
        )
        known = answered()
        asked_before = len((stub / "asked").read_text().split())
        os.kill(starts()[-1], signal.SIGKILL)
        (stub / "dam").write_text(str(asked_before + 4))
    assert run.process.wait(PATIENCE_S) != 0
    assert "ended with exit code 137 while it was in use" in run.output()
    (stub / "dam").unlink()
    project.run(*VLLM)
    asked = [int(line) for line in (stub / "asked").read_text().split()]
    assert not known & set(asked[asked_before:]), "what the journal held was asked again"
    assert outputs(project) == outputs(whole)
