"""What a person sees of a real run on a terminal, and what the files keep of it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from workflow_project import Project

pytestmark = pytest.mark.long

TARGET = "results/pico/replication-0/validation.json"
ARGUMENTS = ("--config", "limit=2", "replications=1", "studies=[study2]", "results=results")


def typed(folder: Path, *arguments: str, columns: int = 80) -> tuple[int, str]:
    """Snakemake as typed on a terminal: its exit status and all that it wrote there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    process = subprocess.Popen(
        [Path(sys.executable).with_name("snakemake"), *arguments], cwd=folder,
        stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    written = bytearray()
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:  # how Linux says that no one holds the other end
        pass
    os.close(ours)
    return process.wait(), written.decode()


def plain(text: str) -> str:
    """Without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text).replace("\r", "")


def test_a_table_follows_a_run_whose_log_file_is_complete(tmp_path):
    project = Project.copied_to(tmp_path / "project")
    status, text = typed(project.folder, TARGET, *ARGUMENTS)
    shown = plain(text)
    assert status == 0, shown
    last = shown[shown.rindex("replication   plan") :]
    assert re.search(r"pico +0 +done +done +done +done\n", last)
    assert re.search(r"\d of 7 jobs done, \d:\d\d", shown)
    assert max(map(len, shown[shown.index("replication   plan") :].splitlines())) <= 80
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is back"
    assert " INFO " not in shown, "what jobs log is in their files"
    (log,) = (project.folder / ".snakemake/log").glob("*.log")
    kept = log.read_text(encoding="utf-8")
    assert kept.count("Finished jobid: ") == 7
    assert "7 of 7 steps (100%) done" in kept
    assert "Reason: Missing output files: results/pico/replication-0/plan.json" in kept
    for name in ("study2_exp1", "study2_exp2"):
        path = project.folder / f"results/logs/pico/replication-0/{name}.log"
        assert " INFO " in path.read_text(encoding="utf-8")


def test_lines_say_the_same_where_there_is_no_terminal_or_none_is_wanted(tmp_path, monkeypatch):
    project = Project.copied_to(tmp_path / "project")
    monkeypatch.setenv("GRACE_TERMINAL", "plain")
    status, text = typed(project.folder, TARGET, *ARGUMENTS, "--nocolor")
    assert status == 0, text
    assert "\x1b" not in text
    done = re.findall(r"^(\d) of 7 steps \(\d+%\) done: ", text, re.M)
    assert done == [str(number) for number in range(1, 8)]
    monkeypatch.setenv("GRACE_TERMINAL", "snakemake")
    piped = project.run(TARGET, *ARGUMENTS, "--forcerun", "validate")
    assert "Job stats:" in piped
    assert "Reason: Forced execution" in piped
