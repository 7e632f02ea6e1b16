"""Continuations: sentences are measured from their first token, and no template touches them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers
from bundled_studies import bundled_study

from grace.engines.transformers.model import TransformersEngine
from grace.errors import ConfigError, EngineError
from grace.experiments.measurement import run_scoring
from grace.experiments.preflight import check_continuations
from grace.experiments.trials import Run, trial_prompts
from grace.models.chat import ChatTokenizer
from grace.prompts.messages import context
from grace.results import validation
from grace.results.tables import analysis_ready, probability_columns, probability_rows
from grace.settings.config import ModelEntry, RequestsConfig, Thresholds
from grace.studies.stimuli import read_trials

ROOT = Path(__file__).parents[2]
STUDY = bundled_study("minimal_pairs")
PICO = ModelEntry(name="resources/models/pico", engine="transformers", dtype="float32", gpus=0)


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer("pico", PICO, ROOT)


@pytest.fixture(scope="module")
def records(tokenizer):
    run = Run("pico", PICO.name, STUDY, "exp2", 0, 1000, True)
    items = trial_prompts(run, read_trials(STUDY.stimuli_file, STUDY), [STUDY.variant("seed")])
    with TransformersEngine(
        "pico", PICO, requests=RequestsConfig(), root=ROOT, threads=1
    ) as engine:
        return list(run_scoring(run, items, tokenizer, engine))


def test_a_sentence_has_the_log_probability_of_a_plain_forward_pass(records, tokenizer):
    model = transformers.AutoModelForCausalLM.from_pretrained(ROOT / PICO.name)
    first = tokenizer.render(context("")).token_ids
    assert len(first) == 1
    for option in records[0]["queries"][0]["options"]:
        ids = [*first, *tokenizer.tokenise(option["text"])]
        assert ids[1:] == option["token_ids"]
        with torch.no_grad():
            logs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        expected = [float(logs[place, token]) for place, token in enumerate(ids[1:])]
        assert option["token_logprobs"] == pytest.approx(expected, abs=1e-4)
        assert option["logprob"] == pytest.approx(sum(expected), abs=1e-3)


def test_every_pair_is_a_prompt_of_its_own_and_no_turn_of_a_chat_stands_in_it(records, tokenizer):
    assert len({record["prompt_id"] for record in records}) == len(records) == 24
    for record in records:
        (query,) = record["queries"]
        assert query["prompt_token_ids"] == list(tokenizer.render(context("")).token_ids)
        assert query["messages"] == [{"role": "context", "content": ""}]


def test_tables_hold_log_probabilities_and_no_option_mass(records):
    rows = list(probability_rows(records, STUDY, 0.5))
    assert not any(row["quality_flags"] for row in rows)
    table = pd.DataFrame(rows, columns=list(probability_columns(STUDY)))
    assert table["option_mass"].isna().all()
    sums = table["prob_sentence_1"] + table["prob_sentence_2"]
    assert sums.to_numpy() == pytest.approx(1)
    checks = validation.check_probabilities(table, STUDY, 24, Thresholds())
    assert [check.name for check in checks if not check.passed] == []
    ready = analysis_ready(STUDY, None, table)
    difference = ready["logprob_sentence_1"] - ready["logprob_sentence_2"]
    assert ready["response_2_exp2"].to_numpy() == pytest.approx(difference.to_numpy())
    assert set(ready["response_1_exp2"]) <= {0.0, 1.0}


def test_a_context_stands_before_its_continuations_as_it_is(tokenizer):
    prompt = tokenizer.render(context("The keys"))
    (ids,) = tokenizer.continuing(prompt)(["The keys are here."][:0] or [prompt.text + " are"])
    assert ids[: len(prompt.token_ids)] == list(prompt.token_ids)
    with pytest.raises(EngineError, match="control token"):
        tokenizer.render(context("The <|end|> keys"))


def test_an_endpoint_that_makes_chats_of_all_texts_is_refused():
    remote = ModelEntry(
        name="m", engine="endpoint", base_url="http://localhost:1/v1", tokenizer="t"
    )
    models = {"pico": PICO, "remote": remote}
    with pytest.raises(ConfigError, match="'remote' is asked at an endpoint, which makes a chat"):
        check_continuations({"minimal_pairs": STUDY}, ["exp1", "exp2"], models)
    check_continuations({"minimal_pairs": STUDY}, ["exp1"], models)
    check_continuations({"minimal_pairs": STUDY}, ["exp2"], {"pico": PICO})
