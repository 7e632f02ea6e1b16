"""The engines `vllm` and `endpoint` against a real vLLM server on the CPU, shared by all tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from tiny_adapter import write_adapter
from tiny_model import END, build_tiny_model
from transformers import AutoTokenizer, LlamaForCausalLM
from waiting import PATIENCE_S

from grace.engines.base import Decoding, GenerationRequest, ScoreRequest
from grace.engines.endpoint.client import EndpointEngine
from grace.engines.transformers.model import TransformersEngine
from grace.engines.vllm.client import VllmEngine
from grace.engines.vllm.scoring import NODES, PROMPTS
from grace.errors import EngineError
from grace.models.chat import ChatTokenizer
from grace.settings.config import ModelEntry, RequestsConfig, ServingConfig

pytestmark = pytest.mark.vllm

REQUESTS = RequestsConfig(concurrency=32, timeout_s=120)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def models(
    model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, ModelEntry]]:
    """The model and two adapters on it, which one server holds, for an engine."""
    adapters = tmp_path_factory.mktemp("adapters")
    kind = write_adapter(adapters / "kind", model_dir, use_rslora=True)
    other = write_adapter(adapters / "other", model_dir, rank=2, seed=1)
    shared = {"name": str(model_dir), "dtype": "float32", "max_model_len": 256, "gpus": 0}
    return lambda engine: {
        "tiny": ModelEntry(**shared, engine=engine),
        "tiny-kind": ModelEntry(**shared, engine=engine, adapter=str(kind)),
        "tiny-other": ModelEntry(**shared, engine=engine, adapter=str(other)),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def on_the_server(run: Path, key: str, models: dict[str, ModelEntry]) -> VllmEngine:
    return VllmEngine(
        key,
        models[key],
        requests=REQUESTS,
        serving=ServingConfig(idle_s=1, start_timeout_s=300),
        journal_dir=run / "journal",
        log_dir=run / "logs",
        root=ROOT,
        sharing=models,
    )


@pytest.fixture(scope="module", autouse=True)
def engine(run: Path, models: Callable[[str], dict[str, ModelEntry]]) -> Iterator[VllmEngine]:
    with on_the_server(run, "tiny", models("vllm")) as engine:
        yield engine


@pytest.fixture(scope="module")
def endpoint(engine: VllmEngine) -> Iterator[EndpointEngine]:
    """The same server as if it were someone else's."""
    entry = ModelEntry(
        name="tiny", engine="endpoint", base_url=engine.describe()["base_url"], gpus=0
    )
    with EndpointEngine("remote", entry, requests=REQUESTS) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def score_requests(model_dir: Path) -> list[ScoreRequest]:
    """Options of several tokens, some the beginning of others, after prompts of any length."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    ends = (tokenizer.convert_tokens_to_ids(END), tokenizer.bos_token_id)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    options = tuple(ids(text) for text in ["good", "goodly", "terrible", "amazing", "3", "12", "1"])
    return [
        ScoreRequest(f"q{n}", ids("<s>user: " + "knows 12 answers " * n), options, ends)
        for n in range(1, 13)
    ]


@pytest.fixture(scope="module")
def model(model_dir: Path) -> LlamaForCausalLM:
    torch.set_num_threads(1)  # the model is tiny, and the server wants the cores
    return LlamaForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()


def exact(model: LlamaForCausalLM, request: ScoreRequest) -> tuple[list[list[float]], list[float]]:
    """One plain forward pass for every continuation."""
    tokens: list[list[float]] = []
    ends: list[float] = []
    for continuation in request.continuations:
        ids = [*request.prompt_token_ids, *continuation]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
        logprobs = logits.log_softmax(-1)
        start = len(request.prompt_token_ids) - 1
        tokens.append([float(logprobs[start + n, t]) for n, t in enumerate(continuation)])
        ends.append(float(logprobs[-1, list(request.terminator_ids)].logsumexp(-1)))
    return tokens, ends


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        ("completions", {"prompt": [[1, 5, 6], [1, 7, 8]]}),
        ("chat/completions", {"messages": [{"role": "user", "content": "good"}]}),
    ],
)
def test_the_server_repeats_a_requests_id(
    engine: VllmEngine, path: str, prompt: dict[str, Any]
) -> None:
    """On which the client relies to notice exchanged answers."""
    name = "grace-" + 32 * "a"
    answer = httpx.post(
        f"{engine.describe()['base_url']}/v1/{path}",
        json={"model": "tiny", "max_tokens": 1, **prompt},
        headers={"X-Request-Id": name},
        timeout=PATIENCE_S,
    ).json()
    assert name in answer["id"]


@pytest.mark.parametrize("kind", ["engine", "endpoint"])
def test_scores_agree_with_a_plain_forward_pass(
    kind: str,
    model: LlamaForCausalLM,
    score_requests: list[ScoreRequest],
    request: pytest.FixtureRequest,
) -> None:
    scores = {score.key: score for score in request.getfixturevalue(kind).score(score_requests)}
    assert set(scores) == {asked.key for asked in score_requests}
    for asked in score_requests:
        tokens, ends = exact(model, asked)
        score = scores[asked.key]
        assert score.error is None
        assert score.token_logprobs is not None
        for measured, expected in zip(score.token_logprobs, tokens, strict=True):
            assert measured == pytest.approx(expected, abs=1e-4)
        assert score.terminator_logprobs == pytest.approx(ends, abs=1e-4)


@pytest.mark.parametrize("name", ["tiny-kind", "tiny-other"])
def test_adapters_answer_on_the_bases_server_as_in_this_process(
    name: str,
    engine: VllmEngine,
    run: Path,
    models: Callable[[str], dict[str, ModelEntry]],
    score_requests: list[ScoreRequest],
) -> None:
    base = {score.key: score for score in engine.score(score_requests)}
    sampled = [generation(str(n), n) for n in range(4)]
    with on_the_server(run, name, models("vllm")) as adapted:
        assert adapted.describe()["base_url"] == engine.describe()["base_url"], "one server"
        assert adapted.describe()["served_together"] == ["tiny", "tiny-kind", "tiny-other"]
        served = {score.key: score for score in adapted.score(score_requests)}
        answers = {one.key: one.text for one in adapted.generate(sampled)}
    assert answers != {one.key: one.text for one in engine.generate(sampled)}
    own = models("transformers")[name]
    with TransformersEngine("k", own, requests=REQUESTS, root=ROOT, threads=1) as here:
        computed = {score.key: score for score in here.score(score_requests)}
    moved = 0.0
    for key, score in computed.items():
        assert score.token_logprobs is not None
        pairs = zip(score.token_logprobs, served[key].token_logprobs or [], strict=True)
        for one, other in pairs:
            assert other == pytest.approx(one, abs=1e-4)
        assert served[key].terminator_logprobs == pytest.approx(score.terminator_logprobs, abs=1e-4)
        pairs = zip(score.token_logprobs, base[key].token_logprobs or [], strict=True)
        moved = max(moved, *(abs(a[0] - b[0]) for a, b in pairs))
    assert moved > 0.5, "it is to change what the base says"


def test_the_server_passes_the_canary_and_is_read_by_nodes(
    engine: VllmEngine, score_requests: list[ScoreRequest]
) -> None:
    assert all(score.error is None for score in engine.score(score_requests))
    facts = engine.describe()["scoring"]
    assert facts["way"] == "logprob_token_ids"
    # The path is open and the request well formed: only the runner for CPUs cannot do it.
    assert "does not offer `prompt_logprob_token_ids`" in facts["reason"]
    assert "requires the V2 model runner" in facts["reason"]


def test_the_queries_of_a_trial_share_a_story(
    engine: VllmEngine, model: LlamaForCausalLM, score_requests: list[ScoreRequest]
) -> None:
    first = score_requests[-1]
    story = first.prompt_token_ids
    trial = [
        ScoreRequest(f"t{n}", (*story, 7 + n, 9), first.continuations, first.terminator_ids, "t")
        for n in range(5)
    ]
    scores = {score.key: score for score in engine.score(trial)}
    for asked in trial:
        tokens, ends = exact(model, asked)
        score = scores[asked.key]
        assert score.token_logprobs is not None
        for measured, expected in zip(score.token_logprobs, tokens, strict=True):
            assert measured == pytest.approx(expected, abs=1e-4)
        assert score.terminator_logprobs == pytest.approx(ends, abs=1e-4)


@pytest.mark.parametrize("way", [PROMPTS, NODES])
def test_each_way_that_a_cpu_offers_is_exact(
    way: str,
    engine: VllmEngine,
    model: LlamaForCausalLM,
    score_requests: list[ScoreRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine._scorer, "way", way)
    (score,) = engine.score(score_requests[3:4])
    tokens, ends = exact(model, score_requests[3])
    assert score.token_logprobs is not None
    for measured, expected in zip(score.token_logprobs, tokens, strict=True):
        assert measured == pytest.approx(expected, abs=1e-4)
    assert score.terminator_logprobs == pytest.approx(ends, abs=1e-4)


def test_a_server_that_reads_other_prompts_is_found_out(
    engine: VllmEngine, score_requests: list[ScoreRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    post = engine._client.post

    async def cut(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await post(path, {**body, "truncate_prompt_tokens": 8})

    monkeypatch.setattr(engine._client, "post", cut)
    monkeypatch.setattr(engine._scorer, "way", None)
    with pytest.raises(EngineError, match="reads other prompts than it is sent: it counted"):
        list(engine.score(score_requests))


@pytest.mark.parametrize("way", ["_by_completions", "_by_chat"])
def test_bounds_from_the_likeliest_tokens_hold_the_exact_scores(
    way: str,
    endpoint: EndpointEngine,
    model: LlamaForCausalLM,
    model_dir: Path,
    score_requests: list[ScoreRequest],
) -> None:
    """As of a server that does not offer what this one would be asked for first."""
    entry = ModelEntry(name=str(model_dir), tokenizer=str(model_dir), dtype="float32", gpus=0)
    tokenizer = ChatTokenizer("tiny", entry, ROOT)
    base_url = endpoint.describe()["base_url"]
    remote = ModelEntry(
        name="tiny", engine="endpoint", base_url=base_url, tokenizer=str(model_dir), gpus=0
    )
    options, ends = score_requests[0].continuations, score_requests[0].terminator_ids
    shown = unknown = 0
    with EndpointEngine("remote", remote, requests=REQUESTS) as engine:
        ask = getattr(engine, way)
        for text in ("How many?", "It was good, terrible.", "12 answers 3"):
            messages = ({"role": "user", "content": text},)
            asked = ScoreRequest(
                text, tokenizer.render(messages).token_ids, options, ends, None, messages
            )
            score = engine._loop.run(ask(asked))
            assert score.error is None
            tokens, terminators = exact(model, asked)
            for own, truth, end in zip(score.bounds, tokens, terminators, strict=True):
                for one, value in zip((*own.tokens, own.terminators), (*truth, end), strict=True):
                    assert one.lower - 1e-4 <= value <= one.upper + 1e-4
                    shown += one.exact
                    unknown += one == (-math.inf, 0)
    assert shown > 0
    assert (unknown == 0) == (way == "_by_completions")


def test_more_ids_than_one_request_may_read(
    engine: VllmEngine, model: LlamaForCausalLM, score_requests: list[ScoreRequest]
) -> None:
    first = score_requests[0]
    every = ScoreRequest("all", first.prompt_token_ids, tuple((n,) for n in range(200)), (1,))
    (score,) = engine.score([every])
    assert score.error is None
    assert score.token_logprobs is not None
    tokens, _ = exact(model, every)
    assert [value for (value,) in score.token_logprobs] == pytest.approx(
        [value for (value,) in tokens], abs=1e-4
    )


def test_a_prompt_that_is_too_long_spoils_only_its_own_score(
    engine: VllmEngine, score_requests: list[ScoreRequest]
) -> None:
    first, second = score_requests[:2]
    long = ScoreRequest("long", (5,) * 300, first.continuations, first.terminator_ids)
    scores = {score.key: score for score in engine.score([first, long, second])}
    assert scores[first.key].error is None
    assert scores[second.key].error is None
    assert scores["long"].token_logprobs is None
    assert "maximum context length is 256 tokens" in str(scores["long"].error)


def generation(
    key: str, seed: int, temperature: float = 1.0, length: int = 16
) -> GenerationRequest:
    prompt = tuple(range(5, 5 + length))
    messages = ({"role": "user", "content": "How many?"},)
    return GenerationRequest(key, messages, prompt, Decoding(temperature, 1.0, 12), seed)


def test_the_same_seed_gives_the_same_answer_alone_and_under_load(engine: VllmEngine) -> None:
    (alone,) = engine.generate([generation("alone", 7)])
    together = list(engine.generate([generation(str(n), n) for n in range(24)]))
    again = {answer.key: answer.text for answer in together}
    assert again["7"] == alone.text
    assert len(set(again.values())) > 20, "different seeds are to draw different answers"


def test_more_prompts_at_once_than_the_server_reads_in_one_pass(engine: VllmEngine) -> None:
    # 32 × 240 tokens, all different; reading one of the prompts in parts would kill a CPU server,
    # as they have seeds.
    before = engine.describe()["base_url"]
    long = [generation(str(n), n, 1.0, 240) for n in range(64)]
    different = [replace(r, prompt_token_ids=(5 + r.seed, *r.prompt_token_ids[1:])) for r in long]
    answers = list(engine.generate(different))
    assert [answer.error for answer in answers] == [None] * 64
    (after,) = engine.generate([generation("after", 1)])
    assert after.error is None
    assert httpx.get(f"{before}/health").status_code == 200, "it was restarted"


def test_an_answer_has_its_facts(engine: VllmEngine) -> None:
    (answer,) = engine.generate([generation("one", 1)])
    assert answer.error is None
    assert answer.text
    assert END not in answer.text
    assert answer.finish_reason in {"stop", "length"}
    assert answer.usage["prompt_tokens"] == 16
    assert 1 <= answer.usage["completion_tokens"] <= 12
    assert answer.completed_at is not None
    assert answer.completed_at.endswith("+00:00")
    assert answer.processing_time_ms is not None
    assert answer.processing_time_ms > 0


def test_the_end_token_is_not_part_of_the_text(engine: VllmEngine) -> None:
    # At a high temperature some of many short answers stop by themselves.
    requests = [
        GenerationRequest(
            str(n), ({"role": "user", "content": "x"},), (5, 6), Decoding(2.0, 1.0, 120), n
        )
        for n in range(60)
    ]
    stopped = [a for a in engine.generate(requests) if a.finish_reason == "stop"]
    assert stopped
    assert all(answer.text is not None and END not in answer.text for answer in stopped)


def test_a_prompt_that_is_too_long_is_an_error_of_its_own(engine: VllmEngine) -> None:
    answers = {
        a.key: a for a in engine.generate([generation("ok", 1), generation("long", 1, 1, 300)])
    }
    assert answers["ok"].error is None
    assert answers["long"].text is None
    assert "maximum context length is 256 tokens" in str(answers["long"].error)


def test_facts_of_the_server(engine: VllmEngine, model_dir: Path) -> None:
    facts = engine.describe()
    assert facts["engine"] == "vllm"
    assert facts["version"].startswith("0.")
    assert (facts["device"], facts["dtype"]) == ("cpu", "float32")
    assert facts["max_model_len"] == 256
    assert facts["model"] == str(model_dir)


def test_a_remote_chat_answer(endpoint: EndpointEngine) -> None:
    first, second = (next(iter(endpoint.generate([generation(key, 3)]))) for key in ("one", "two"))
    assert first.error is None
    assert first.text == second.text
    assert first.usage["completion_tokens"] >= 1
    assert math.isfinite(first.processing_time_ms or math.nan)
