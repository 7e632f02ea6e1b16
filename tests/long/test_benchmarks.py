"""The scripts that measure run to their end on very little; `python -m bench` has tests of its own.

What docs quote is what they print. `bench.limits` is in test_workflow.py, which has its records.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from warm_python import warm

from bench import overhead

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"

pytestmark = pytest.mark.long


def output(module: str, *arguments: str, folder: Path) -> str:
    """What a module prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_journal_is_measured(tmp_path):
    sizes = ("--answers", "50", "--commits", "20", "--writers", "2", "--rounds", "1")
    printed = output(
        "bench.journal", *sizes, "open", "commits", "writers", "kills", folder=tmp_path
    )
    assert len(re.findall(r"(?m)^open, .*: \d+ bytes an answer, opened in [\d.]+ s", printed)) == 9
    assert len(re.findall(r"(?m)^commits, .*: [\d.]+ ms an answer", printed)) == 6
    assert "2 writers, lines: " in printed
    assert re.search(r"kill -9, lines: 4 kills, \d+ saved, 0 lost", printed)


@pytest.mark.skipif(
    os.geteuid() != 0
    or shutil.which("mkfs.ext4") is None
    or not Path("/dev/loop-control").exists(),
    reason="power cuts need root, mkfs.ext4 and loop devices",
)
def test_power_cuts_are_measured(tmp_path):
    printed = output("bench.journal", "--rounds", "1", "cuts", folder=tmp_path)
    assert re.search(r"power cut, lines: 1 cuts, \d+ saved, 0 lost, 0 corrupt files", printed)


def test_the_executor_is_measured(tmp_path):
    sizes = ("--jobs", "2", "--lasts", "1", "--pods", "1", "--work", "0.1")
    printed = output("bench.cluster", *sizes, folder=tmp_path)
    few, many = re.split(r"(?<=\})\n(?=\{)", printed.strip())
    assert json.loads(few)["pods"] == 1
    found = json.loads(many)
    assert (found["jobs"], found["left behind"]) == (2, 0)
    assert found["API calls"] > 4


def test_what_the_journal_and_the_records_cost_is_measured(tmp_path, monkeypatch, capsys):
    """What is left out is found in the sources, and a run does without it. One run is timed."""
    goals = [f"results/pico/replication-0/study1_{name}.json" for name in ("exp1", "exp2")]
    monkeypatch.setenv("PATH", f"{warm().command.parent}:{os.environ['PATH']}")
    run, ways = overhead.timed, []

    def timed(folder, arguments):
        ways.append(folder.name)
        if folder.name == "with":  # as any run of the tests
            return 2.0, 1.0
        _, cpu_s = run(folder, arguments)
        assert cpu_s > 0
        assert not list((folder / ".grace/journal").glob("*.jsonl"))
        assert not list(folder.rglob(".provenance"))
        return 4.0, 1.0

    monkeypatch.setattr(overhead, "timed", timed)
    settings = ("--config", "limit=2", "replications=1")
    monkeypatch.setattr(sys, "argv", ["bench", "--rounds", "1", "--", *goals, *settings])
    overhead.main()
    assert ways == ["with", "without"]
    assert capsys.readouterr().out.splitlines() == [
        "round 1, with: 2.0 s, CPU 1.0 s",
        "round 1, without: 4.0 s, CPU 1.0 s",
        "by the clock: with 2.0 s, without 4.0 s, -50.0 % more",
        "CPU time: with 1.0 s, without 1.0 s, 0.0 % more",
    ]
