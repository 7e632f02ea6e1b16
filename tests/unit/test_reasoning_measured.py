"""Reasoning models: experiment 2 after thinking, on toys of which the truth is known."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from engines_for_tests import OpenEngine
from reasoning_runs import (
    CLOSINGS,
    STUDY,
    ids_of,
    items_of,
    measured,
    run_of,
    tokeniser_folders,
    traces_of,
)
from toy_reasoners import (
    ToyReasoner,
    reasoner,
)

from grace.engines.answer_keys import AnswerKeys
from grace.engines.base import Generation
from grace.engines.journaled import JournaledEngine
from grace.errors import EngineError
from grace.experiments.measurement import SecondReadings, run_scoring
from grace.experiments.rereading import Rereader
from grace.journal import Journal
from grace.models.chat import tokenizer_of
from grace.provenance.journal_check import Answers, differences
from grace.results.reasoning import TRACE_TABLE, trace_rows
from grace.results.records import write_json, write_records
from grace.results.tables import (
    probability_columns,
    probability_rows,
    wording_columns,
)
from grace.scoring.distributions import jensen_shannon
from grace.scoring.records import distribution
from grace.scoring.rereading import LEAST
from grace.scoring.rounding import Precision
from grace.scoring.traces import between_traces
from grace.settings.output_configs import DecodingConfig
from grace.settings.outputs import thinking_config


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return tokeniser_folders(tmp_path_factory)


# --- experiment 2 after thinking: toys of which the truth is known --------------------------------


def normalised(masses: dict[str, float]) -> list[float]:
    return [mass / math.fsum(masses.values()) for mass in masses.values()]


def test_all_traces_together_give_the_known_distribution(folders):
    (record,), toy = measured(folders["qwen3"], in_order=True, traces=27)
    (query,) = record["queries"]
    found = list(distribution(query).values())
    truth = toy.marginal()
    assert jensen_shannon(found, normalised(truth)) <= 1e-12  # the bar is .003 bits
    assert query["option_mass"] == pytest.approx(math.fsum(truth.values()), abs=1e-12)
    for option in query["options"]:
        assert math.exp(option["logprob"]) == pytest.approx(truth[option["text"]], abs=1e-12)
    facts = query["reasoning"]
    assert (facts["traces"], facts["closed"], facts["unanswered"]) == (27, 24, 3)
    # Each distribution by hand, and how they vary.
    each = [normalised(masses) for trace in toy.every if (masses := toy.masses(trace))]
    expected = [statistics.variance(values) for values in zip(*each, strict=True)]
    assert facts["variance"] == pytest.approx(expected, rel=1e-9)


def test_drawn_traces_come_to_the_known_distribution_as_their_error_says(folders):
    distances, inside = [], 0
    for traces in (20, 1000):
        (record,), toy = measured(folders["qwen3"], traces=traces)
        (query,) = record["queries"]
        found, truth = list(distribution(query).values()), normalised(toy.marginal())
        distances.append(jensen_shannon(found, truth))
        errors = query["reasoning"]["standard_error"]
        off = [abs(p - q) / se for p, q, se in zip(found, truth, errors, strict=True)]
        assert max(off) < 4
        inside += sum(one < 2 for one in off)
    assert distances[1] <= 0.003
    assert inside >= 12  # of 16


def test_the_standard_error_is_that_of_repeated_runs():
    toy = ToyReasoner(None, ["x", "y", "z"])

    def records(seed: int):
        draws = random.Random(seed)
        known = [toy.masses(draws.choice(toy.every)) for _ in range(40)]
        return [_record(masses) for masses in known if masses], sum(m is None for m in known)

    def _record(masses):
        options = [{"text": text, "logprob": math.log(mass)} for text, mass in masses.items()]
        return {"options": options, "terminated": False, "option_mass": sum(masses.values())}

    truth = normalised(toy.marginal())
    scores = []
    for seed in range(300):
        own, unanswered = records(seed)
        totals = [math.fsum(math.exp(r["options"][k]["logprob"]) for r in own) for k in range(3)]
        errors = between_traces(own, unanswered)["standard_error"]
        scores.append((totals[0] / math.fsum(totals) - truth[0]) / errors[0])
    assert abs(statistics.fmean(scores)) < 0.25
    assert 0.85 < statistics.stdev(scores) < 1.2


@pytest.mark.parametrize("family", ["qwen3", "r1"])
def test_options_are_measured_behind_the_traces_own_ids(folders, family):
    (record,), toy = measured(folders[family], family=family, traces=5)
    (query,) = record["queries"]
    closing, lead = CLOSINGS[family]
    tail = ids_of(toy._tokenizer, [*closing, *lead])
    assert len(traces_of(record)) == 5
    assert len({trace["request_seed"] for trace in record["traces"]}) == 10
    for trace in traces_of(record):
        if trace["end"] == "closed":
            ids = trace["measured"]["prompt_token_ids"]
            before = trace["token_ids"][: -len(ids_of(toy._tokenizer, closing))]
            assert ids == [*query["prompt_token_ids"], *before, *tail]


@pytest.mark.parametrize("at_budget", ["close", "leave out"])
def test_a_trace_at_the_budget_is_closed_by_force_or_left_out(folders, at_budget):
    if at_budget == "leave out":
        with pytest.raises(EngineError, match="none of 6 traces of at most 3 tokens came to an"):
            measured(folders["qwen3"], traces=6, max_tokens=3, at_budget=at_budget)
        return
    (record,), _ = measured(folders["qwen3"], traces=6, max_tokens=3, at_budget=at_budget)
    (query,) = record["queries"]
    facts = query["reasoning"]
    assert (facts["forced"], facts["closed"]) == (6, 0)
    assert query["status"] == "ok"
    assert {trace["end"] for trace in record["traces"]} == {"forced"}
    for trace in traces_of(record):
        start = [*query["prompt_token_ids"], *trace["token_ids"]]
        assert trace["measured"]["prompt_token_ids"][: len(start)] == start
        assert len(trace["measured"]["prompt_token_ids"]) == len(start) + 2


def test_measurements_behind_traces_are_read_again(folders):
    """Each is a query of its own; one that is not the same stops, and is named with its trace."""
    entry = reasoner(traces=60)
    tokenizer = tokenizer_of("toy", entry, folders["qwen3"])
    run = run_of("exp2")
    items = items_of(run)
    (query,) = STUDY.queries(items[0].trial, items[0].prompts)

    precision = Precision("float32", layers=4, longest_sum=384)

    def measured_twice(engine) -> dict:
        rereader = Rereader(seed=1, share=0.01, precision=precision)
        second = SecondReadings(rereader, OpenEngine(engine))
        settings = thinking_config(entry)
        list(run_scoring(run, items, tokenizer, engine, ["{}"], settings, second))
        return second.rereader.facts()

    toy = ToyReasoner(tokenizer._tokenizer, query.options)
    facts = measured_twice(toy)
    distinct = len(toy.scored) - LEAST
    assert (facts["of"], facts["planned"], facts["read"]) == (distinct, LEAST, LEAST)
    assert facts["worst"] == 0
    assert distinct > 40

    class Fickle(ToyReasoner):
        """Gives other values to what it is asked again."""

        def score(self, requests, known=frozenset()):
            before = {request.key for request in self.scored}
            for score in super().score(requests, known):
                if score.key in before:
                    moved = tuple((own[0] - 0.01, *own[1:]) for own in score.token_logprobs)
                    score = replace(score, token_logprobs=moved)
                yield score

    with pytest.raises(EngineError) as stopped:
        measured_twice(Fickle(tokenizer._tokenizer, query.options))
    assert "are not the same when they are read again" in str(stopped.value)
    assert re.search(r"query '\w+' \([^)]+\) after trace \d+, token 1", str(stopped.value))


def test_identical_traces_are_measured_once_and_count_each_time(folders):
    (record,), toy = measured(folders["qwen3"], traces=200)
    # To the query, and to its null context.
    assert len(toy.generated) == 2 * 200
    assert len(toy.scored) == 2 * 24
    assert len(traces_of(record)) == 200


def test_a_failed_trace_fails_its_query_and_a_rerun_asks_for_it_alone(folders, tmp_path):
    entry = reasoner(traces=6)
    tokenizer = tokenizer_of("toy", entry, folders["qwen3"])
    run = run_of("exp2")
    items = items_of(run, 2)
    (query,) = STUDY.queries(items[0].trial, items[0].prompts)

    class Failing(ToyReasoner):
        def generate(self, requests):
            for place, answer in enumerate(super().generate(requests)):
                fails = place == 3
                yield Generation(answer.key, None, None, error="gone") if fails else answer

    asked = []
    for kind in (Failing, ToyReasoner, ToyReasoner):
        toy = kind(tokenizer._tokenizer, query.options)
        with Journal(tmp_path / "journal") as journal, journaled(toy, journal) as engine:
            records = list(
                run_scoring(run, items, tokenizer, engine, ["{}"], thinking_config(entry))
            )
            keys = engine.answer_keys()
        asked.append((len(toy.generated), len(toy.scored)))
        statuses = [record["status"] for record in records]
    assert asked[0][0] == 18  # two queries and a null context
    assert asked[1][0] == 1
    assert asked[2] == (0, 0)
    assert statuses == ["ok", "ok"]
    whole_and_tampered(tmp_path, records, keys)


def journaled(engine, journal):
    keys = AnswerKeys("transformers", "exp2", {})
    return JournaledEngine(
        lambda: nullcontext(engine), journal, keys=keys, session={"started": "x"}, label="toy"
    )


def whole_and_tampered(folder: Path, records, keys) -> None:
    """What is written agrees with the journal; no edit of trace, measurement or average does."""
    write_json(folder / "provenance.json", {"answers": [], "answer_keys": keys})

    def found(edit=lambda record: None):
        copies = json.loads(json.dumps(records))
        edit(copies[0])
        write_records(folder / "records.json", copies)
        answers = Answers(folder / "journal")
        return list(differences(folder / "records.json", folder / "provenance.json", answers))

    assert found() == []
    edits = [
        lambda record: record["traces"][0]["token_ids"].append(5),
        lambda record: next(t for t in record["traces"] if t["measured"])["measured"]["options"][
            0
        ].update(logprob=-1.0),
        lambda record: record["queries"][0]["options"][0].update(logprob=-1.0),
        lambda record: record["queries"][0]["reasoning"]["standard_error"].__setitem__(0, 0.0),
    ]
    for edit in edits:
        assert found(edit)


def test_tables_hold_traces_truncation_length_and_variance(folders):
    records, _ = measured(folders["qwen3"], traces=8, max_tokens=4)
    columns = wording_columns(records)
    (row,) = probability_rows(
        records, STUDY, 0.0, DecodingConfig(temperature=0.7, top_p=1), columns
    )
    facts = records[0]["queries"][0]["reasoning"]
    assert list(row)[len(probability_columns(STUDY)) :] == list(columns)
    assert (row["reasoning_traces"], row["reasoning_budget"]) == (8, 4)
    assert row["reasoning_tokens"] == facts["tokens_mean"] == 4
    assert row["reasoning_variance"] == max(facts["variance"])
    assert row["reasoning_standard_error"] == max(facts["standard_error"])
    # As sampled: not known of an average, but at the model's own temperature.
    sampled = list(STUDY.sampled_columns().values())
    assert {row[name] for name in sampled} == {None}
    (own,) = probability_rows(records, STUDY, 0.0, DecodingConfig(temperature=1, top_p=1), columns)
    assert None not in {own[name] for name in sampled}
    rows = list(trace_rows(records))
    assert set(rows[0]) == set(TRACE_TABLE)
    totals: dict[tuple[str, int], float] = {}
    for row in rows:
        name = (row["trace_id"], row["trace"])
        totals[name] = totals.get(name, 0) + (row["probability"] or 0)
    assert len(totals) == 2 * 8
    ended = {(row["trace_id"], row["trace"]) for row in rows if row["end"] == "unanswered"}
    assert totals == pytest.approx({name: float(name not in ended) for name in totals})
