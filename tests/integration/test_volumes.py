"""Volumes that are full, read-only or gone: a clear error, and what was answered stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fake_openai import FakeOpenAI
from kills import (
    CountingApi,
    Dam,
    Started,
    answers_by_session,
    journaled,
    mark_of,
    remote_model,
)
from waiting import PATIENCE_S, wait_until
from workflow_project import Project

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts volumes, which only root may")
COMMON = ("replications=1", "on_invalid=warn", "studies=[study2]", "limit=12")
PICO = ("results/pico/replication-0/study2_exp1.json", "--config", *COMMON)
REMOTE = (
    "results/remote/replication-0/study2_exp1.json", "--config", "models=[remote]",
    "requests={concurrency: 2}", "experiments=[exp1]", *COMMON,
)  # fmt: skip
Mount = Callable[..., None]


@pytest.fixture
def project(tmp_path) -> Project:
    return Project.copied_to(tmp_path / "project")


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts a volume in memory, or with `options` what they say; all go at the end."""
    mounted: list[Path] = []

    def run(folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", *options, folder], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"cannot mount here: {done.stderr}")
        mounted.append(folder)

    yield run
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", folder], capture_output=True)


def test_a_full_volume_costs_no_answer(project, mount):
    results = project.folder / "results"
    mount(results, "-t", "tmpfs", "-o", "size=36k", "tmpfs")
    full = project.snakemake(*PICO)
    assert full.returncode != 0
    assert "cannot be written (No space left on device)" in full.stdout
    assert "what the models have answered is in the journal" in full.stdout
    assert "a bug in Grace" not in full.stdout
    known = journaled(project)
    subprocess.run(["mount", "-o", "remount,size=4m", results], check=True)
    project.run(*PICO)
    assert journaled(project) == known, "nothing was asked again"
    assert answers_by_session(project, "pico", "study2_exp1") == [12]


@pytest.mark.parametrize("name", ["results", "journal_dir"])
def test_a_read_only_volume_stops_the_run_before_any_job(project, mount, name):
    volume = project.folder / "volume"
    mount(volume, "-t", "tmpfs", "-o", "ro", "tmpfs")
    folder = "volume/mine" if name == "results" else "results"
    target = f"{folder}/pico/replication-0/study2_exp1.json"
    done = project.snakemake(target, "--config", *COMMON, f"{name}=volume/mine")
    assert done.returncode != 0
    assert f"`{name}` is volume/mine" in done.stdout
    assert "cannot be written: its volume is read-only" in done.stdout
    assert "Traceback" not in done.stdout
    assert " steps (" not in done.stdout, "no job was begun"


def test_a_volume_that_vanishes_costs_no_answer_that_was_on_it(project, mount):
    disk, journal = project.folder / "disk", project.folder / ".grace"
    mount(disk, "-t", "tmpfs", "tmpfs")
    mount(journal, "--bind", str(disk))

    def marks() -> set[int]:
        values = journaled(project).values()
        return {mark for value in values if (mark := mark_of(value)) is not None}

    dam = Dam(after=5)
    api = CountingApi(gate=dam)
    with closing(FakeOpenAI(api)) as server:
        remote_model(project, server.url, tokenizer=None)
        run = Started(project, *REMOTE)
        wait_until(lambda: len(marks()) == 5 or not run.running(), PATIENCE_S, "five answers")
        known = marks()
        subprocess.run(["umount", "-l", journal], check=True)
        dam.open()
        assert run.process.wait(PATIENCE_S) != 0
        assert "its volume vanished during the run" in run.output()
        mount(journal, "--bind", str(disk))
        project.run(*REMOTE)
    again = {mark for mark, count in api.asked.items() if count > 1}
    assert len(known) == 5
    assert not again & known
