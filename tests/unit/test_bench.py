"""The benchmark: systems are held to the same answers, and tables say what was measured."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import (
    answering,
    ceilings,
    command,
    forecast,
    harness,
    in_process,
    plain,
    rereading,
    served,
    table,
)
from bench.measuring import Rate, System, measure, summary
from bench.models import MODELS, measurable
from bench.workload import TOLERANCE, Reference, Workload
from grace.engines.base import Generation
from grace.errors import GraceError

PICO = MODELS["pico"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def work() -> Workload:
    return Workload(PICO.entry, PICO.tokenizer(), few=2, most=20)


@pytest.fixture(scope="module")
def model():
    return PICO.load()


@pytest.fixture(scope="module")
def naive(model, work):
    return plain.naive(model, work)


def test_trials_without_repeats_hold_46_options_each(work, naive):
    assert len(work.few) == 2
    assert sum(map(len, naive.values())) == 2 * 46
    everything = Workload(PICO.entry, work.tokenizer, few=300, most=None)
    assert (len(everything.items), len(everything.few)) == (300, 36)


def test_systems_of_this_process_read_the_same_ids_and_values(model, work, naive):
    reference = Reference(naive, TOLERANCE["float32"])
    systems = in_process.systems(model, work, reference)
    rates = measure(systems, 1)
    assert set(rates) == set(command.SCORING) - {"lm-eval", "vllm"}
    assert reference.differences["naive"] == 0
    assert all(reference.differences[key] < 1e-4 for key in rates)
    assert all(rate.cpu > 0 for own in rates.values() for rate in own)
    (whole,) = (system for system in systems if system.key == "whole")
    assert whole.check(whole.run()) == 20 * 46


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda ids, value: (ids, value + 2e-3), "where one plain pass gives"),
        (lambda ids, value: (ids, float("nan")), "where one plain pass gives"),
        (lambda ids, value: ((*ids[:-1], 7), value), "other token ids"),
        (lambda ids, value: (ids[1:], value), "other token ids"),
    ],
)
def test_a_system_that_answers_something_else_is_refused(naive, spoil, complaint):
    reference = Reference(naive, TOLERANCE["float32"])
    *_, last = naive
    spoilt = {**naive, last: [*naive[last][:-1], spoil(*naive[last][-1])]}
    with pytest.raises(GraceError, match=complaint):
        reference.check("spoilt", spoilt)
    with pytest.raises(GraceError, match="other token ids"):
        reference.check("short", {key: naive[key] for key in naive if key != last})


def test_random_models_are_the_same_each_time_and_as_large_as_they_say():
    one, other = (MODELS["llama-58m"].load() for _ in range(2))
    assert 57.5e6 < sum(weight.numel() for weight in one.parameters()) < 58.5e6
    assert one.get_input_embeddings().num_embeddings == 32_000
    assert all(map(torch.equal, one.parameters(), other.parameters()))


@pytest.mark.parametrize("key", [key for key, m in MODELS.items() if m.config is not None])
def test_shapes_hold_the_tokeniser_and_the_prompts(key):
    config = MODELS[key].config()
    assert config.vocab_size >= 1024
    assert config.max_position_embeddings >= MODELS[key].entry.max_model_len
    if key.endswith("small"):
        assert config.sliding_window < 100 < 8 * config.sliding_window


def test_models_for_a_gpu_are_left_out_without_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert measurable() == [
        "pico", "llama-58m", "llama-60m", "llama-250m", "gemma2-small", "gpt-oss-small"
    ]  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert measurable()[-2:] == ["gemma-2-2b-shape", "llama-3-8b-shape"]


def test_the_best_batch_size_is_the_fastest_of_two_runs():
    runs = {1: [9.0, 8.0], 8: [7.0, 1.0], 4: [3.0, 2.0], 16: [2.5, 1.5]}
    asked = []

    def seconds(size):
        asked.append(size)
        return runs[size].pop()

    assert harness.best_batch_size(seconds, [8, 1, 16, 4]) == (8, {1: 8, 4: 2, 8: 1, 16: 1.5})
    assert asked == [1, 1, 4, 4, 8, 8, 16, 16]


def test_batches_that_do_not_fit_in_memory_end_the_search():
    def seconds(size):
        if size > 4:
            raise torch.OutOfMemoryError
        return 1 / size

    assert harness.best_batch_size(seconds, (1, 4, 8, 16))[0] == 4
    with pytest.raises(torch.OutOfMemoryError):
        harness.best_batch_size(seconds, (8, 16))


def test_systems_take_turns_after_a_run_to_warm_up():
    turns = []

    def system(key):
        return System(
            key,
            key,
            run=lambda: turns.append(key) or key,
            check=lambda result: 6,
            prepare=lambda: turns.append(f"prepare {key}"),
            own_seconds=lambda result: {"a": 2.0, "b": 3.0}[result],
        )

    assert measure([system("a"), system("b")], 2) == {
        "a": [Rate(3, None)] * 2,
        "b": [Rate(2, None)] * 2,
    }
    assert turns == ["prepare a", "a", "prepare b", "b"] * 3
    clock = {"rates": [4, 1, 2], "median": 2, "min": 1, "max": 4}
    assert summary([Rate(rate, None) for rate in (4.0, 1.0, 2.0)]) == {**clock, "cpu": None}
    cpu = {"rates": [5, 7], "median": 6, "min": 5, "max": 7}
    assert summary([Rate(1, 5), Rate(1, 7)])["cpu"] == cpu


def test_cpu_time_is_of_what_computes_here_and_not_of_waiting():
    def run():
        time.sleep(0.2)
        return sum(range(100_000))

    (rate,) = measure([System("a", "a", run, lambda _: 1, here=True)], 1)["a"]
    assert rate.wall < 5 < rate.cpu


def test_ceilings_count_what_must_be_read(model, work):
    found = ceilings.ceilings(model, work)
    requests = [work.request(asking, grouped=True) for asking in work.asking()]
    naive = sum(
        len(request.prompt_token_ids) + len(ids) - 1
        for request in requests
        for ids in request.continuations
    )
    assert found["naive"] == {
        "tokens": naive,
        "positions": sum(len(ids) for request in requests for ids in request.continuations),
        "by_tokens": 1,
        "by_multiplications": 1,
    }
    assert found["packed-lean"] == found["per-trial"]
    ends, without = found["per-trial-ends"], found["per-trial"]
    # An option's last token is read for its end alone: 46 a trial.
    assert ends["tokens"] - without["tokens"] == 2 * 46 == ends["positions"] - without["positions"]
    assert found["together"]["tokens"] < without["tokens"] < naive / 10
    for one in found.values():
        # Positions are saved less often than tokens.
        assert 1 <= one["by_multiplications"] <= one["by_tokens"]


def test_answers_are_of_mixed_length_and_the_same_each_time(work):
    questions = answering.questions(work.tokenizer, 40)
    lengths = [question.decoding.max_tokens for question in questions]
    assert min(lengths) < 20
    assert max(lengths) > 100
    assert len({question.seed for question in questions}) == 40
    assert questions == answering.questions(work.tokenizer, 40)


def test_systems_that_generate_other_numbers_of_tokens_are_refused():
    tokens = answering.Tokens()
    assert tokens.check("ours", [500, 500]) == 1000
    assert tokens.check("batches", [500, 505]) == 1005
    with pytest.raises(GraceError, match="cannot be compared"):
        tokens.check("saturated", [500, 480])


def test_batches_wait_for_their_slowest():
    calls = []

    def generate(requests):
        calls.append(list(requests))
        return (Generation(r.key, "x", "stop", usage={"completion_tokens": 1}) for r in requests)

    requests = [SimpleNamespace(key=str(n)) for n in range(23)]
    found = answering._in_batches(SimpleNamespace(generate=generate), requests)
    assert [len(batch) for batch in calls] == [10, 10, 3]
    assert [answer.key for answer in found] == [str(n) for n in range(23)]
    failed = [replace(found[0], error="boom")]
    with pytest.raises(GraceError, match="1 answers failed; the first: boom"):
        answering._counts(failed)


def test_a_server_gets_as_many_cores_as_threads(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 3, 9})
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_SERVER_DEV_MODE"):
        monkeypatch.setenv(name, "")
    served.set_threads(2)
    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == "3,5"


def test_the_command_measures_writes_and_prints(tmp_path: Path, capsys):
    words = ["--quick", "--models", "pico", "--systems", "per-trial", "--results", str(tmp_path)]
    command.main([*words, "--threads", "1"])
    (written,) = tmp_path.glob("*.json")
    result = json.loads(written.read_text())
    assert written.name == "scoring-pico.json"
    assert [system["key"] for system in result["systems"]] == ["naive", "per-trial"]
    assert all(len(system["rates"]) == 1 for system in result["systems"])
    assert (result["trials"], result["options"], result["threads"]) == (1, 46, 1)
    assert result["versions"]["torch"] == torch.__version__
    printed = capsys.readouterr().out
    assert printed == table.render([result]) + "\n"
    command.main(["--table", "--results", str(tmp_path)])
    assert capsys.readouterr().out == printed


def test_without_a_server_the_table_says_so(monkeypatch, tmp_path: Path, caplog):
    monkeypatch.setattr(served, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").touch()  # looked for first
    words = ["--quick", "--models", "pico", "--systems", "vllm", "generation"]
    command.main([*words, "--results", str(tmp_path)])
    (written,) = tmp_path.glob("*.json")
    result = json.loads(written.read_text())
    assert [system["key"] for system in result["systems"]] == ["naive"]
    assert any("there is no vLLM in" in note for note in result["notes"])
    assert "experiment 1 is not measured" in caplog.text


def test_what_is_missing_is_named_before_anything_is_measured(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(SystemExit, match="`make bench` sets it up"):
        command.main(["--quick", "--systems", "lm-eval", "--results", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="Answers are generated by llama-58m, gemma-2-2b-shape"):
        command.main(["--models", "pico", "--systems", "generation"])
    with pytest.raises(SystemExit, match=r"no results of `make bench` here"):
        command.main(["--table", "--results", str(tmp_path / "none")])


def system(key: str, *rates: float, cpu: float | None = None, **more) -> dict:
    found = summary([Rate(rate, cpu) for rate in rates])
    return {"key": key, "name": f"system {key}", **found, **more}


MADE = {
    "threads": 2,
    "repetitions": 3,
    "created": "2026-11-20T10:00:00.000+00:00",
    "hardware": {"processor": "Abacus", "cpus": 2, "memory_gib": 23.6, "gpus": []},
    "versions": {"torch": "2.13.0", "vllm": None},
}


def test_forecasts_are_held_to_jobs_of_other_sizes(monkeypatch, capsys):
    def in_this_process(words):
        *_, values, name, experiment, replication = words
        forecast.run_job(json.loads(values), name, experiment, int(replication))
        return 3.0

    sizes = {"small": (32, 48, 1, 2), "large": (64, 96, 2, 2)}
    monkeypatch.setattr(forecast, "SIZES", sizes)
    monkeypatch.setattr(forecast, "cpu_seconds", in_this_process)
    monkeypatch.setattr(sys, "argv", ["bench.forecast", "--limit", "2"])
    forecast.main()
    _, _, *rows, small, large = capsys.readouterr().out.splitlines()
    assert small.startswith("small, experiment 2 from the journal: 3.0 CPU s")
    assert large.startswith("large, ")
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert sorted(row[:3] for row in cells) == [
        [name, experiment, "3.0"] for name in sorted(sizes) for experiment in ("exp1", "exp2")
    ]
    assert all(float(row[3]) > 0 for row in cells)
    # Nothing is held to jobs of its own size.
    assert all((row[5 + list(sizes).index(row[0])]) == "-" for row in cells)


def test_what_second_readings_cost_and_how_far_they_differ_is_printed(monkeypatch, capsys):
    read = rereading.read_trials
    monkeypatch.setattr(rereading, "read_trials", lambda path, study, _: read(path, study, 2))
    monkeypatch.setattr(rereading, "STUDIES", ("study2",))
    rereading.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 4 + 3 * 2, "by run three ways and seconds; for each type two ways"
    for line in lines[8:]:
        largest, allowed = re.search(r"largest (\S+), allowed (\S+)$", line).groups()
        assert float(largest) <= float(allowed), line


def test_the_table_says_what_was_measured():
    scoring = {
        "kind": "scoring",
        **MADE,
        "order": 1,
        "model": {"key": "m", "about": "a model", "dtype": "float32", "device": "cpu"},
        "trials": 4,
        "options": 1840,
        "notes": ["A note."],
        "systems": [
            system("naive", 90, 100, 110, largest_difference=0.0),
            system("lm-eval", 50, 50, 50, largest_difference=2e-6),
            system(
                "whole",
                12000,
                12345,
                13000,
                largest_difference=3.21e-5,
                ceiling={"by_tokens": 150.0, "by_multiplications": 140.0},
            ),
        ],
    }
    generation = {
        "kind": "generation",
        **MADE,
        "order": 0,
        "model": {"key": "g", "about": "its shape", "dtype": "bfloat16", "device": "cuda"},
        "requests": 12,
        "notes": [],
        "systems": [system("ours", 300, tokens=1234), system("batches", 200, tokens=1234)],
    }
    text = table.render([generation, scoring])
    assert text.index("### Experiment 2, `m`") < text.index("### Experiment 1 on vLLM, `g`")
    assert "A model; float32, 2 threads, 3 interleaved repetitions. 4 trials" in text
    assert "1,840 options" in text
    assert "| system naive | 100 (90–110) | 1 |  | 2 |  | 0 |" in text
    assert "| system whole | 12,345 (12,000–13,000) | 123 |  | 247 | 140 (150) | 3e-05 |" in text
    assert "| system batches | 200 (200–200) | 1,234 | 1.5 |" in text
    assert "Its shape; bfloat16, GPU, 3 interleaved" in text
    assert "2026-11-20, Abacus, 2 cores, 24 GiB, no GPU; torch 2.13.0." in text
    assert "A note." in text
    assert "No accelerator" not in text
    assert "No accelerator" in table.render([scoring])


def test_ratios_are_of_cpu_time_where_both_have_it():
    one = {
        "kind": "scoring", **MADE, "order": 0, "trials": 4, "options": 1840, "notes": [],
        "model": {"key": "m", "about": "a model", "dtype": "float32", "device": "cpu"},
        "systems": [
            system("naive", 100, cpu=50, largest_difference=0.0),
            system("packed", 300, cpu=200, largest_difference=0.0),
            system("vllm", 900, largest_difference=0.0),
        ],
    }  # fmt: skip
    text = table.render([one])
    assert "Options a second of CPU time:" in text
    assert "| system packed | 200 (200–200) | 4 | 1 |" in text
    assert "| system vllm | 900 (900–900) | 9 | 3 |" in text
    assert "By the clock, since it computes in another process: system vllm." in text
