"""Experiment 2's distribution as experiment 1 samples, against a toy model enumerated whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_queries import END, FORMS, OPTIONS, Model, asked, texts_of, toy

from grace.scoring import tempering
from grace.scoring.bounds import NOTHING_KNOWN, Bounds
from grace.scoring.joining import QueryPlan
from grace.scoring.records import bounded_query, distribution, failed_query, measured_query
from grace.scoring.tempering import Sampled, place_weights, sampled


def as_drawn(probabilities: Sequence[float], temperature: float, top_p: float) -> list[float]:
    """What a sampler draws from, computed from its definition."""
    order = sorted(range(len(probabilities)), key=lambda i: (-probabilities[i], i))
    if temperature == 0:
        return [float(i == order[0]) for i in range(len(probabilities))]
    powers = [p ** (1 / temperature) for p in probabilities]
    tempered = [power / sum(powers) for power in powers]
    kept, before = set(), 0.0
    for i in order:
        if before >= top_p:
            break
        kept.add(i)
        before += tempered[i]
    total = sum(tempered[i] for i in kept)
    return [p / total if i in kept else 0.0 for i, p in enumerate(tempered)]


def enumerated(
    model: Model, options: Sequence[str], forms: Sequence[str], ended: bool,
    temperature: float, top_p: float,
) -> list[float]:  # fmt: skip
    """Each option's probability, given that one is drawn, token by token over the vocabulary."""
    masses = []
    for option in options:
        mass = 0.0
        for text in texts_of(option, forms):
            p = 1.0
            for place, token in enumerate((*text, END) if ended else text):
                p *= as_drawn(model(text[:place]), temperature, top_p)[token]
            mass += p
        masses.append(mass)
    total = sum(masses)
    return [mass / total for mass in masses] if total else []


def far(first: Sequence[float], second: Sequence[float]) -> float:
    """Total variation distance."""
    return sum(abs(p - q) for p, q in zip(first, second, strict=True)) / 2


TEMPERATURES = st.sampled_from([0, 0.05, 0.3, 0.7, 1, 1.3, 2])


@given(
    st.integers(0, 10**6), st.integers(7, 12), st.sampled_from([0.2, 1, 3]), OPTIONS, FORMS,
    TEMPERATURES, st.sampled_from([1, 0.95, 0.5]),
)  # fmt: skip
def test_what_is_drawn_lies_within_the_bound(
    seed: int, vocabulary: int, peaked: float, options: list[str], forms: Sequence[str],
    temperature: float, top_p: float,
) -> None:  # fmt: skip
    model = toy(seed, vocabulary, peaked)
    query = asked(model, options, forms)
    found = sampled(query, temperature, top_p)
    truth = enumerated(model, options, forms, query["terminated"], temperature, top_p)
    assert truth == [] or found is not None
    if found is not None:
        assert list(found.probabilities) == options
        assert sum(found.probabilities.values()) == pytest.approx(1)
        assert 0 <= found.bound <= 1 + 1e-9
        if truth:
            assert far(list(found.probabilities.values()), truth) <= found.bound + 1e-7


@given(
    st.integers(0, 10**6), st.sampled_from([0.2, 1, 3]), st.sampled_from([0, 0.05, 0.3, 0.7]),
    st.sampled_from([1, 0.9, 0.5]),
)  # fmt: skip
def test_where_every_token_is_known_the_distribution_is_exact(
    seed: int, peaked: float, temperature: float, top_p: float
) -> None:
    model = toy(seed, 4, peaked)
    options = [f"{a}{b}" for a in range(4) for b in range(4)]
    found = sampled(asked(model, options), temperature, top_p)
    assert found is not None
    truth = enumerated(model, options, ("{}",), False, temperature, top_p)
    assert list(found.probabilities.values()) == pytest.approx(truth, abs=1e-7)
    assert found.bound < 1e-6


@given(st.integers(0, 10**6), OPTIONS, FORMS)
def test_at_temperature_1_it_is_what_was_measured(
    seed: int, options: list[str], forms: Sequence[str]
) -> None:
    query = asked(toy(seed, 8, 1), options, forms)
    assert sampled(query, 1, 1) == Sampled(distribution(query) or {}, 0)
    near = sampled(query, 1 - 1e-9, 1)
    assert near is not None
    assert near.probabilities == pytest.approx(distribution(query), abs=1e-5)
    assert near.bound < 1e-4


def test_a_string_is_not_tempered_as_a_whole() -> None:
    """0.6 is split further on and 0.4 is not: the whole strings' powers would favour the other."""
    model = {(): [0, 0.6, 0.4], (1,): [0, 0.6, 0.4], (2,): [1, 0, 0]}

    def query(*logprobs: tuple[float, ...]) -> dict[str, Any]:
        plan = QueryPlan((9,), ("11", "12", "20"), ((1, 1), (1, 2), (2, 0)))
        return measured_query("q", plan.texts, plan, logprobs, (0.0,) * 3)

    found = sampled(
        query((math.log(0.6), math.log(0.6)), (math.log(0.6), math.log(0.4)), (math.log(0.4), 0.0)),
        0.1,
        1,
    )
    assert found is not None
    assert max(found.probabilities, key=lambda option: found.probabilities[option]) == "11"
    assert found.probabilities["20"] == pytest.approx(0.4**10 / (0.4**10 + 0.6**10), abs=1e-6)
    assert enumerated(lambda p: model[p], ["11", "12", "20"], ("{}",), False, 0.1, 1) == (
        pytest.approx(list(found.probabilities.values()), abs=1e-6)
    )


def test_tokens_before_the_options_part_concern_all_alike() -> None:
    """However much is said elsewhere before that, nothing is left open."""
    plan = QueryPlan((9,), ("1 2", "1 3"), ((1, 2), (1, 3)))
    query = measured_query(
        "q", plan.texts, plan, [(math.log(0.1), math.log(0.75)), (math.log(0.1), math.log(0.25))],
        (0.0, 0.0),
    )  # fmt: skip
    found = sampled(query, 0.5, 1)
    assert found is not None
    assert found.probabilities == pytest.approx({"1 2": 0.9, "1 3": 0.1})
    assert found.bound < 1e-6


def test_a_residual_after_they_part_leaves_a_bound() -> None:
    """Of 0.4 after the first word, one token may have all, or a thousand may share it."""
    plan = QueryPlan((9,), ("12", "3"), ((1, 2), (3,)))
    half = math.log(0.5)
    query = measured_query("q", plan.texts, plan, [(half, math.log(0.6)), (half,)], (0.0, 0.0))
    found = sampled(query, 0.5, 1)
    assert found is not None
    # All on one token: 0.36 / (0.36 + 0.16); shared by very many: 1.
    assert found.probabilities["12"] == pytest.approx(0.5, abs=1e-5)
    lowest = (0.36 / 0.52) / (0.36 / 0.52 + 1)
    assert found.bound == pytest.approx(0.5 - lowest, abs=1e-5)


def test_the_greedy_answer_is_the_likeliest_token_at_every_place() -> None:
    plan = QueryPlan((9,), ("11", "12", "2"), ((1, 1), (1, 2), (2,)))
    logs = [(math.log(0.55), math.log(0.5)), (math.log(0.55), math.log(0.45)), (math.log(0.44),)]
    found = sampled(measured_query("q", plan.texts, plan, logs, (0.0,) * 3), 0, 0.5)
    assert found == Sampled({"11": 1.0, "12": 0.0, "2": 0.0}, 0)


def test_an_unmeasured_query_has_no_distribution() -> None:
    plan = QueryPlan((9,), ("1", "2"), ((1,), (2,)))
    assert sampled(failed_query("q", plan.texts, plan, "no answer"), 0.7, 1) is None
    unknown = Bounds((NOTHING_KNOWN,), NOTHING_KNOWN)
    assert sampled(bounded_query("q", plan.texts, plan, [unknown] * 2), 0.7, 1) is None


def test_long_options_do_not_nest_too_deep() -> None:
    plan = QueryPlan((9,), ("a", "b"), (tuple(range(5000)), (1,)))
    logs = [(-1e-9,) * 5000, (math.log(1e-12),)]
    found = sampled(measured_query("q", plan.texts, plan, logs, (0.0, 0.0)), 0.7, 1)
    assert found is not None
    assert found.probabilities["a"] > 0.999


def test_very_low_temperatures_do_not_vanish() -> None:
    weights = place_weights([(1e-30, 1e-30, 0), (1e-31, 1e-31, 1)], temperature=0.01, top_p=1)
    assert weights.other_highest == 1
    assert max(weights.highest) < 1


def test_many_options_cost_their_number_and_not_its_square(monkeypatch) -> None:
    """What an option does not come by is weighed once for all of these, with the same result."""
    texts = tuple(f"{i:03}" for i in range(200))
    ids = tuple(tuple(int(digit) for digit in text) for text in texts)
    plan = QueryPlan((9,), texts, ids)
    logprobs = [tuple(math.log(0.05 + 0.004 * digit) for digit in each) for each in ids]
    query = measured_query("q", texts, plan, logprobs, (0.0,) * len(texts))
    weighed = tempering._weighed
    calls = []

    def counted(branch, *rest):
        calls.append(rest)
        return weighed(branch, *rest)

    monkeypatch.setattr(tempering, "_weighed", counted)
    found = sampled(query, 0.7, 0.95)
    assert found is not None
    # 23 branches, three of them on an option's own way: 200 x 2 x 3, and each once in both ways.
    assert len(calls) <= 200 * 2 * 3 + 2 * 23
    monkeypatch.setattr(tempering, "_pair", weighed_anew(weighed))
    assert sampled(query, 0.7, 0.95) == found


def weighed_anew(weighed):
    """`_pair` without what it keeps."""

    def pair(branch, option, high, whole):
        if branch.option is not None:
            return (1.0, 0.0) if branch.option == option else (0.0, 1.0)
        return weighed(branch, option, high, whole)

    return pair
