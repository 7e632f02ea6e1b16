"""The benchmark with what it compares with: a real vLLM server, and lm-evaluation-harness."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from bench import answering, plain, served
from bench.measuring import measure
from bench.models import MODELS, ROOT
from bench.workload import Reference, Workload

pytestmark = pytest.mark.long

PICO = MODELS["pico"]
BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"


@pytest.mark.vllm
def test_systems_on_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_SERVER_DEV_MODE"):
        monkeypatch.setenv(name, "")  # set back after the test
    served.set_threads(1)
    weights = PICO.load()
    work = Workload(PICO.entry, PICO.tokenizer(), few=1, most=None)
    reference = Reference(plain.naive(weights, work), tolerance=1e-4)
    tokens = answering.Tokens()
    with served.serving(PICO, weights, tmp_path) as engine:
        scored = measure([served.system(engine, work, reference)], 1)
        requests = answering.questions(work.tokenizer, 12)
        answered = measure(answering.systems(engine, "pico", requests, tokens), 1)
    assert reference.differences["vllm"] > 0, "another program does not round alike"
    assert set(scored) | set(answered) == {"vllm", "ours", "batches", "saturated", "vllm-bench"}
    assert len(set(tokens.counts.values())) == 1
    assert all(rate > 0 for rates in (scored | answered).values() for rate in rates)


@pytest.mark.skipif(not BENCH_PYTHON.exists(), reason="no .venv-bench here (make bench)")
def test_lm_evaluation_harness_reads_the_same_ids_and_values(tmp_path: Path) -> None:
    words = ["--quick", "--models", "pico", "--systems", "lm-eval", "--results", str(tmp_path)]
    done = subprocess.run(
        [str(BENCH_PYTHON), "-m", "bench", *words],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'workflow' / 'lib'}:{ROOT / 'scripts'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "scoring-pico.json").read_text())
    _, harness = result["systems"]
    assert harness["key"] == "lm-eval"
    assert harness["largest_difference"] < 1e-4
    assert result["batch_size_search"]["batch_size"] in (1, 8)
    assert result["versions"]["lm_eval"] == "0.4.13"
