"""Exact answer distributions: joining options to prompts and reading the scores."""

import json
import math
from functools import partial

import pytest

from grace.errors import EngineError
from grace.scoring.bounds import Bounds, Interval
from grace.scoring.joining import plan_query
from grace.scoring.records import (
    bounded_query,
    distribution,
    failed_query,
    measured_query,
    needs_terminator,
)


def by_pieces(*pieces: str):
    """A tokeniser that always takes the longest of `pieces`, else one character."""

    def tokenise(text: str) -> list[int]:
        ids = []
        while text:
            best = max((p for p in pieces if text.startswith(p)), key=len, default=text[0])
            ids.append(sum(ord(c) * 257**i for i, c in enumerate(best)))
            text = text[len(best) :]
        return ids

    return tokenise


def test_options_follow_the_prompt_where_nothing_merges():
    tokenise = by_pieces("10", "%")
    plan = plan_query(partial(map, tokenise), "Q:", tokenise("Q:"), ["10%", "0%"])
    assert plan.prompt_token_ids == tuple(tokenise("Q:"))
    assert plan.option_token_ids == (tuple(tokenise("10%")), tuple(tokenise("0%")))


def test_a_merge_across_the_boundary_backs_off_to_the_common_prefix():
    tokenise = by_pieces(": yes", ": ")
    prompt = tokenise("Q: ")
    plan = plan_query(partial(map, tokenise), "Q: ", prompt, ["yes", "no"])
    assert plan.prompt_token_ids == tuple(tokenise("Q"))
    assert plan.option_token_ids == (
        tuple(tokenise(": yes")),
        tuple(tokenise(": ") + tokenise("no")),
    )
    assert len(plan.option_token_ids[0]) == 1


def test_an_option_without_tokens_is_refused():
    tokenise = by_pieces()
    with pytest.raises(EngineError, match="no token of its own"):
        plan_query(partial(map, tokenise), "Q", tokenise("Q"), ["a", ""])


def test_two_options_with_the_same_tokens_are_refused():
    def tokenise(text: str) -> list[int]:
        return [ord(c) for c in text.lower()]

    with pytest.raises(EngineError, match="same tokens"):
        plan_query(partial(map, tokenise), "q", tokenise("q"), ["yes", "YES"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["bad", "badly"], True), (["10%", "100%"], False), (["10", "100"], True), (["a"], False)],
)
def test_options_that_begin_others_need_a_terminator(options, expected):
    assert needs_terminator(options) is expected


def plan_of(*options: str):
    tokenise = by_pieces()
    return plan_query(partial(map, tokenise), "Q", tokenise("Q"), options)


def test_a_record_holds_sums_mass_and_residual():
    logs = [[math.log(0.5), math.log(0.4)], [math.log(0.3), math.log(0.5)]]
    ends = [math.log(0.9), math.log(0.8)]
    query = measured_query("q", ["ab", "cd"], plan_of("ab", "cd"), logs, ends)
    first = query["options"][0]
    assert first["logprob"] == pytest.approx(math.log(0.2))
    assert first["logprob_terminated"] == pytest.approx(math.log(0.18))
    assert query["option_mass"] == pytest.approx(0.35)
    assert query["residual"] == pytest.approx(0.65)
    assert distribution(query) == pytest.approx({"ab": 0.2 / 0.35, "cd": 0.15 / 0.35})


def test_prefix_options_are_measured_with_their_terminator():
    # P(bad) = .6, of which .5 go on to "ly"; without the terminator the mass would be .6 + .3.
    logs = [[math.log(0.6)], [math.log(0.6), math.log(0.5)]]
    ends = [math.log(0.5), math.log(1.0)]
    query = measured_query("q", ["b", "bl"], plan_of("b", "bl"), logs, ends)
    assert query["terminated"] is True
    assert query["option_mass"] == pytest.approx(0.6)
    assert distribution(query) == pytest.approx({"b": 0.5, "bl": 0.5})


def test_the_bytes_of_a_plain_record():
    logs = [[math.log(0.5), math.log(0.5)], [math.log(0.25)]]
    query = measured_query("q", ["ab", "c"], plan_of("ab", "c"), logs, [0.0, math.log(0.5)])
    assert json.dumps(query) == (
        '{"name": "q", "prompt_token_ids": [81], "options": [{"text": "ab", "token_ids": [97, 98],'
        ' "logprob": -1.3862943611198906, "token_logprobs": [-0.6931471805599453,'
        ' -0.6931471805599453], "logprob_terminated": -1.3862943611198906}, {"text": "c",'
        ' "token_ids": [99], "logprob": -1.3862943611198906, "token_logprobs":'
        ' [-1.3862943611198906], "logprob_terminated": -2.0794415416798357}], "terminated": false,'
        ' "option_mass": 0.5, "residual": 0.5, "status": "ok"}'
    )


def test_forms_with_the_same_tokens_are_never_counted_twice():
    def tokenise(text: str) -> list[int]:
        return [ord(c) for c in " ".join(text.split())]

    with pytest.raises(EngineError, match=r"' yes' and '  yes' have the same tokens.*forms"):
        plan_query(partial(map, tokenise), "Q", tokenise("Q"), ["yes", "no"], [" {}", "  {}"])


def test_an_option_that_is_another_ones_form_is_refused():
    tokenise = by_pieces()
    with pytest.raises(EngineError, match="'not bad' and 'not bad' have the same tokens"):
        plan_query(partial(map, tokenise), "Q", tokenise("Q"), ["bad", "not bad"], ["{}", "not {}"])


def test_a_failed_query_holds_no_number():
    query = failed_query("q", ["a", "b"], plan_of("a", "b"), "timeout")
    assert query["status"] == "error: timeout"
    assert query["option_mass"] is None
    assert query["residual"] is None
    assert all(option["logprob"] is None for option in query["options"])
    assert distribution(query) is None


def test_a_failed_query_in_several_forms_holds_no_number():
    tokenise = by_pieces()
    plan = plan_query(partial(map, tokenise), "Q", tokenise("Q"), ["a", "b"], ["{}", " {}"])
    query = failed_query("q", ["a", "b"], plan, "timeout")
    assert [option["logprob_summed"] for option in query["options"]] == [None, None]
    assert [form["logprob"] for form in query["options"][1]["surface_forms"]] == [None, None]
    assert distribution(query) is None


def known(low: float, high: float | None = None) -> Interval:
    return Interval(math.log(low) if low else -math.inf, math.log(low if high is None else high))


def test_bounds_of_options_that_begin_others_are_those_of_their_ends():
    # P(b) = .6 and P(l | b) = .5 are known; that "b" ends there is between .3 and .4, "bl" .8.
    bounds = [
        Bounds((known(0.6),), known(0.3, 0.4)),
        Bounds((known(0.6), known(0.5)), known(0.8)),
    ]
    query = bounded_query("q", ["b", "bl"], plan_of("b", "bl"), bounds)
    assert query["terminated"] is True
    assert query["status"] == "bounds"
    assert query["option_mass_lower"] == pytest.approx(0.6 * 0.3 + 0.6 * 0.5 * 0.8)
    assert query["option_mass_upper"] == pytest.approx(0.6 * 0.4 + 0.6 * 0.5 * 0.8)
    short, long = query["options"]
    assert short["logprob_lower"] == short["logprob_upper"] == pytest.approx(math.log(0.6))
    assert short["logprob_terminated_lower"] == pytest.approx(math.log(0.18))
    assert short["logprob_terminated_upper"] == pytest.approx(math.log(0.24))
    assert long["logprob_terminated_lower"] == pytest.approx(math.log(0.24))
    assert short["logprob"] is None
    assert distribution(query) is None


def test_ends_that_are_not_needed_may_be_unknown():
    bounds = [Bounds((known(0.6),), known(0, 0.4)), Bounds((known(0.1),), known(0.5))]
    query = bounded_query("q", ["a", "c"], plan_of("a", "c"), bounds)
    assert query["status"] == "ok"
    assert query["option_mass"] == pytest.approx(0.7)
    assert distribution(query) == pytest.approx({"a": 6 / 7, "c": 1 / 7})
    assert [option["logprob_terminated"] for option in query["options"]] == [None, None]
    assert query["options"][0]["logprob_terminated_lower"] is None


def test_known_bounds_make_an_ordinary_record():
    bounds = [Bounds((known(0.6),), known(0.4)), Bounds((known(0.1),), known(0.5))]
    plan = plan_of("a", "c")
    logs, ends = [[math.log(0.6)], [math.log(0.1)]], [math.log(0.4), math.log(0.5)]
    assert bounded_query("q", ["a", "c"], plan, bounds) == measured_query(
        "q", ["a", "c"], plan, logs, ends
    )
