"""Which way of reading a vLLM server gets, what the canary refuses, and what the plan counts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from bundled_studies import STUDIES
from engines_for_tests import CharacterTokenizer, ScriptedEngine
from fake_openai import Asked, Reply
from fake_vllm import BLOCK, FakeVllm, true_value, vllm_engine
from hypothesis import given
from hypothesis import strategies as st
from tiny_architectures import tokeniser

from grace.engines.base import Score, ScoreRequest
from grace.errors import EngineError
from grace.experiments.measurement import run_scoring
from grace.experiments.trials import Run, trial_prompts
from grace.models.chat import ChatTokenizer
from grace.prompts.variants import PromptSet
from grace.scoring.forest import distinct_prefixes
from grace.scoring.serving_plan import (
    PrefixCache,
    forwards_by_nodes,
    forwards_by_texts,
    node_stages,
    nodes,
    text_stages,
)
from grace.settings.config import RequestsConfig
from grace.settings.loading import load_models
from grace.studies.stimuli import read_trials

ROOT = Path(__file__).parents[2]
ONE_BY_ONE = RequestsConfig(backoff_s=0, concurrency=1, attempts=2)
BUSY = RequestsConfig(backoff_s=0, concurrency=16, attempts=2)

STORY = tuple(range(4, 37))


def trial(name: str, story: tuple[int, ...] = STORY) -> list[ScoreRequest]:
    """Three queries after one story; options share beginnings, and some begin others."""
    options = ((5,), (5, 6), (5, 6, 7), (8, 9), (8, 10, 11))
    return [
        ScoreRequest(f"{name}{n}", (*story, 20 + n, 3), options, (1, 2), group=name)
        for n in range(3)
    ]


TRIALS = [*trial("a"), *trial("b", STORY[:20] + STORY[:7])]


def assert_true(scores: list[Score]) -> None:
    """The scores are the made-up model's, to the rounding of float32."""
    requests = {request.key: request for request in TRIALS}
    assert sorted(score.key for score in scores) == sorted(requests)
    for score in scores:
        request = requests[score.key]
        assert score.error is None
        assert score.token_logprobs is not None
        assert score.terminator_logprobs is not None
        for n, option in enumerate(request.continuations):
            text = request.prompt_token_ids
            for token, value in zip(option, score.token_logprobs[n], strict=True):
                assert value == pytest.approx(true_value(text, token), abs=1e-5)
                text = (*text, token)
            mass = sum(math.exp(true_value(text, end)) for end in request.terminator_ids)
            assert score.terminator_logprobs[n] == pytest.approx(math.log(mass), abs=1e-5)


def scored(
    fake: Callable[[Asked], Reply],
    monkeypatch: pytest.MonkeyPatch,
    requests: RequestsConfig = BUSY,
) -> dict[str, Any]:
    """How TRIALS were read; their scores are checked."""
    with vllm_engine(fake, monkeypatch, requests) as (engine, _):
        assert_true(list(engine.score(TRIALS)))
        facts: dict[str, Any] = engine.describe()["scoring"]
    return facts


# --- the choice


def test_a_server_that_offers_it_is_read_by_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = scored(FakeVllm(texts=true_value), monkeypatch)
    assert facts["way"] == "prompt_logprob_token_ids"
    assert "within 0.001" in facts["reason"]


def test_texts_that_are_read_wrongly_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = FakeVllm(texts=lambda context, token: true_value(context, token) - 0.01)
    facts = scored(wrong, monkeypatch)
    assert facts["way"] == "logprob_token_ids"
    assert "differs by 0.01 from `logprob_token_ids`, beyond 0.001" in facts["reason"]


@pytest.mark.parametrize("value", [math.nan, 0.5, -math.inf])
def test_texts_without_values_are_not_used(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = scored(FakeVllm(texts=lambda *_: value), monkeypatch)
    assert facts["way"] == "logprob_token_ids"
    assert "gave no score" in facts["reason"]


@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_a_server_that_refuses_texts_is_read_by_nodes(
    status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeVllm()

    def reply(asked: Asked) -> Reply:
        if asked.path == "/inference/v1/generate":
            return Reply({"error": {"message": "not here"}}, status=status)
        return fake(asked)

    with caplog.at_level(logging.INFO):
        facts = scored(reply, monkeypatch)
    assert facts["way"] == "logprob_token_ids"
    assert "does not offer `prompt_logprob_token_ids`" in facts["reason"]
    assert f"reads `logprob_token_ids`; {facts['reason']}" in caplog.text


def drops(context: tuple[int, ...], token: int) -> Any:
    """One of the ids asked for is not among the answers."""
    return ... if token == 6 else true_value(context, token)


@pytest.mark.parametrize("nodes_give", [None, lambda *_: ..., drops])
def test_prompts_are_the_last_resort(nodes_give: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = scored(FakeVllm(nodes=nodes_give, texts=true_value), monkeypatch)
    assert facts["way"] == "prompt_logprobs"
    assert "does not offer `logprob_token_ids`" in facts["reason"]


def test_nothing_is_measured_where_nothing_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="nothing was measured"):
        scored(FakeVllm(nodes=None, prompts=None), monkeypatch)


def test_places_that_the_cache_held_are_read_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeVllm(texts=true_value)
    again: list[Asked] = []

    def reply(asked: Asked) -> Reply:
        answer = fake(asked)
        if asked.path != "/inference/v1/generate":
            return answer
        if asked.body["sampling_params"]["skip_reading_prefix_cache"]:
            again.append(asked)
            return answer
        return Reply({**answer.body, "prompt_token_id_logprobs": None})

    facts = scored(reply, monkeypatch)
    assert facts["way"] == "prompt_logprob_token_ids"
    assert again


def test_texts_of_an_earlier_job_do_not_stand_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with vllm_engine(FakeVllm(texts=true_value), monkeypatch, ONE_BY_ONE) as (engine, server):
        for _ in range(2):
            assert_true(list(engine.score(TRIALS)))
        texts = [asked.body for asked in server.asked if "token_ids" in asked.body]
    assert len(texts) == 3 + 2 * 6 * 3  # the probe's, and each query's three longest options
    assert not any(body["sampling_params"]["skip_reading_prefix_cache"] for body in texts)


def test_more_ids_than_texts_may_hold_are_read_by_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    many = ScoreRequest("many", (1, 2), tuple((n % 40, n) for n in range(200)), (3,))
    wide = ScoreRequest("wide", (1, 3), tuple((n,) for n in range(200)), (3,))
    fake = FakeVllm(
        nodes=lambda context, token: -9.0 - len(context),
        texts=lambda context, token: -9.0 - len(context),
    )
    with vllm_engine(fake, monkeypatch, BUSY) as (engine, server):
        scores = {score.key: score for score in engine.score([many, wide])}
        texts = [asked.body["token_ids"][:2] for asked in server.asked if "token_ids" in asked.body]
        assert engine.describe()["scoring"]["way"] == "prompt_logprob_token_ids"
    assert [1, 2] in texts
    assert [1, 3] not in texts
    assert scores["wide"].token_logprobs == ((-11.0,),) * 200


# --- the canary


@pytest.mark.parametrize("value", [0.0, math.nan, None, 0.5, -math.inf, -9999.0, -0.1])
@pytest.mark.parametrize("way", ["nodes", "prompts"])
def test_values_that_cannot_be_stop_the_run(
    way: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty: dict[str, Any] = {"nodes": None, way: lambda *_: value}
    fake = FakeVllm(**faulty)
    with (
        vllm_engine(fake, monkeypatch, BUSY) as (engine, server),
        pytest.raises(EngineError, match=r"cannot be trusted .* first prompt of 35 tokens"),
    ):
        list(engine.score(TRIALS))
    prompts = [prompt for asked in server.asked for prompt in asked.body.get("prompt", [])]
    assert {tuple(prompt[:35]) for prompt in prompts} == {TRIALS[0].prompt_token_ids}


def with_bos(prompt: list[int]) -> list[int]:
    return [0, *prompt]


def cut(prompt: list[int]) -> list[int]:
    return prompt[-32:]


def shifted(prompt: list[int]) -> list[int]:
    return [token + 1 for token in prompt]


@pytest.mark.parametrize("prompts_only", [False, True])
@pytest.mark.parametrize(
    ("sees", "finding"),
    [
        (with_bos, r"counted 36 tokens, but was sent 35"),
        (cut, r"counted 32 tokens, but was sent 35"),
        (shifted, r"sent 35 token ids and read 35, of which only the first 0 are the same"),
    ],
)
def test_a_server_that_reads_another_prompt_stops_the_run(
    sees: Any, finding: str, prompts_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeVllm(sees=sees, **({"nodes": None} if prompts_only else {}))
    if prompts_only:
        finding = "reads other prompts than it is sent"
    with (
        vllm_engine(fake, monkeypatch, BUSY) as (engine, _),
        pytest.raises(EngineError, match=finding),
    ):
        list(engine.score(TRIALS))


def test_a_server_that_repeats_no_ids_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scored(FakeVllm(echoes=False), monkeypatch)["way"] == "logprob_token_ids"


def test_a_prompt_that_is_cut_later_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    short = TRIALS[-1].prompt_token_ids

    def sees(prompt: list[int]) -> list[int]:
        return prompt[1:] if tuple(prompt) == short else prompt

    with (
        vllm_engine(FakeVllm(sees=sees), monkeypatch, BUSY) as (engine, _),
        pytest.raises(EngineError, match="reads other prompts"),
    ):
        list(engine.score(TRIALS))


def test_a_server_that_does_not_answer_is_not_read_in_another_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeVllm()

    def reply(asked: Asked) -> Reply:
        return Reply("gone", status=500) if "logprob_token_ids" in asked.body else fake(asked)

    with pytest.raises(EngineError, match="a first prompt got no answer"):
        scored(reply, monkeypatch)


def test_the_canary_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with vllm_engine(FakeVllm(), monkeypatch, BUSY) as (engine, server):
        assert_true(list(engine.score(TRIALS)))
        canaries = sum("return_token_ids" in asked.body for asked in server.asked)
        assert_true(list(engine.score(TRIALS)))
        assert sum("return_token_ids" in asked.body for asked in server.asked) == canaries
        assert list(engine.score([])) == []


# --- the plan


def test_a_cache_computes_what_its_whole_blocks_do_not_hold() -> None:
    cache = PrefixCache(4)
    text = tuple(range(20))
    assert cache.forwards(text[:9]) == 9  # holds two blocks
    assert cache.forwards(text[:9]) == 1
    assert cache.forwards(text[:8]) == 4  # the last token is computed, with its block
    assert cache.forwards(text[:13]) == 5
    assert cache.forwards((*text[:5], 0, 0, 0, 0)) == 5


@pytest.mark.parametrize("texts", [None, true_value], ids=["nodes", "texts"])
def test_the_server_computes_what_the_plan_says(
    texts: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    groups = [TRIALS[:3], TRIALS[3:]]
    plan = forwards_by_texts if texts else forwards_by_nodes
    planned = plan(groups[1], BLOCK)
    fake = FakeVllm(texts=texts)
    with vllm_engine(fake, monkeypatch, ONE_BY_ONE) as (engine, _), caplog.at_level(logging.INFO):
        list(engine.score(groups[0]))
        fake.forwards, before = 0, fake.forwards
        fake.forget()
        assert before > 0
        list(engine.score(groups[1]))
    assert fake.forwards == planned
    assert f"{planned} token-forwards planned" in caplog.text


token_ids = st.integers(0, 3)
sequences = st.lists(token_ids, min_size=1, max_size=5).map(tuple)
requests_of_a_trial = st.lists(
    st.builds(
        ScoreRequest,
        st.just("q"),
        sequences,
        st.lists(sequences, min_size=1, max_size=4).map(tuple),
        st.lists(st.integers(4, 6), min_size=1, max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=4,
)


@given(requests_of_a_trial)
def test_every_context_is_read_once_in_both_ways(queries: list[ScoreRequest]) -> None:
    wanted = nodes(queries)
    by_nodes = [context for stage in node_stages(queries) for context in stage]
    assert sorted(by_nodes) == sorted(wanted)
    by_texts: dict[tuple[int, ...], tuple[int, ...]] = {}
    for stage in text_stages(queries):
        for read in stage:
            assert len(read.rows) == len(read.text) - 1 - read.start
            for number, row in enumerate(read.rows):
                context = read.text[: read.start + number + 1]
                if row:
                    assert context not in by_texts
                    by_texts[context] = row
    assert by_texts == {context: tuple(sorted(ids)) for context, ids in wanted.items()}


@given(requests_of_a_trial, st.integers(1, 4))
def test_no_text_finds_in_the_cache_what_it_is_to_read(
    queries: list[ScoreRequest], block: int
) -> None:
    cache = PrefixCache(block)
    for stage in text_stages(queries):
        for read in stage:
            computed = cache.forwards(read.text)
            assert len(read.text) - computed <= read.start


class Tokenizer(CharacterTokenizer):
    """A tokeniser that splits prompts finely; they end in a newline."""

    def __init__(self, kind: str) -> None:
        self._ids = tokeniser(kind)

    def tokenise(self, text: str) -> list[int]:
        return self._ids(text)


def asked_of(study_name: str, tokenizer: Any, limit: int | None) -> list[list[ScoreRequest]]:
    """What experiment 2 asks, by trial, through the real planner."""
    study = STUDIES[study_name]
    run = Run("m", "m", study, "exp2", 0, 1000, True)
    rows = read_trials(ROOT / f"resources/stimuli/{study_name}.csv", study, limit)
    items = trial_prompts(run, rows, [PromptSet(ROOT / "config/prompts/seed")])
    engine = ScriptedEngine()
    sent: list[ScoreRequest] = []

    class Stopped(Exception):
        pass

    def score(requests: Any) -> Any:
        sent.extend(requests)
        raise Stopped

    engine.score = score  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        list(run_scoring(run, items, tokenizer, engine))
    return [list(group) for _, group in groupby(sent, key=lambda request: request.group)]


@pytest.mark.parametrize(("study", "limit", "trials"), [("study1", None, 36), ("study2", 300, 300)])
@pytest.mark.parametrize("kind", ["pico", "digit", "triple", "byte"])
def test_a_server_computes_few_more_tokens_than_the_limit(
    study: str, limit: int | None, trials: int, kind: str
) -> None:
    if kind == "pico":
        entry = load_models(ROOT / "config/models.yaml")["pico"]
        tokenizer: Any = ChatTokenizer("pico", entry, ROOT)
    else:
        tokenizer = Tokenizer(kind)
    groups = asked_of(study, tokenizer, limit)
    assert len(groups) == trials + 1  # and the null contexts
    fewest = sum(map(distinct_prefixes, groups))
    assert sum(map(forwards_by_texts, groups)) <= 2.2 * fewest
    assert sum(map(forwards_by_nodes, groups)) <= 3.4 * fewest
    # One pass an option, which is how it is done without a plan.
    assert sum(len(r.prompt_token_ids + o) for g in groups for r in g for o in r.continuations) > (
        5 * fewest
    )
