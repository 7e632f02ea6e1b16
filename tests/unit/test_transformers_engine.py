"""The transformers engine, on tiny random models that are built here."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub import errors as hub_errors
from scipy import stats
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from grace.engines.base import Decoding, Generation, GenerationRequest, Score, ScoreRequest
from grace.engines.transformers.model import TransformersEngine, preflight
from grace.engines.transformers.packed_scoring import shape_of
from grace.engines.transformers.padded_cache import ROOM, batches
from grace.engines.transformers.sampling import draw
from grace.engines.transformers.scorer import COPIES, PACKED
from grace.errors import EngineError
from grace.scoring.packing import Budget
from grace.settings.config import ModelEntry, RequestsConfig, ScoringConfig

VOCABULARY = 96
END, OTHER_END, END_OF_TEXT = 3, 4, 2  # <end> and <other> end a turn; <eos> is the tokenizer's
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": [END, OTHER_END],
}
SLIDING = {
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SIZES),
    "gemma2": lambda: transformers.Gemma2Config(**SIZES, **SLIDING, query_pre_attn_scalar=8),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SIZES, **SLIDING, query_pre_attn_scalar=8),
    "mistral": lambda: transformers.MistralConfig(**SIZES, sliding_window=6),
}


def save_model(folder: Path, architecture: str) -> Path:
    torch.manual_seed(11)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture]())
    model.save_pretrained(folder)
    words = ["<pad>", "<bos>", "<eos>", "<end>", "<other>", "</think>"]
    words += [f"w{number}" for number in range(VOCABULARY - len(words))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=["<end>", "<other>"],
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project root that holds models/<architecture>."""
    root = tmp_path_factory.mktemp("project")
    for architecture in CONFIGS:
        save_model(root / "models" / architecture, architecture)
    return root


def entry(architecture: str, **values: Any) -> ModelEntry:
    options = {"engine": "transformers", "dtype": "float32", "max_model_len": 128, "gpus": 0}
    return ModelEntry(name=f"models/{architecture}", **{**options, **values})


def open_engine(
    root: Path,
    architecture: str,
    concurrency: int = 64,
    scoring: ScoringConfig | None = None,
    **values: Any,
) -> Any:
    return TransformersEngine(
        "tiny",
        entry(architecture, **values),
        requests=RequestsConfig(concurrency=concurrency),
        root=root,
        threads=1,
        scoring=scoring,
    )


@pytest.fixture(scope="session")
def engine(models: Path) -> Iterator[TransformersEngine]:
    with open_engine(models, "llama") as opened:
        yield opened


def prompt(seed: int, length: int) -> tuple[int, ...]:
    numbers = random.Random(seed)
    return (1, *(numbers.randrange(6, VOCABULARY) for _ in range(length - 1)))


def ask(
    key: str,
    ids: tuple[int, ...],
    *,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_tokens: int = 20,
) -> GenerationRequest:
    return GenerationRequest(key, (), ids, Decoding(temperature, top_p, max_tokens), seed)


def answers(engine: TransformersEngine, requests: list[GenerationRequest]) -> dict[str, Generation]:
    found = list(engine.generate(iter(requests)))
    assert sorted(answer.key for answer in found) == sorted(request.key for request in requests)
    return {answer.key: answer for answer in found}


class Steps:
    """Shapes of all forward passes: (rows, new tokens)."""

    def __init__(self, engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shapes: list[tuple[int, int]] = []
        forward = engine._decoder._model.forward

        def counted(**values: Any) -> Any:
            self.shapes.append(tuple(values["input_ids"].shape))
            return forward(**values)

        monkeypatch.setattr(engine._decoder._model, "forward", counted)

    @property
    def decoding(self) -> list[int]:
        """Rows of every decoding step."""
        return [rows for rows, tokens in self.shapes if tokens == 1]


# --- generate ---------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", CONFIGS)
def test_greedy_equals_plain_generate(models: Path, architecture: str) -> None:
    prompts = [prompt(seed, 3 + seed * 5 % 17) for seed in range(12)]
    requests = [
        ask(str(i), ids, temperature=0, max_tokens=5 + i * 7 % 23) for i, ids in enumerate(prompts)
    ]
    with open_engine(models, architecture, concurrency=5) as engine:
        found = answers(engine, requests)
    model = transformers.AutoModelForCausalLM.from_pretrained(models / "models" / architecture)
    tokenizer = transformers.AutoTokenizer.from_pretrained(models / "models" / architecture)
    for request in requests:
        ids = torch.tensor([request.prompt_token_ids])
        expected = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=request.decoding.max_tokens,
            eos_token_id=[END, OTHER_END, END_OF_TEXT],
        )[0, ids.shape[1] :]
        answer = found[request.key]
        assert answer.error is None
        assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.usage == {
            "prompt_tokens": len(request.prompt_token_ids),
            "completion_tokens": len(expected),
        }
        stopped = int(expected[-1]) in {END, OTHER_END, END_OF_TEXT}
        assert answer.finish_reason == ("stop" if stopped else "length")


@pytest.mark.parametrize("architecture", CONFIGS)
def test_answers_longer_than_the_caches_spare_columns(models: Path, architecture: str) -> None:
    length = 2 * ROOM + 5
    requests = [ask(str(i), prompt(i, 4 + i), temperature=0, max_tokens=length) for i in range(3)]
    with open_engine(models, architecture) as engine:
        engine._decoder._stop_ids = frozenset()
        found = answers(engine, requests)
        for request in requests:
            ids = list(request.prompt_token_ids)
            for _ in range(length):
                with torch.inference_mode():
                    logits = engine._decoder._model(
                        input_ids=torch.tensor([ids]), use_cache=False
                    ).logits
                ids.append(int(logits[0, -1].argmax()))
            expected = engine._tokenizer.decode(ids[-length:], skip_special_tokens=True)
            assert found[request.key].text == expected


def test_a_tiny_nucleus_is_greedy(engine: TransformersEngine) -> None:
    prompts = [prompt(i, 5 + i) for i in range(6)]
    greedy = answers(engine, [ask(str(i), ids, temperature=0) for i, ids in enumerate(prompts)])
    nucleus = answers(engine, [ask(str(i), ids, top_p=1e-6) for i, ids in enumerate(prompts)])
    assert {k: a.text for k, a in nucleus.items()} == {k: a.text for k, a in greedy.items()}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_same_seed_same_answer_alone_and_under_load(models: Path, architecture: str) -> None:
    wanted = [
        ask(f"wanted {i}", prompt(i, 4 + 9 * i), seed=900 + i, top_p=top_p, max_tokens=30)
        for i, top_p in enumerate([1.0, 0.9, 0.6])
    ]
    others = [
        ask(str(i), prompt(100 + i, 2 + i % 31), seed=i, temperature=0.3 * (i % 5), top_p=0.95)
        for i in range(50)
    ]
    with open_engine(models, architecture, concurrency=9) as engine:
        alone = {request.key: answers(engine, [request])[request.key] for request in wanted}
        mixed = others + wanted
        random.Random(3).shuffle(mixed)
        crowded = answers(engine, mixed)
        reordered = answers(engine, mixed[::-1])
    for request in wanted:
        assert alone[request.key].text
        assert crowded[request.key].text == alone[request.key].text
        assert crowded[request.key].usage == alone[request.key].usage
    assert {k: a.text for k, a in reordered.items()} == {k: a.text for k, a in crowded.items()}


def test_identical_prompts_draw_from_the_models_distribution(engine: TransformersEngine) -> None:
    ids, temperature, draws = prompt(5, 12), 0.8, 4000
    requests = [
        ask(str(seed), ids, seed=seed, temperature=temperature, max_tokens=1)
        for seed in range(draws)
    ]
    found = answers(engine, requests)
    model = engine._decoder._model
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    expected = torch.softmax(logits.double() / temperature, -1)
    words = engine._tokenizer.get_vocab()
    # A special token's text is empty, so all special tokens count as one category.
    special = sorted(set(range(6)) - {5})
    counts = torch.zeros(VOCABULARY)
    for answer in found.values():
        counts[words[answer.text] if answer.text else special[0]] += 1
    expected[special[0]] = expected[special].sum()
    expected[special[1:]] = 0
    common = expected * draws >= 5
    observed = [*counts[common].tolist(), counts[~common].sum().item()]
    wanted = [*expected[common].tolist(), expected[~common].sum().item()]
    assert common.sum() > 10
    assert stats.chisquare(observed, [p * draws for p in wanted]).pvalue > 0.001


def test_more_requests_than_rows(
    engine: TransformersEngine, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_engine(models, "llama", concurrency=7) as narrow:
        steps = Steps(narrow, monkeypatch)
        requests = [ask(str(i), prompt(i, 3 + i % 9), seed=i) for i in range(60)]
        found = answers(narrow, requests)
    assert max(steps.decoding) == 7
    assert all(answer.error is None for answer in found.values())
    with_many = answers(engine, requests)
    assert {k: a.text for k, a in found.items()} == {k: a.text for k, a in with_many.items()}


def test_a_long_answer_holds_nobody_back(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows; one answer of 90 tokens beside 40 answers of 9: a barrier would take 10 batches,
    the first of 90 steps."""
    with open_engine(models, "llama", concurrency=4) as engine:
        engine._decoder._stop_ids = frozenset()  # every answer has the length it is allowed
        steps = Steps(engine, monkeypatch)
        requests = [ask("long", prompt(0, 8), max_tokens=90)]
        requests += [ask(str(i), prompt(i, 8), seed=i, max_tokens=9) for i in range(1, 41)]
        order = [answer.key for answer in engine.generate(requests)]
    drawn = 90 + 40 * 9
    assert order.index("long") >= 27  # the other three rows answered most of the rest meanwhile
    # The last token of an answer needs no forward pass, and its first comes from the prompt's.
    assert sum(steps.decoding) == drawn - 41
    assert len(steps.decoding) < 1.15 * drawn / 4
    with_barrier = 89 + 8 * math.ceil(37 / 4)
    assert len(steps.decoding) < 0.8 * with_barrier


def test_requests_are_taken_as_rows_become_free(models: Path) -> None:
    taken = 0

    def source() -> Iterator[GenerationRequest]:
        nonlocal taken
        for i in range(200):
            taken += 1
            yield ask(str(i), prompt(i, 6), seed=i, max_tokens=4)

    with open_engine(models, "llama", concurrency=4) as engine:
        next(engine.generate(source()))
    assert taken <= 12


def test_identical_prompts_are_read_once(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(engine, monkeypatch)
    found = answers(engine, [ask(str(i), prompt(1, 20), seed=i) for i in range(30)])
    assert [shape for shape in steps.shapes if shape[1] > 1] == [(1, 20)]
    assert len({answer.text for answer in found.values()}) > 20  # each with its own seed


def test_prompts_too_long_fail_and_others_go_on(models: Path) -> None:
    with open_engine(models, "llama", max_model_len=64) as engine:
        engine._decoder._stop_ids = frozenset()
        found = answers(
            engine,
            [
                ask("too long", prompt(0, 64)),
                ask("cut", prompt(0, 60), max_tokens=20),
                ask("empty", ()),
                ask("foreign", (1, VOCABULARY)),
                ask("fine", prompt(0, 10), max_tokens=5),
            ],
        )
    assert "64 tokens" in found["too long"].error
    assert "max_model_len" in found["too long"].error
    assert found["too long"].text is None
    assert found["cut"].usage["completion_tokens"] == 4
    assert found["cut"].finish_reason == "length"
    assert found["empty"].error == "the prompt is empty"
    assert "outside 0 to 95" in found["foreign"].error
    assert found["fine"].usage == {"prompt_tokens": 10, "completion_tokens": 5}


def test_the_models_own_length_binds_too(models: Path) -> None:
    with open_engine(models, "llama", max_model_len=4096) as engine:
        found = answers(engine, [ask("long", prompt(0, 256))])
    assert "256" in found["long"].error


def test_times_and_reasoning(models: Path) -> None:
    before = datetime.now(UTC)
    thinks = {"prompting": "reasoning", "reasoning": {"format": "think"}}
    with open_engine(models, "llama", **thinks) as engine:
        engine._decoder._stop_ids = frozenset()
        bias = torch.zeros(VOCABULARY)
        bias[5] = 4.0  # </think> becomes likely
        engine._decoder._model.lm_head.register_forward_hook(
            lambda module, args, output: output + bias
        )
        requests = [ask(str(i), prompt(i, 5), seed=i, max_tokens=30) for i in range(8)]
        found = answers(engine, requests)
    assert any(answer.reasoning for answer in found.values())
    assert any(answer.text for answer in found.values())
    for answer in found.values():
        assert "</think>" not in answer.text
        completed = datetime.fromisoformat(answer.completed_at)
        assert completed.utcoffset().total_seconds() == 0
        assert abs((completed - before).total_seconds()) < 60
        assert 0 < answer.processing_time_ms < 60_000


def test_output_that_is_no_number_is_an_error(models: Path) -> None:
    with open_engine(models, "llama") as engine:
        poison(engine, token=50)
        found = answers(engine, [ask("bad", (1, 8, 50)), ask("good", (1, 8, 9), max_tokens=1)])
    assert "not a number" in found["bad"].error
    assert found["bad"].text is None
    assert found["good"].error is None


def poison(engine: TransformersEngine, token: int) -> None:
    """Makes the embedding of one token NaN; the output weights are another tensor."""
    with torch.no_grad():
        engine._decoder._model.model.embed_tokens.weight[token] = torch.nan


# --- score ------------------------------------------------------------------------------------


def score_requests(count: int = 14) -> list[ScoreRequest]:
    numbers = random.Random(8)
    return [
        ScoreRequest(
            str(i),
            prompt(200 + i, 2 + 5 * i % 33),
            tuple(
                tuple(numbers.randrange(6, VOCABULARY) for _ in range(numbers.randrange(1, 7)))
                for _ in range(numbers.randrange(1, 12))
            ),
            ((END,), (END, OTHER_END, END_OF_TEXT), (OTHER_END, END, OTHER_END))[i % 3],
        )
        for i in range(count)
    ]


def scores(engine: TransformersEngine, requests: list[ScoreRequest]) -> dict[str, Score]:
    found = list(engine.score(iter(requests)))
    assert sorted(score.key for score in found) == sorted(request.key for request in requests)
    return {score.key: score for score in found}


def brute_force(model: Any, request: ScoreRequest) -> tuple[list[list[float]], list[float]]:
    """One plain forward pass for every continuation, without cache or padding."""
    tokens, ends = [], []
    start = len(request.prompt_token_ids)
    for continuation in request.continuations:
        with torch.inference_mode():
            ids = torch.tensor([request.prompt_token_ids + continuation])
            logprobs = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
        tokens.append(
            [logprobs[start + j - 1, token].item() for j, token in enumerate(continuation)]
        )
        ends.append(logprobs[-1, sorted(set(request.terminator_ids))].logsumexp(-1).item())
    return tokens, ends


def assert_close(score: Score, tokens: list[list[float]], ends: list[float]) -> None:
    assert score.error is None
    assert [len(row) for row in score.token_logprobs] == [len(row) for row in tokens]
    for measured, exact in zip(score.token_logprobs, tokens, strict=True):
        assert measured == pytest.approx(exact, abs=1e-5)
    assert score.terminator_logprobs == pytest.approx(ends, abs=1e-5)


@pytest.mark.parametrize("path", [PACKED, COPIES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_scores_equal_a_plain_forward(
    models: Path, architecture: str, dtype: torch.dtype, path: str
) -> None:
    requests = score_requests()
    with open_engine(models, architecture) as engine:
        engine._scorer.path = path
        engine._scorer._budget = Budget(100, 2**20)
        found = scores(engine, requests)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        models / "models" / architecture, dtype=dtype
    )
    for request in requests:
        assert_close(found[request.key], *brute_force(model, request))


@pytest.mark.parametrize("path", [None, COPIES])
def test_order_and_resumption_change_no_bit(models: Path, path: str | None) -> None:
    """What is read depends on what is asked, and not on which of it was answered before."""
    requests = score_requests(40)

    def bits(asked: list[ScoreRequest], known: set[str]) -> dict[str, Score]:
        with open_engine(models, "llama") as engine:
            # The first requests are checked by plain passes, too, those of a run that goes on.
            engine._scorer.path = path
            engine._scorer._budget = Budget(100, 2**20)
            return {score.key: score for score in engine.score(iter(asked), known)}

    whole = bits(requests, set())
    numbers = random.Random(5)
    shuffled = numbers.sample(requests, len(requests))
    assert bits(shuffled, set()) == whole
    for count in (1, 25):
        known = {request.key for request in numbers.sample(requests, count)}
        expected = {key: score for key, score in whole.items() if key not in known}
        assert bits(numbers.sample(requests, len(requests)), known) == expected


@pytest.mark.parametrize("memory", [1, 100_000])
def test_batches_and_order_of_copies_do_not_matter(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    requests = score_requests()
    monkeypatch.setattr(engine._scorer, "path", COPIES)
    together = scores(engine, requests)
    monkeypatch.setattr(engine._scorer, "_budget", Budget(8192, memory))
    shape = shape_of(engine._scorer._model)
    steps = Steps(engine, monkeypatch)
    reordered = scores(engine, requests[::-1])
    for rows, tokens in steps.shapes[1:]:
        assert rows == 1 or shape.memory(rows, tokens, tokens, 1) <= memory
    for request in requests:
        alone = scores(engine, [request])[request.key]
        for other in (reordered[request.key], alone):
            assert_close(together[request.key], other.token_logprobs, other.terminator_logprobs)


def test_a_closed_set_of_one_token_sums_to_one(engine: TransformersEngine) -> None:
    request = ScoreRequest("all", prompt(1, 9), tuple((i,) for i in range(VOCABULARY)), (END,))
    score = scores(engine, [request])["all"]
    assert math.fsum(math.exp(row[0]) for row in score.token_logprobs) == pytest.approx(1, abs=1e-6)


def test_scores_that_are_no_numbers_are_errors(models: Path) -> None:
    requests = [
        ScoreRequest("bad prompt", (1, 50, 9), ((8,),), (END,)),
        ScoreRequest("bad continuation", (1, 9, 9), ((8,), (50, 9)), (END,)),
        ScoreRequest("good", (1, 9), ((8,), (7, 9)), (END,)),
    ]
    with open_engine(models, "llama") as engine:
        poison(engine, token=50)
        found = scores(engine, requests)
    for key in ("bad prompt", "bad continuation"):
        assert found[key].token_logprobs is None
        assert found[key].terminator_logprobs is None
        assert "not a number" in found[key].error
    assert found["good"].error is None


def test_requests_that_cannot_be_scored(engine: TransformersEngine) -> None:
    fine = ScoreRequest("fine", prompt(1, 9), ((8,),), (END,))
    found = scores(
        engine,
        [
            fine,
            dataclasses.replace(fine, key="empty", continuations=((8,), ())),
            dataclasses.replace(fine, key="none", continuations=()),
            dataclasses.replace(fine, key="long", prompt_token_ids=prompt(1, 128)),
            dataclasses.replace(fine, key="endless", terminator_ids=(VOCABULARY,)),
            dataclasses.replace(fine, key="foreign", continuations=((VOCABULARY,),)),
        ],
    )
    assert {key for key, score in found.items() if score.error is None} == {"fine"}
    assert "max_model_len" in found["long"].error
    assert found["empty"].error == "a continuation is empty"


# --- sampling and batching ----------------------------------------------------------------------


def drawn(logits: list[float], temperature: float, top_p: float, uniform: float) -> int:
    return int(
        draw(
            torch.tensor([logits]),
            torch.tensor([temperature], dtype=torch.float64),
            torch.tensor([top_p], dtype=torch.float64),
            torch.tensor([uniform], dtype=torch.float64),
        )
    )


def test_draws_follow_the_cumulated_distribution() -> None:
    logits = [math.log(p) if p else -math.inf for p in (0.5, 0.0, 0.3, 0.2, 0.0)]
    uniforms = (0.0, 0.499, 0.501, 0.799, 0.801, 1 - 2**-53)
    assert [drawn(logits, 1, 1, u) for u in uniforms] == [0, 0, 2, 2, 3, 3]
    # Squared and renormalised at temperature 1/2: 25, 9 and 4 of 38.
    assert [drawn(logits, 0.5, 1, u / 38) for u in (24.9, 25.1, 33.9, 34.1)] == [0, 2, 2, 3]
    # The nucleus of 0.6 is the two most probable: 5 and 3 of 8. That of 0.4 is the first.
    assert [drawn(logits, 1, 0.6, u / 8) for u in (4.9, 5.1, 7.99)] == [0, 2, 2]
    assert {drawn(logits, 1, 0.4, u) for u in uniforms} == {0}
    assert {drawn(logits, 0, 1, u) for u in uniforms} == {0}


def test_rows_draw_with_options_of_their_own() -> None:
    torch.manual_seed(0)
    logits = torch.randn(40, 200)
    temperatures = torch.arange(40, dtype=torch.float64) % 4 / 2
    top_ps = 1 - torch.arange(40, dtype=torch.float64) % 3 / 4
    uniforms = torch.rand(40, dtype=torch.float64)
    together = draw(logits, temperatures, top_ps, uniforms)
    alone = [
        int(
            draw(logits[i : i + 1], temperatures[i : i + 1], top_ps[i : i + 1], uniforms[i : i + 1])
        )
        for i in range(40)
    ]
    assert together.tolist() == alone


def test_batches_hold_similar_lengths_within_the_budget() -> None:
    lengths = [5, 100, 7, 6, 30, 31, 5]
    found = list(batches(lengths, 30))
    assert [[lengths[i] for i in batch] for batch in found] == [[5, 5, 6, 7], [30], [31], [100]]
    assert sorted(i for batch in found for i in batch) == list(range(7))
    assert list(batches([], 30)) == []


# --- opening and closing ------------------------------------------------------------------------


def test_describe_says_how_it_scored(models: Path) -> None:
    with open_engine(models, "llama", scoring=ScoringConfig(max_batch_mib=77)) as engine:
        assert engine.describe()["scoring"]["path"] is None
        scores(engine, score_requests())
        facts = engine.describe()["scoring"]
    assert facts["path"] == PACKED
    assert facts["self_check"].startswith("largest difference from plain passes")
    assert facts["max_batch_mib"] == 77


def test_describe(models: Path) -> None:
    before = torch.get_num_threads()
    with open_engine(models, "gemma2", revision="v1") as engine:
        facts = engine.describe()
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    assert facts["engine"] == "transformers"
    assert facts["version"] == f"{transformers.__version__}, torch {torch.__version__}"
    assert facts["device"] == "cpu"
    assert facts["dtype"] == "float32"
    assert facts["threads"] == 1
    assert facts["revision"] == "v1"
    assert facts["attention"] == "eager"  # Gemma 2 caps attention logits, which sdpa cannot
    assert facts["stop_token_ids"] == [END_OF_TEXT, END, OTHER_END]


def test_missing_folder(models: Path) -> None:
    missing = ModelEntry(name="resources/models/absent", engine="transformers", gpus=0)
    for attempt in (
        lambda: preflight("absent", missing, models),
        lambda: TransformersEngine(
            "absent", missing, requests=RequestsConfig(), root=models, threads=1
        ),
    ):
        with pytest.raises(EngineError) as caught:
            attempt()
        message = str(caught.value)
        assert message.startswith("model 'absent': name 'resources/models/absent'")
        assert "there is no folder" in message
        assert "config/models.yaml" in message
        assert "\n" not in message


def test_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "models/empty").mkdir(parents=True)
    with pytest.raises(EngineError, match=r"no config\.json"):
        preflight("empty", entry("empty"), tmp_path)


def test_preflight_passes_what_can_run(models: Path) -> None:
    preflight("tiny", entry("llama"), models)


def test_no_gpu(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for needed, advice in ((1, "gpus: 0"), (2, "engine: vllm")):
        with pytest.raises(EngineError) as caught:
            preflight("big", entry("llama", gpus=needed), models)
        assert "model 'big' needs" in str(caught.value)
        assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (hub_errors.LocalEntryNotFoundError("offline"), "cannot be reached"),
        (hub_errors.HFValidationError("bad id"), "has no such model"),
    ],
)
def test_hub_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, words: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> str:
        raise failure

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(EngineError) as caught:
        preflight("remote", ModelEntry(name="someone/model", gpus=0), tmp_path)
    assert words in str(caught.value)
    assert "someone/model" in str(caught.value)


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "models/part", "llama")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    weights = {k: v for k, v in model.state_dict().items() if "layers.2.mlp" not in k}
    model.save_pretrained(folder, state_dict=weights)
    with pytest.raises(EngineError, match=r"cannot be loaded: the weights lack model\.layers\.2"):
        open_engine(tmp_path, "part")


def test_broken_weights(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "models/torn", "llama")
    (folder / "model.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(EngineError, match="model 'tiny': 'models/torn' cannot be loaded"):
        open_engine(tmp_path, "torn")


def test_recurrent_layers_are_refused(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "models/recurrent", "llama")
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, state_size=4
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with pytest.raises(EngineError, match="engine: vllm"):
        open_engine(tmp_path, "recurrent")
