"""How busy GPUs were while a model answered, and how fast it did."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from grace.provenance.gpu_use import GpuSampler
from grace.provenance.metadata import Pace, _pace

ROOT = Path(__file__).parents[2]
#: Of two GPUs, the second one is a part of one (MIG), of which the driver tells less.
TWO = """#!/bin/sh
echo "$@" >>"$0.asked"
read -r n <"$0.count"
echo $((n + 1)) >"$0.count"
echo "0, $((n * 40)), $((1000 + n))"
echo "1, [N/A], 512"
"""


@pytest.fixture
def tool(tmp_path, monkeypatch) -> Path:
    """An nvidia-smi that says what a test writes."""
    path = tmp_path / "nvidia-smi"
    path.write_text(TWO)
    path.chmod(0o755)
    path.with_name("nvidia-smi.count").write_text("1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return path


def used(looks: int) -> GpuSampler:
    """After so many looks."""
    left = iter([False] * looks + [True])
    with GpuSampler(wait=lambda _: next(left)) as use:
        if use._thread is not None:
            use._thread.join()
    return use


def test_each_gpu_has_its_mean_and_its_most(tool):
    first, second = used(looks=2).facts()
    assert first == {"gpu": "0", "samples": 2, "busy_percent": 60.0, "memory_mib": 1002.0}
    assert second == {"gpu": "1", "samples": 2, "busy_percent": None, "memory_mib": 512.0}


def test_gpus_of_others_are_not_looked_at(tool, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert used(looks=1).facts() is not None
    assert "-i 1" in tool.with_name("nvidia-smi.asked").read_text()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert used(looks=1).facts() is None


@pytest.mark.parametrize("said", ["exit 9", "echo Failed to initialize NVML", "echo '0, 5'", ":"])
def test_a_driver_that_fails_costs_samples_alone(tool, said):
    tool.write_text(f"#!/bin/sh\n{said}\n")
    assert used(looks=2).facts() is None


def test_without_a_driver_nothing_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert used(looks=1).facts() is None


def test_what_the_journal_held_has_no_pace():
    timing = {"with_model_s": 90.0, "with_model_cpu_s": 60.0, "answers": 30}
    gpus = [{"gpu": "0", "samples": 9, "busy_percent": 71.0, "memory_mib": None}]
    found = _pace({"timing": timing, "gpu_use": gpus})
    assert found == Pace(answers=30, seconds=90.0, gpu_use=gpus)
    assert _pace({}) is None
    assert _pace({"timing": {"with_model_s": 1.0, "with_model_cpu_s": 1.0}}) is None
    assert _pace({"timing": timing | {"answers": 0}}) is None


def shown(tmp_path: Path, *paces: object) -> list[list[str]]:
    """The rows of the report's table: its head and a row for each experiment."""
    runs = {f"study{n}_exp1": {"pace": pace} for n, pace in enumerate(paces)}
    records = [{"model_key": "m", "replication_index": 0, "runs": runs}]
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records))
    lib = ROOT / "scripts" / "lib"
    sources = "".join(f'source("{lib}/{name}.R");' for name in ("common", "html", "report", "pace"))
    code = (
        f"{sources} show_table <- function(rows, caption) write.table(rows, sep = '|',"
        " quote = FALSE, row.names = FALSE);"
        f"show_pace(jsonlite::read_json('{path}'))"
    )
    done = subprocess.run(["Rscript", "--vanilla", "-e", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.split("|") for line in done.stdout.splitlines()]


def test_the_report_shows_the_pace(tmp_path):
    busy = [
        {"gpu": "0", "samples": 9, "busy_percent": 80.0, "memory_mib": 40960.0},
        {"gpu": "1", "samples": 9, "busy_percent": 60.0, "memory_mib": 20480.0},
    ]
    head, first, second = shown(
        tmp_path,
        {"answers": 300, "seconds": 7200.0, "gpu_use": busy},
        {"answers": 10, "seconds": 30.0, "gpu_use": None},
    )
    assert head[3:] == [
        "Answers", "Minutes", "Answers a minute", "GPUs busy (%)", "Most GPU memory (GiB)",
    ]  # fmt: skip
    assert first[2:] == ["study0 exp1", "300", "120.00", "2.5", "70", "40.0"]
    assert second[3:] == ["10", "0.50", "20.0", "–", "–"]
    head, _ = shown(tmp_path, None, {"answers": 10, "seconds": 30.0, "gpu_use": None})
    assert head[-1] == "Answers a minute"
    assert shown(tmp_path, None) == []
