"""The default run twice from scratch, and once with five kills: the same results, every bit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from kills import Started
from waiting import wait_until
from workflow_project import Project

from tools import compare_results

pytestmark = pytest.mark.long

#: Answers in the journal at which a run is killed, and how: in each kind of job, and in both
#: replications. The default run has some 8,400.
KILLS = ((100, "a job"), (700, "all"), (2000, "Snakemake"), (4000, "all"), (6500, "a job"))
RUN_S = 3600.0


def kept(project: Project) -> int:
    """Lines of the journal: answers, and few others."""
    time.sleep(0.5)
    files = (project.folder / ".grace/journal").glob("*.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in files)


def kill(run: Started, how: str) -> None:
    if how == "Snakemake":
        run.kill_snakemake()
    elif how == "all" or not run.kill_a_job(RUN_S):
        run.kill_everything()


def killed_and_resumed(project: Project) -> int:
    """A run that is killed and started again; how many kills found it running."""
    hits = 0
    for count, how in KILLS:
        run = Started(project)
        wait_until(
            lambda run=run, count=count: kept(project) >= count or not run.running(),
            RUN_S,
            f"{count} answers",
        )
        hits += run.running()
        if run.running():
            kill(run, how)
    last = Started(project)
    assert last.process.wait(RUN_S) == 0, last.output()[-3000:]
    return hits


def whole(folder: Path) -> Project:
    project = Project.copied_to(folder, whole=True)
    run = Started(project)
    assert run.process.wait(RUN_S) == 0, run.output()[-3000:]
    return project


def compared(one: Project, other: Project) -> list[str]:
    """What differs but for times; the pages, which say when what ran, are made from the rest."""
    folders = (one.folder / "results", other.folder / "results")
    found = compare_results.differences(*folders, {}, asked_anew=True)
    return [line for line in found if not line.startswith(("report.html: ", "trials.html: "))]


def test_two_runs_and_one_that_was_killed_have_the_same_results(tmp_path):
    first = whole(tmp_path / "first")
    second = whole(tmp_path / "second")
    assert compared(first, second) == []
    third = Project.copied_to(tmp_path / "third", whole=True)
    assert killed_and_resumed(third) == len(KILLS)
    assert compared(first, third) == []
