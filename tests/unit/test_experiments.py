"""Experiments over a scripted engine: order, seeds, duplicates, failures."""

import math
from pathlib import Path

import pytest
from engines_for_tests import CharacterTokenizer, ScriptedEngine
from scripted_runs import DECODING, items_of, run_of

from grace.engines.base import Decoding
from grace.errors import EngineError
from grace.experiments.generation import run_generation
from grace.experiments.measurement import run_scoring

ROOT = Path(__file__).parents[2]


def test_answers_return_to_their_own_trials_in_the_order_asked():
    run = run_of("study2", "exp1")
    items = items_of(run)
    engine = ScriptedEngine(reply=lambda prompt, seed: f"{seed} {prompt}")
    records = list(run_generation(run, items, CharacterTokenizer(), engine, DECODING))
    assert [record["trial_order_in_replication"] for record in records] == list(range(12))
    assert [record["trial_index"] for record in records] != list(range(12))
    for record in records:
        prompt = record["messages"][0]["content"]
        assert record["response"] == f"{record['request_seed']} {prompt}"
        assert record["trial"]["SP_Name"] in prompt
    assert len({record["request_seed"] for record in records}) == 12


def test_replications_ask_in_another_order_with_other_seeds():
    first, second = (
        list(run_generation(run, items_of(run), CharacterTokenizer(), ScriptedEngine(), DECODING))
        for run in (run_of("study1", "exp1", 0), run_of("study1", "exp1", 1))
    )
    assert [r["trial_index"] for r in first] != [r["trial_index"] for r in second]
    assert {r["request_seed"] for r in first}.isdisjoint(r["request_seed"] for r in second)
    assert first[0]["replication_seed"] == 1000
    assert second[0]["replication_seed"] == 1001


def test_a_failed_request_keeps_its_record():
    run = run_of("study2", "exp1")
    items = items_of(run)
    name = items[3].trial["SP_Name"]
    engine = ScriptedEngine(fails=lambda prompt: name in prompt)
    records = list(run_generation(run, items, CharacterTokenizer(), engine, DECODING))
    failed = [record for record in records if record["status"] != "ok"]
    assert len(records) == 12
    assert 0 < len(failed) < 12
    assert all(record["response"] is None for record in failed)
    assert failed[0]["status"] == "error: server said no"


def greedy(engine: ScriptedEngine, limit: int = 300):
    run = run_of("study1", "exp1")
    decoding = Decoding(temperature=0, top_p=1.0, max_tokens=16)
    items = items_of(run, limit)
    return items, list(run_generation(run, items, CharacterTokenizer(), engine, decoding))


def test_identical_prompts_are_asked_once_at_temperature_0(caplog):
    caplog.set_level("INFO")
    engine = ScriptedEngine(reply=lambda prompt, seed: f"{seed} {prompt}")
    items, records = greedy(engine)
    assert len(engine.generated) == 36
    assert "study1_exp1: 300 prompts, 264 of them joined to an identical one" in caplog.text
    assert "to ask" not in caplog.text, "only the journal knows"
    assert [record["trial"] for record in records] == [item.trial.row() for item in items]
    assert len({record["request_seed"] for record in records}) == 300
    assert len({record["asked_as"] for record in records}) == 36
    for place, record in enumerate(records):
        asked_as = records[record["asked_as"]]
        assert record["asked_as"] <= place
        assert asked_as["asked_as"] == record["asked_as"], "which was asked itself"
        assert asked_as["messages"] == record["messages"]
        prompt = record["messages"][0]["content"]
        assert record["response"] == f"{asked_as['request_seed']} {prompt}"
        for shared in ("usage", "response_timestamp", "processing_time_ms", "finish_reason"):
            assert record[shared] == asked_as[shared]


def test_a_failure_is_joined_too():
    items, _ = greedy(ScriptedEngine())
    story = items[0].trial["story_setup"].split("<br>")[0]
    _, records = greedy(ScriptedEngine(fails=lambda prompt: story in prompt))
    failed = [r for r in records if r["status"] != "ok"]
    assert {r["trial_index"] for r in failed} == {
        item.trial_index for item in items if story in item.trial["story_setup"]
    }
    assert all(r["status"] == "error: server said no" for r in failed)


def test_identical_sampled_prompts_draw_independently():
    run = run_of("study1", "exp1")
    engine = ScriptedEngine(reply=lambda prompt, seed: str(seed))
    records = list(run_generation(run, items_of(run, 300), CharacterTokenizer(), engine, DECODING))
    assert len(engine.generated) == 300
    assert len({record["response"] for record in records}) == 300
    assert [record["asked_as"] for record in records] == list(range(300))


def test_nothing_but_failures_is_an_error():
    run = run_of("study2", "exp1")
    engine = ScriptedEngine(fails=lambda prompt: True)
    with pytest.raises(EngineError, match=r"all 12 requests failed.*server said no"):
        list(run_generation(run, items_of(run), CharacterTokenizer(), engine, DECODING))


def test_identical_prompts_are_scored_once_and_joined_back():
    run = run_of("study1", "exp2")
    items = items_of(run, limit=300)
    engine = ScriptedEngine()
    records = list(run_scoring(run, items, CharacterTokenizer(), engine))
    assert len(records) == 300
    assert len(engine.scored) == 36 * 5 + 6 * 4 + 5  # priors by story, null contexts by query
    assert len({record["prompt_id"] for record in records}) == 36
    by_prompt = {}
    for record in records:
        masses = tuple(query["option_mass"] for query in record["queries"])
        assert by_prompt.setdefault(record["prompt_id"], masses) == masses
    assert len(set(by_prompt.values())) == 36


def test_every_option_is_scored_in_every_form():
    run = run_of("study2", "exp2")
    engine = ScriptedEngine()
    forms = ("{}", " {}")
    items = items_of(run, 3)
    records = list(run_scoring(run, items, CharacterTokenizer(), engine, forms))
    assert all(len(request.continuations) == 16 for request in engine.scored)
    for record in records:
        (query,) = record["queries"]
        # The scripted engine shares its first tokens' probability among all texts alike.
        assert len(query["options"]) == 8
        option = query["options"][3]
        assert [form["text"] for form in option["surface_forms"]] == [
            option["text"], f" {option['text']}",
        ]  # fmt: skip
        assert query["option_mass"] == pytest.approx(16 * math.exp(option["logprob"]))
    (plain,) = next(run_scoring(run, items, CharacterTokenizer(), ScriptedEngine()))["queries"]
    assert not any("surface_forms" in option for option in plain["options"])


def test_a_query_that_fails_is_recorded_without_numbers():
    run = run_of("study1", "exp2")
    engine = ScriptedEngine(fails=lambda prompt: "is exactly 2?" in prompt)
    record = next(run_scoring(run, items_of(run, 1), CharacterTokenizer(), engine))
    assert record["status"] == "error: state2 not measured"
    assert [query["status"] for query in record["queries"]] == [
        "ok", "ok", "error: server said no", "ok", "ok",
        "ok", "ok", "error: server said no", "ok",
    ]  # fmt: skip
    assert record["queries"][2]["option_mass"] is None
