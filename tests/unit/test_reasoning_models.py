"""Reasoning models: both experiments on a real one, servers, and what is checked before."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bundled_studies import STUDIES
from reasoning_runs import (
    ROOT,
    STUDY,
    ids_of,
    items_of,
    run_of,
    tokeniser_folders,
    traces_of,
)
from tiny_model import build_tiny_model
from toy_reasoners import (
    FAMILIES,
    added_tokens,
    reasoner,
)
from transformers import AutoModelForCausalLM

from grace.engines.answer_keys import AnswerKeys
from grace.engines.base import Decoding, Generation, GenerationRequest
from grace.engines.http.generation import ask_generation
from grace.engines.transformers.decoding import Answer
from grace.engines.transformers.model import TransformersEngine
from grace.errors import ConfigError, EngineError
from grace.experiments import preflight
from grace.experiments.generation import run_generation
from grace.experiments.measurement import run_scoring
from grace.experiments.trials import Run, trial_prompts
from grace.forecast.request_table import rows as forecast_rows
from grace.models.chat import tokenizer_of
from grace.models.reasoning_formats import Closing
from grace.results.tables import (
    raw_rows,
    structured_rows,
    wording_columns,
)
from grace.settings import loading
from grace.settings.config import ModelEntry, RequestsConfig
from grace.settings.outputs import thinking_config
from grace.settings.project import Project
from grace.studies.stimuli import read_trials


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return tokeniser_folders(tmp_path_factory)


# --- experiment 1, and both on a real model -------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folders with random models that have GPT-OSS's and Qwen3's tokens and templates."""
    found = {}
    for family in ("qwen3", "gpt-oss"):
        found[family] = tmp_path_factory.mktemp(f"tiny_{family}")
        build_tiny_model(
            found[family] / "model", FAMILIES[family][0], positions=1024, added=added_tokens(family)
        )
    return found


def opened(folder: Path, entry: ModelEntry) -> TransformersEngine:
    return TransformersEngine("toy", entry, requests=RequestsConfig(), root=folder, threads=1)


@pytest.mark.parametrize(
    ("family", "pieces", "expected"),
    [
        ("gpt-oss", ["<|channel|>", "analysis", "<|message|>", "why", "<|end|>", "<|start|>",
                     "assistant", "<|channel|>", "final", "<|message|>", "yes", "<|return|>"],
         ("why", "yes", True)),
        ("gpt-oss", ["<|channel|>", "analysis", "<|message|>", "yes"], ("yes", "", False)),
        ("qwen3", ["why", "\n", "</think>", "\n\n", "yes", "<|im_end|>"], ("why", "yes", True)),
        ("qwen3", ["it is yes"], ("it is yes", "", False)),
    ],
)  # fmt: skip
def test_tags_that_are_special_tokens_survive_in_process(tiny, family, pieces, expected):
    entry = reasoner(family)
    with opened(tiny[family], entry) as engine:
        tokens = list(ids_of(engine._tokenizer, pieces))
        request = GenerationRequest("a", (), (1,), Decoding(1, 1, 99), 0)
        reason = "stop" if tokens[-1] in engine._stop_ids else "length"
        answer = Answer(request, 99, torch.Generator(), time.monotonic(), tokens, reason)
        found = engine._generation(answer)
    assert (found.reasoning, found.text, found.reasoning_closed) == expected
    assert found.token_ids is None


def test_both_experiments_on_a_real_model_against_plain_passes(tiny):
    entry = reasoner("qwen3", traces=3, max_tokens=16, max_model_len=1024)
    folder = tiny["qwen3"]
    tokenizer = tokenizer_of("toy", entry, folder)
    with opened(folder, entry) as engine:
        run = run_of("exp1")
        answers = list(
            run_generation(run, items_of(run, 2), tokenizer, engine, Decoding(1.0, 1.0, 24))
        )
        run = run_of("exp2")
        settings = thinking_config(entry)
        records = list(run_scoring(run, items_of(run), tokenizer, engine, ["{}"], settings))
    assert {record["status"] for record in answers} == {"ok"}
    for record in answers:
        if not record["reasoning_closed"]:
            assert record["response"] == ""
    (query,) = records[0]["queries"]
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    sums = dict.fromkeys((option["text"] for option in query["options"]), 0.0)
    # This tokeniser takes a line break before a word for a token of its own.
    close, glue = tokenizer.closing.token_ids, tokenizer.tokenise("\n") * 2
    for trace in traces_of(records[0]):
        ids = list(trace["token_ids"])
        if trace["end"] == "unanswered":
            continue
        if trace["end"] == "closed":
            ids = ids[: ids.index(close[0])]
        start = [*query["prompt_token_ids"], *ids, *close, *glue]
        for option in sums:
            tail = tokenizer.tokenise(option)
            with torch.inference_mode():
                logs = model(torch.tensor([[*start, *tail]])).logits[0].log_softmax(-1)
            places = enumerate(tail, len(start) - 1)
            sums[option] += math.exp(sum(float(logs[at, token]) for at, token in places)) / 3
    for option in query["options"]:
        assert option["logprob"] == pytest.approx(math.log(sums[option["text"]]), abs=1e-3)
    # Tables of experiment 1: no answer of a trace without an end.
    columns = wording_columns(answers)
    assert columns == ("reasoning_closed",)
    raw = [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in raw_rows(answers, STUDY, columns)
    ]
    for row, record in zip(structured_rows(raw, STUDY, 1.0), answers, strict=True):
        flagged = "truncated_reasoning" in row["quality_flags"].split(";")
        assert flagged is not record["reasoning_closed"]


def test_a_chat_of_several_turns_ends_with_a_trace_that_has_no_end(folders):
    run = Run("toy", "model", STUDIES["study1"], "exp1", 0, 1000, True)
    trials = read_trials(ROOT / "resources/stimuli/study1.csv", STUDIES["study1"], 1)
    items = trial_prompts(run, trials, STUDIES["study1"].variants(["human"], trials))
    tokenizer = tokenizer_of("toy", reasoner(), folders["qwen3"])

    class Endless:
        def generate(self, requests):
            for request in requests:
                yield Generation(request.key, "", "length", reasoning="hm", reasoning_closed=False)

    (record,) = run_generation(run, items, tokenizer, Endless(), Decoding(1.0, 1.0, 9))
    assert "was not asked: the trace before it has no end" in record["status"]
    assert record["response"] is None


# --- servers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ({"token_ids": [5, 6, 9]}, (5, 6, 9)),
        ({}, "has no `token_ids`"),
        ({"token_ids": "5 6"}, "are no list of token ids"),
        ({"token_ids": [5, -1]}, "are no list of token ids"),
        ({"token_ids": [5, True]}, "are no list of token ids"),
        ({"token_ids": [5] * 21}, "gave 21 token ids, but was asked for 20"),
    ],
)
def test_a_servers_trace_comes_with_its_ids_or_not_at_all(choice, found):
    class Client:
        async def post(self, path, body):
            return {"choices": [{"text": "why", "finish_reason": "stop", **choice}]}

    request = GenerationRequest(
        "a", (), (1,), Decoding(1.0, 1.0, 20), 0, closing=Closing((9,), "</think>")
    )
    read = lambda answer, choice: (choice["text"], None)  # noqa: E731
    entry = reasoner(engine="vllm")
    answer = asyncio.run(ask_generation(Client(), "/v1/completions", {}, request, read, entry))
    if isinstance(found, str):
        assert found in answer.error
    else:
        assert (answer.token_ids, answer.text, answer.reasoning) == (found, "why", None)


def test_journal_keys_of_other_answers_are_what_they_were():
    keys = AnswerKeys("vllm", "exp1", {})
    request = GenerationRequest("a", (), (1,), Decoding(1.0, 1.0, 20), 0)
    assert "closing" not in keys._sent(request)
    closing = Closing((9,), "</think>")
    with_trace = GenerationRequest("a", (), (1,), Decoding(1.0, 1.0, 20), 0, closing)
    assert keys.of(with_trace) != keys.of(request)


# --- before anything is asked ---------------------------------------------------------------------


def test_traces_count_before_anything_is_asked(tiny, tmp_path, monkeypatch):
    folder = str(tiny["qwen3"] / "model")
    own = reasoner("qwen3", traces=4, max_tokens=300, name=folder, max_model_len=600)
    monkeypatch.setattr("grace.settings.project.load_models", lambda _: {"toy": own})
    project = Project(ROOT, {"limit": 1, "models": ["toy"], "studies": ["study2"]})
    with pytest.raises(ConfigError, match=r"and `reasoning\.max_tokens` 300"):
        loading.check_lengths(
            project.config, {"toy": own.model_copy(update={"max_model_len": 500})}
        )
    runtime = SimpleNamespace(journal_dir=tmp_path, root=ROOT)
    with pytest.raises(EngineError, match=r"for a trace \(`reasoning`\)"):
        preflight.check({"key": "toy"}, own, project.wanted, runtime)
    longer = own.model_copy(update={"max_model_len": 1024})
    preflight.check({"key": "toy"}, longer, project.wanted, runtime)
    first, second = forecast_rows(project)
    assert first.new_tokens == first.requests.asked * (300 + 256)
    assert second.new_tokens == second.requests.asked * 4 * 300
    assert second.tokens.in_forests > second.new_tokens
