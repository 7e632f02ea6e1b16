"""Every way of scoring: worked out by hand, against toy models read from their definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import pytest
from bundled_studies import STUDIES
from engines_for_tests import CharacterTokenizer, ScriptedEngine
from hypothesis import given
from hypothesis import strategies as st
from scripted_runs import items_of, run_of
from toy_queries import END, FORMS, OPTIONS, asked, texts_of, toy

from grace.engines.base import Score
from grace.experiments.measurement import run_scoring
from grace.results.scoring_methods import (
    baselines,
    method_columns,
    method_rows,
    methods_ready,
)
from grace.results.tables import probability_columns, probability_rows
from grace.scoring.bounds import NOTHING_KNOWN, Bounds, Interval
from grace.scoring.joining import QueryPlan
from grace.scoring.methods import COMPARING, METHODS, scored
from grace.scoring.records import Record, bounded_query, distribution, failed_query, measured_query


def of(query: Record, method: str, expected: Sequence[float] | None = None) -> list[float]:
    found = scored(query, method, expected)
    assert found is not None
    assert math.fsum(found.probabilities.values()) == pytest.approx(1, abs=1e-12)
    return list(found.probabilities.values())


def tree(*texts: tuple[str, Sequence[int], Sequence[float], float]) -> Record:
    """A query from each option's text, tokens, their probabilities and that of its end."""
    options = [text for text, *_ in texts]
    plan = QueryPlan((9,), tuple(options), tuple(tuple(ids) for _, ids, _, _ in texts))
    return measured_query(
        "q", options, plan, [[math.log(p) for p in known] for _, _, known, _ in texts],
        [math.log(end) for *_, end in texts],
    )  # fmt: skip


def test_by_hand():
    """A: .5 then .2, ends .5; B: .3, ends .25; C shares A's first token: .5 then .4, ends 1."""
    query = tree(
        ("aa", (1, 2), (0.5, 0.2), 0.5), ("b", (3,), (0.3,), 0.25), ("ac", (1, 4), (0.5, 0.4), 1.0)
    )
    whole, ended = [0.10, 0.30, 0.20], [0.05, 0.075, 0.20]
    mean = [math.sqrt(0.10), 0.30, math.sqrt(0.20)]
    assert of(query, "whole") == pytest.approx([p / 0.6 for p in whole])
    assert of(query, "terminated") == pytest.approx([p / 0.325 for p in ended])
    assert of(query, "mean_token") == pytest.approx([p / sum(mean) for p in mean])
    # .5 for the two that begin alike, .3 for the other.
    assert of(query, "first_token") == pytest.approx([0.25 / 0.8, 0.3 / 0.8, 0.25 / 0.8])
    alike = {method: found.alike for method in METHODS if (found := scored(query, method))}
    assert alike == {"whole": 1, "terminated": 1, "mean_token": 1, "first_token": 2}


@pytest.mark.parametrize("method", COMPARING)
def test_pointwise_mutual_information_by_hand(method: str):
    query = tree(("yes", (1,), (0.6,), 1.0), ("no", (2,), (0.3,), 1.0))
    # .6/.8 to .3/.2: what is said whatever the prompt counts less.
    known = [math.log(0.8), math.log(0.2)]
    assert of(query, method, known) == pytest.approx([0.75 / 2.25, 1.5 / 2.25])
    # Options that have little mass together after the null context count in the same proportion.
    tenth = [value - math.log(10) for value in known]
    assert of(query, method, tenth) == pytest.approx([0.75 / 2.25, 1.5 / 2.25])
    assert of(query, method, [-1.0, -1.0]) == pytest.approx(of(query, "whole"))
    found = scored(query, method, known)
    assert found is not None
    assert found.scores == pytest.approx((math.log(0.75), math.log(1.5)))
    assert scored(query, method) is None
    assert scored(query, method, [0.0, -math.inf]) is None


def test_the_first_token_is_the_first_in_which_options_differ():
    query = tree(
        ("It was bad", (5, 6, 1), (0.9, 0.8, 0.6), 1.0),
        ("It was good", (5, 6, 2), (0.9, 0.8, 0.3), 1.0),
    )
    assert of(query, "first_token") == pytest.approx([2 / 3, 1 / 3])


def test_an_option_that_begins_another_has_its_end_for_a_first_token():
    query = tree(("bad", (1,), (0.5,), 0.75), ("badly", (1, 2), (0.5, 0.2), 1.0))
    assert query["terminated"]
    assert of(query, "first_token") == pytest.approx([0.75 / 0.95, 0.2 / 0.95])
    assert of(query, "whole") == of(query, "terminated")


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6))
def test_one_token_options_that_surely_end_are_alike_in_all_ways(weights: list[float]):
    total = sum(weights)
    query = tree(*((chr(97 + i), (i,), (w / total,), 1.0) for i, w in enumerate(weights)))
    ways = [method for method in METHODS if method not in COMPARING]
    assert {tuple(of(query, method)) for method in ways} == {tuple(of(query, "whole"))}
    assert of(query, "whole") == pytest.approx([w / total for w in weights])


@given(st.integers(0, 10**6), st.sampled_from([0.2, 1, 3]), OPTIONS, FORMS)
def test_against_toy_models_from_their_definition(
    seed: int, peaked: float, options: list[str], forms: Sequence[str]
):
    model = toy(seed, 8, peaked)
    query = asked(model, options, forms)
    by_option = [texts_of(option, forms) for option in options]
    every = [text for texts in by_option for text in texts]

    def whole(text: tuple[int, ...]) -> float:
        return math.prod(model(text[:at])[token] for at, token in enumerate(text))

    shared = 0
    while len({text[: shared + 1] for text in every}) == 1:
        shared += 1

    def first(text: tuple[int, ...]) -> float:
        begins = (*text, END)[shared]
        same = sum((*other, END)[shared] == begins for other in every)
        return model(text[:shared])[begins] / same

    ways = {
        "terminated": lambda text: whole(text) * model(text)[END],
        "mean_token": lambda text: whole(text) ** (1 / len(text)),
        "first_token": first,
    }
    for method, score in ways.items():
        masses = [sum(map(score, texts)) for texts in by_option]
        assert of(query, method) == pytest.approx([mass / sum(masses) for mass in masses])
    assert scored(query, "whole").probabilities == distribution(query)  # type: ignore[union-attr]


def test_what_was_not_measured_has_no_score():
    plan = QueryPlan((9,), ("a", "b"), ((1,), (2,)))
    failed = failed_query("q", ["a", "b"], plan, "no answer")
    exact, open_end = Interval(-1.0, -1.0), Bounds((NOTHING_KNOWN,), NOTHING_KNOWN)
    bounded = bounded_query("q", ["a", "b"], plan, [open_end, open_end])
    without_end = bounded_query("q", ["a", "b"], plan, [Bounds((exact,), NOTHING_KNOWN)] * 2)
    for method in METHODS:
        assert scored(failed, method) is None
        assert scored(bounded, method) is None
        assert (scored(without_end, method, [-1.0, -1.0]) is None) == (method == "terminated")


def test_a_way_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="whole, terminated"):
        scored(tree(("a", (1,), (0.5,), 1.0)), "letters")


@pytest.mark.parametrize("study", ["study1", "study2"])
def test_the_table_holds_each_prompt_once_a_method(study: str):
    run = run_of(study, "exp2")
    records = list(run_scoring(run, items_of(run, 12), CharacterTokenizer(), ScriptedEngine()))
    expected = baselines(records, run.study)
    rows = pd.DataFrame(
        list(method_rows(records, run.study, expected)), columns=[*method_columns(run.study)]
    )
    measured = pd.DataFrame(
        list(probability_rows(records, run.study, 0.5)), columns=[*probability_columns(run.study)]
    )
    for (_, name), means in expected.design.items():
        first = {
            str(query["messages"]): list((distribution(query) or {}).values())
            for record in records
            for query in record["queries"]
            if query["name"] == name
        }
        assert list(map(math.exp, means)) == pytest.approx(
            [sum(column) / len(first) for column in zip(*first.values(), strict=True)]
        )
    prompts = len({record["prompt_id"] for record in records})
    assert rows.groupby("scoring_method").size().to_dict() == dict.fromkeys(METHODS, prompts)
    # Two replications are copies; a failed one leaves its place to the other.
    failed = rows.assign(**dict.fromkeys(run.study.probability_columns()))
    both = methods_ready(run.study, [failed, rows, rows], [measured] * 3)
    assert len(both) == len(rows)
    whole = both[both["scoring_method"] == "whole"].set_index("trial_index")
    main = measured.set_index("trial_index").loc[whole.index]
    for name in run.study.probability_columns():
        assert list(whole[name]) == list(main[name])
    assert set(both["exp2_status"]) == {"ok"}
    assert both["exp1_status"].isna().all()


def test_ends_are_asked_for_where_the_config_or_a_query_needs_them():
    """Study 1's options begin no other; "bad" begins "badly"."""

    class Without(ScriptedEngine):
        def score(self, requests, known=frozenset()):
            asked = {request.key: request.terminator_ids for request in requests}
            for score in super().score(requests, known):
                if not asked[score.key]:
                    score = replace(score, terminator_logprobs=())
                yield score

    run = run_of("study1", "exp2")
    engine = Without()
    items = items_of(run, 12)
    list(run_scoring(run, items, CharacterTokenizer(), engine))
    assert all(request.terminator_ids for request in engine.scored)
    records = list(run_scoring(run, items, CharacterTokenizer(), engine, terminators="needed"))
    assert not any(request.terminator_ids for request in engine.scored)
    ends = {
        option["logprob_terminated"]
        for record in records
        for query in record["queries"]
        for option in query["options"]
    }
    assert ends == {None}
    columns = run.study.probability_columns()
    for row in method_rows(records, run.study, baselines(records, run.study)):
        if row["scoring_method"] in {"whole", "terminated"}:
            known = {name for name in columns if row[name] is not None}
            assert bool(known) == (row["scoring_method"] == "whole")
    badly = ("{}", "{}ly")
    list(run_scoring(run, items, CharacterTokenizer(), engine, badly, terminators="needed"))
    assert all(request.terminator_ids for request in engine.scored)


class Uneven(ScriptedEngine):
    """Gives every option a probability of its own after every prompt, in its first token."""

    def score(self, requests, known=frozenset()):
        self.scored = [request for request in requests if request.key not in known]
        for request in self.scored:
            text = "".join(map(chr, request.prompt_token_ids))
            if self.fails(text):
                yield Score(request.key, None, None, error="server said no")
                continue
            weights = [
                1 + (7 * place + len(text)) % 11 for place in range(len(request.continuations))
            ]
            logs = tuple(
                (math.log(weight / 200), *([0.0] * (len(ids) - 1)))
                for weight, ids in zip(weights, request.continuations, strict=True)
            )
            yield Score(request.key, logs, tuple(0.0 for _ in logs))


def measured_and_rows(fails=lambda prompt: False):
    run = run_of("study1", "exp2")
    engine = Uneven(fails=fails)
    records = list(run_scoring(run, items_of(run, 12), CharacterTokenizer(), engine))
    found = list(method_rows(records, run.study, baselines(records, run.study)))
    return engine, records, {(row["scoring_method"], row["asked_id"]): row for row in found}


def test_pmi_divides_by_what_is_said_after_the_null_context():
    engine, records, rows = measured_and_rows()
    # Asked once, after all that trials ask, and held by the first trial that needs it.
    assert [record.get("null_contexts") is not None for record in records] == [True] + [False] * 11
    nulls = {query["null_id"]: query for query in records[0]["null_contexts"]}
    assert len(nulls) == 5
    texts = ["".join(map(chr, request.prompt_token_ids)) for request in engine.scored]
    assert ["N/A" in text for text in texts] == [False] * (len(texts) - 5) + [True] * 5
    for (method, asked_id), row in rows.items():
        if method != "pmi_null":
            continue
        whole = rows["whole", asked_id]
        record = next(one for one in records if one["trial_index"] == row["trial_index"])
        for query in record["queries"]:
            if query["name"] in STUDIES["study1"].auxiliary_queries:
                assert "null_id" not in query
                continue
            null = nulls[query["null_id"]]
            assert null["name"] == query["name"]
            assert "N/A" in null["messages"][0]["content"]
            after_null = {one["text"]: math.exp(one["logprob"]) for one in null["options"]}
            names = {one["text"]: one["text"].rstrip("%") for one in query["options"]}
            form = (
                "prob_knowledge_{}" if query["name"] == "knowledge" else query["name"] + "_prob_{}"
            )
            ratios = {
                text: whole[form.format(name)] / after_null[text] for text, name in names.items()
            }
            for text, name in names.items():
                expected = ratios[text] / sum(ratios.values())
                assert row[form.format(name)] == pytest.approx(expected)


def test_a_null_context_that_fails_costs_its_way_of_scoring_alone(caplog):
    _, records, rows = measured_and_rows(
        fails=lambda text: "N/A\n\nN/A" in text and "is exactly 2?" in text
    )
    assert {record["status"] for record in records} == {"ok"}
    (failed,) = [one for one in records[0]["null_contexts"] if one["status"] != "ok"]
    assert (failed["name"], failed["option_mass"]) == ("state2", None)
    assert "null context of 'state2' was not measured" in caplog.text
    for (method, _), row in rows.items():
        assert (row["state2_mean"] is None) == (method == "pmi_null")
        assert row["state1_mean"] is not None


def test_records_without_null_contexts_have_every_other_way():
    run = run_of("study1", "exp2")
    _, records, rows = measured_and_rows()
    for record in records:  # as earlier versions wrote them
        record.pop("null_contexts", None)
        for query in record["queries"]:
            query.pop("null_id", None)
    older = {
        (row["scoring_method"], row["asked_id"]): row
        for row in method_rows(records, run.study, baselines(records, run.study))
    }
    assert older.keys() == rows.keys()
    for key, row in older.items():
        if key[0] == "pmi_null":
            assert all(row[name] is None for name in run.study.probability_columns())
        else:
            assert row == rows[key]


def test_no_measurement_makes_a_table_without_rows():
    assert len(methods_ready(STUDIES["study1"], [], [])) == 0
