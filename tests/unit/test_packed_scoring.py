"""Packed forests against brute force: one plain forward pass for every option."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import tiny_architectures as tiny
import torch
from scoring_trials import BOS, END, trials

from grace.engines.base import Score, ScoreRequest
from grace.engines.transformers import packed_scoring
from grace.engines.transformers import scorer as scorer_module
from grace.engines.transformers.packed_scoring import PackedReader
from grace.engines.transformers.scorer import COPIES, PACKED, Scorer
from grace.scoring.forest import build_trie
from grace.scoring.packing import Budget, Shape, pack
from grace.settings.config import ScoringConfig


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["trials together", "subtrees of forests"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The two ways of reading forests, of which the device chooses one."""
    subtrees = request.param == "subtrees of forests"
    monkeypatch.setattr(scorer_module, "reads_subtrees", lambda device: subtrees)
    return str(request.param)


def brute_force(model: Any, request: ScoreRequest) -> Score:
    tokens, ends = [], []
    start = len(request.prompt_token_ids) - 1
    for continuation in request.continuations:
        with torch.inference_mode():
            ids = torch.tensor([request.prompt_token_ids + continuation])
            logits = model(input_ids=ids, use_cache=False).logits[0]
            logprobs = torch.log_softmax(logits.to(torch.float64), -1)
        tokens.append(tuple(float(logprobs[start + j, t]) for j, t in enumerate(continuation)))
        ends.append(float(logprobs[-1, list(request.terminator_ids)].logsumexp(-1)))
    return Score(request.key, tuple(tokens), tuple(ends))


def measured(scorer: Scorer, requests: list[ScoreRequest]) -> dict[str, Score]:
    found = list(scorer.score(requests))
    assert sorted(score.key for score in found) == sorted(request.key for request in requests)
    assert all(score.error is None for score in found)
    return {score.key: score for score in found}


def difference(one: Score, other: Score) -> float:
    """The largest difference of two scores of the same request."""
    pairs = [*zip(one.terminator_logprobs, other.terminator_logprobs, strict=True)]
    for left, right in zip(one.token_logprobs, other.token_logprobs, strict=True):
        pairs += zip(left, right, strict=True)
    return max(abs(left - right) for left, right in pairs)


def largest_difference(found: dict[str, Score], model: Any, requests: list[ScoreRequest]) -> float:
    return max(difference(found[r.key], brute_force(model, r)) for r in requests)


# --- parity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["digit", "triple", "byte"])
@pytest.mark.parametrize("architecture", tiny.CONFIGS)
@pytest.mark.usefixtures("mode")
def test_float64_equals_brute_force(architecture: str, kind: str) -> None:
    model = tiny.build(architecture)
    tiny.exact_experts(model)
    requests = trials(tiny.tokeniser(kind))
    assert all(len(request.prompt_token_ids) > tiny.WINDOW for request in requests)
    with tiny.in_float64(model):
        scorer = Scorer("tiny", model, ScoringConfig())
        found = measured(scorer, requests)
        assert scorer.path == PACKED, scorer.reason
        assert largest_difference(found, model, requests) <= 1e-9


@pytest.mark.parametrize("architecture", tiny.CONFIGS)
@pytest.mark.usefixtures("mode")
def test_float32_and_both_paths(architecture: str) -> None:
    model = tiny.build(architecture)
    requests = trials(tiny.tokeniser("digit"))
    packed = Scorer("tiny", model, ScoringConfig())
    assert largest_difference(measured(packed, requests), model, requests) <= 1e-4
    assert packed.path == PACKED, packed.reason
    copies = Scorer("tiny", model, ScoringConfig())
    copies.path = COPIES
    assert largest_difference(measured(copies, requests), model, requests) <= 1e-4


@pytest.mark.parametrize("budget", [7, 40, 100])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mistral", "gpt2", "gpt_oss"])
@pytest.mark.usefixtures("mode")
def test_splitting_changes_nothing(architecture: str, budget: int) -> None:
    model = tiny.build(architecture)
    tiny.exact_experts(model)
    requests = trials(tiny.tokeniser("digit"))
    with tiny.in_float64(model):
        whole = measured(Scorer("tiny", model, ScoringConfig()), requests)
        shapes = []
        forward = model.forward

        def counted(**values: Any) -> Any:
            shapes.append(values["input_ids"].shape)
            return forward(**values)

        model.forward = counted
        scorer = Scorer("tiny", model, ScoringConfig(max_batch_tokens=budget))
        scorer.path = PACKED
        split = measured(scorer, requests)
        assert max(rows * tokens for rows, tokens in shapes) <= budget
        assert max(difference(whole[key], split[key]) for key in whole) <= 1e-9
        checked = Scorer("tiny", model, ScoringConfig(max_batch_tokens=budget))
        measured(checked, requests)
        assert checked.path == PACKED, checked.reason


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("path", [PACKED, COPIES])
@pytest.mark.usefixtures("mode")
def test_without_terminators_options_have_the_same_values_and_no_end(
    architecture: str, path: str
) -> None:
    model = tiny.build(architecture)
    tiny.exact_experts(model)
    requests = trials(tiny.tokeniser("digit"))
    # Every other query of a trial keeps its own.
    endless = [dataclasses.replace(one, terminator_ids=()) for one in requests[::2]]
    with tiny.in_float64(model):
        scorer = Scorer("tiny", model, ScoringConfig())
        scorer.path = path if path == COPIES else None
        found = measured(scorer, [*endless, *requests[1::2]])
        assert scorer.path == path, scorer.reason
        for request in requests:
            score, expected = found[request.key], brute_force(model, request)
            if request in requests[::2]:
                assert score.terminator_logprobs == ()
                score = dataclasses.replace(score, terminator_logprobs=expected.terminator_logprobs)
            assert difference(score, expected) <= 1e-9


@pytest.mark.usefixtures("mode")
def test_only_what_is_read_is_projected_onto_the_vocabulary() -> None:
    model = tiny.build("llama")
    requests = trials(tiny.tokeniser("digit"))
    places: list[int] = []
    with tiny.in_float64(model):
        expected = measured(Scorer("tiny", model, ScoringConfig()), requests)
        head = model.get_output_embeddings()
        handle = head.register_forward_hook(
            lambda _, __, out: places.append(out.shape[:-1].numel())
        )
        scorer = Scorer("tiny", model, ScoringConfig())
        scorer.path = PACKED
        measured(scorer, requests)
        handle.remove()
        groups: dict[str | None, list[ScoreRequest]] = {}
        for request in requests:
            groups.setdefault(request.group, []).append(request)
        forests = [build_trie(group) for group in groups.values()]
        most = sum(len({read.node for read in forest.reads}) for forest in forests)
        # A pass that only others continue projects one place, the least that there is.
        assert 0 < sum(count for count in places if count > 1) <= most
        # A model whose output embedding is not found is read all the same.
        model.get_output_embeddings = lambda: None
        found = measured(Scorer("tiny", model, ScoringConfig()), requests)
        del model.get_output_embeddings
    assert max(difference(expected[key], found[key]) for key in found) <= 1e-9


@pytest.mark.usefixtures("mode")
def test_order_and_company_do_not_matter() -> None:
    model = tiny.build("gemma2")
    requests = trials(tiny.tokeniser("byte"))
    with tiny.in_float64(model):
        together = measured(Scorer("tiny", model, ScoringConfig()), requests)
        orders = [requests[::-1], requests[3:] + requests[:3]]
        orders.append([dataclasses.replace(request, group=None) for request in requests])
        orders += [[request] for request in requests[:4]]
        for order in orders:
            other = measured(Scorer("tiny", model, ScoringConfig()), order)
            assert max(difference(together[key], other[key]) for key in other) <= 1e-9


def test_options_in_another_order_have_the_same_values() -> None:
    model = tiny.build("qwen2")
    request = trials(tiny.tokeniser("digit"))[1]
    turned = dataclasses.replace(request, continuations=request.continuations[::-1])
    with tiny.in_float64(model):
        one = measured(Scorer("tiny", model, ScoringConfig()), [request])[request.key]
        other = measured(Scorer("tiny", model, ScoringConfig()), [turned])[request.key]
    turned_back = Score(other.key, other.token_logprobs[::-1], other.terminator_logprobs[::-1])
    assert difference(one, turned_back) <= 1e-9


def test_sampling_settings_do_not_matter() -> None:
    model = tiny.build("llama")
    requests = trials(tiny.tokeniser("digit"))
    plain = measured(Scorer("tiny", model, ScoringConfig()), requests)
    model.generation_config.update(temperature=0.1, top_p=0.2, do_sample=True)
    assert measured(Scorer("tiny", model, ScoringConfig()), requests) == plain


def test_half_precision_is_summed_in_float32() -> None:
    model = tiny.build("llama").to(torch.bfloat16)
    tokens = tuple((token,) for token in range(tiny.VOCABULARY))
    request = ScoreRequest("all", (BOS, 40, 41), tokens, (END,))
    score = measured(Scorer("tiny", model, ScoringConfig()), [request])["all"]
    total = sum(2.718281828459045 ** row[0] for row in score.token_logprobs)
    assert total == pytest.approx(1, abs=1e-5)  # bfloat16 sums would be off by 1e-2


def test_a_certain_token_keeps_its_digits() -> None:
    """P = 1 - 1e-5 at logits near 1000, where float32 numbers are 6e-5 apart."""
    model = tiny.build("llama")

    def certain(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        fixed = torch.zeros_like(output)
        fixed[..., 7] = 1000.0
        fixed[..., 8] = 1000.0 - 11.5
        return fixed

    model.lm_head.register_forward_hook(certain)
    request = ScoreRequest("q", (BOS, 9), ((7,),), (END, 8))
    score = measured(Scorer("tiny", model, ScoringConfig()), [request])["q"]
    assert score.token_logprobs[0][0] == pytest.approx(-math.exp(-11.5), rel=0.02)
    assert score.token_logprobs[0][0] <= 0


# --- the self-check -----------------------------------------------------------------------------


def without_mask(values: dict[str, Any]) -> None:
    values["attention_mask"] = None


def without_positions(values: dict[str, Any]) -> None:
    values["position_ids"] = None


def refusing(values: dict[str, Any]) -> None:
    raise ValueError("a mask has two dimensions\nand no more")


def with_one_mask(values: dict[str, Any]) -> None:
    values["attention_mask"] = values["attention_mask"]["full_attention"]


@pytest.mark.parametrize(
    ("architecture", "sabotage"),
    [
        ("llama", without_mask),
        ("llama", without_positions),
        ("gpt2", without_positions),
        ("llama", refusing),
        ("gemma2", without_mask),
        ("gemma2", with_one_mask),
        ("gpt_oss", with_one_mask),
    ],
)
@pytest.mark.usefixtures("mode")
def test_a_model_that_mishandles_the_mask_is_found_out(
    architecture: str, sabotage: Callable[[dict[str, Any]], None], caplog: Any
) -> None:
    model = tiny.build(architecture)
    requests = trials(tiny.tokeniser("digit"))
    expected = {request.key: brute_force(model, request) for request in requests}
    forward = model.forward

    def sabotaged(**values: Any) -> Any:
        mask = values.get("attention_mask")
        if isinstance(mask, dict) or (mask is not None and mask.ndim == 4):
            sabotage(values)
        return forward(**values)

    model.forward = sabotaged
    scorer = Scorer("tiny", model, ScoringConfig())
    with caplog.at_level("INFO"):
        found = measured(scorer, requests)
    assert scorer.describe()["path"] == COPIES
    assert "scores by copies of the cache" in caplog.text
    words = "refused: ValueError: a mask has two dimensions" if sabotage is refusing else "beyond"
    assert words in scorer.describe()["self_check"]
    assert max(difference(found[key], expected[key]) for key in found) <= 1e-4


@pytest.mark.usefixtures("mode")
def test_a_window_in_columns_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake that packing invites: distances between columns instead of positions."""
    plain = packed_scoring._Columns.mask

    def by_columns(self: Any, start: int, stop: int, window: int | None, dtype: Any) -> Any:
        depths, self.depths = self.depths, torch.arange(self.depths.shape[1]).expand_as(self.depths)
        mask = plain(self, start, stop, window, dtype)
        self.depths = depths
        return mask

    monkeypatch.setattr(packed_scoring._Columns, "mask", by_columns)
    scorer = Scorer("tiny", tiny.build("mistral"), ScoringConfig())
    measured(scorer, trials(tiny.tokeniser("digit")))
    assert scorer.path == COPIES


@pytest.mark.usefixtures("mode")
def test_a_long_trial_that_no_early_one_stands_for_is_checked_too() -> None:
    """Short trials fit the window, so they cannot show how a longer one is handled."""
    requests = [
        ScoreRequest(str(i), (BOS, 30 + i), ((40,), (41, 42)), (END,), group=str(i))
        for i in range(3)
    ]
    long = ScoreRequest("long", (BOS, *range(50, 70)), ((40,), (41, 42)), (END,), group="long")
    model = tiny.build("gemma2")
    forward = model.forward

    def sabotaged(**values: Any) -> Any:
        if isinstance(values.get("attention_mask"), dict):
            with_one_mask(values)
        return forward(**values)

    model.forward = sabotaged
    short_only, all_of_them = (Scorer("tiny", model, ScoringConfig()) for _ in range(2))
    measured(short_only, requests)
    assert short_only.path == PACKED
    measured(all_of_them, [*requests, long])
    assert all_of_them.path == COPIES


@pytest.mark.usefixtures("mode")
def test_one_querys_nan_does_not_spread() -> None:
    model = tiny.build("llama")
    requests = trials(tiny.tokeniser("byte"))
    scorer = Scorer("tiny", model, ScoringConfig())
    before = measured(scorer, requests)
    assert scorer.path == PACKED
    poison = tiny.VOCABULARY - 1
    bad = dataclasses.replace(
        requests[4],
        key="bad",
        prompt_token_ids=(*requests[4].prompt_token_ids, poison),
    )
    with torch.no_grad():
        model.model.embed_tokens.weight[poison] = torch.nan
    found = {s.key: s for s in scorer.score([*requests[:4], bad, *requests[4:]])}
    assert "not a number" in found.pop("bad").error
    assert max(difference(found[key], before[key]) for key in before) <= 1e-4


# --- memory -------------------------------------------------------------------------------------


def test_memory_is_bounded_by_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks, scores and logits of every pass stay within the budget, for one long story too."""
    model = tiny.build("gemma2")
    reader = PackedReader(model)
    numbers = random.Random(2)
    story = (BOS, *(numbers.randrange(3, tiny.VOCABULARY) for _ in range(300)))
    options = tuple((token, token + 1) for token in range(20, 60))
    request = ScoreRequest("long", story, options, (END,))
    forest = build_trie([request])
    budget = Budget(8192, 2**20)
    (batch,) = pack([forest], budget, reader.shape)
    assert len(batch.chunks) > 3
    seen = []
    forward = model.forward

    def counted(**values: Any) -> Any:
        masks = values["attention_mask"].values()
        output = forward(**values)
        logits = output.logits.numel()
        cells = next(iter(masks)).numel()
        seen.append(
            sum(mask.numel() * 4 for mask in masks) + cells * reader.shape.heads * 8 + logits * 12
        )
        return output

    model.forward = counted
    (values,) = reader.read([forest], batch)
    assert max(seen) <= budget.memory
    assert len(seen) == len(batch.chunks)
    tokens, ends = forest.collect(values)[0]
    model.forward = forward
    assert difference(Score("long", tokens, ends), brute_force(model, request)) <= 1e-4


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("architecture", ["gemma2", "llama", "gpt_oss"])
def test_the_self_check_of_a_long_story_is_bounded_too(architecture: str) -> None:
    model = tiny.build(architecture)
    numbers = random.Random(2)
    story = (BOS, *(numbers.randrange(3, tiny.VOCABULARY) for _ in range(400)))
    requests = [
        ScoreRequest(str(i), story[: 401 - i], ((7,), (8, 9, 10)), (END,), group="g")
        for i in range(2)
    ]
    shapes = []
    forward = model.forward

    def counted(**values: Any) -> Any:
        shapes.append(values["input_ids"].shape[1])
        return forward(**values)

    model.forward = counted
    scorer = Scorer("tiny", model, ScoringConfig(max_batch_mib=1))
    found = measured(scorer, requests)
    assert scorer.path == PACKED, scorer.reason
    assert max(shapes) < 200
    model.forward = forward
    assert largest_difference(found, model, requests) <= 1e-4


def test_a_budget_below_one_token_still_reads() -> None:
    model = tiny.build("llama")
    request = ScoreRequest("q", (BOS, 9, 8), ((7,), (6, 5)), (END,))
    forest = build_trie([request])
    (batch,) = pack([forest], Budget(1, 1), Shape(4, tiny.VOCABULARY, 4, 1))
    assert batch.chunks == tuple((i, i + 1) for i in range(forest.size))
    (values,) = PackedReader(model).read([forest], batch)
    tokens, ends = forest.collect(values)[0]
    assert difference(Score("q", tokens, ends), brute_force(model, request)) <= 1e-4
