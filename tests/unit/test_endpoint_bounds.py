"""Bounds from servers that show only the likeliest tokens, against a toy model's known truth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_openai import Asked, FakeOpenAI, Reply
from scripted_runs import items_of, run_of
from tiny_model import END, build_tiny_model
from transformers import AutoTokenizer

from grace.engines.base import Score, ScoreRequest
from grace.engines.endpoint.client import EndpointEngine
from grace.engines.endpoint.top_logprobs import Shown, interval, of_completions
from grace.errors import EngineError
from grace.experiments.measurement import run_scoring
from grace.models.chat import ChatTokenizer
from grace.results.tables import analysis_ready, probability_columns, probability_rows, write_rows
from grace.results.validation import check_probabilities
from grace.scoring.joining import QueryPlan, plan_query
from grace.scoring.records import bounded_query, distribution, needs_terminator
from grace.settings.config import ModelEntry, RequestsConfig, Thresholds

MESSAGES = ({"role": "user", "content": "The nurse knows how many?"},)
OPTIONS = {
    "single tokens": ["1", "2", "3"],
    "utterances": ["It was terrible", "It was good", "It wasn't good", "It wasn't amazing"],
    "percentages": ["0%", "10%", "20%", "100%"],
    "beginnings": ["good", "goodly", "go"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokeniser whose prompts end in a special token, so that nothing merges with them."""
    folder = build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant: ", f"assistant{END}")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ChatTokenizer:
    return ChatTokenizer("remote", entry(folder, "http://unused"), folder.parent)


def entry(folder: Path, url: str) -> ModelEntry:
    return ModelEntry(name="big", engine="endpoint", base_url=url, tokenizer=folder.name)


@dataclass(frozen=True)
class Toy:
    """A distribution over the vocabulary after every context, steeper with `steepness`.

    It speaks as vLLM does: of tokens with the same text completions show one; the token that is
    drawn is shown although it may be unlikely.
    """

    tokenizer: ChatTokenizer
    steepness: float = 4.0
    offers: tuple[str, ...] = ("completions", "chat")
    most: int | None = 20
    drawn_rank: int = 0

    def logprobs(self, context: tuple[int, ...]) -> np.ndarray:
        size = len(self.tokenizer._tokenizer)
        logits = self.steepness * np.random.default_rng(context).normal(size=size)
        return logits - math.log(np.exp(logits).sum())

    def shown(self, context: tuple[int, ...], count: int) -> list[tuple[str, float]]:
        """The drawn token, then the likeliest ones."""
        logprobs = self.logprobs(context)
        order = np.argsort(-logprobs)
        drawn = int(order[self.drawn_rank])
        top = [int(token) for token in order[: len(order) if self.most is None else count]]
        tokens = list(dict.fromkeys([drawn, *top]))
        return [(self.tokenizer._tokenizer.decode([t]), float(logprobs[t])) for t in tokens]

    def __call__(self, asked: Asked) -> Reply:
        kind = "chat" if "chat" in asked.path else "completions"
        if kind not in self.offers:
            return Reply({"error": "no such path"}, status=404)
        key = "top_logprobs" if kind == "chat" else "logprobs"
        if key not in asked.body:
            return Reply({"error": "Unrecognized argument: prompt_logprobs"}, status=400)
        count = asked.body[key]
        if self.most is not None and count > self.most:
            return Reply({"error": f"`{key}` must be at most {self.most}"}, status=400)
        if kind == "chat":
            context = self.tokenizer.render(asked.body["messages"]).token_ids
            pairs = self.shown(context, count)
            entries = [
                {"token": name, "logprob": value, "bytes": list(name.encode())}
                for name, value in pairs
            ]
            content = [{**entries[0], "top_logprobs": entries[: max(1, count)]}]
            if self.most is None:
                content[0]["top_logprobs"] = entries
            return Reply({"choices": [{"index": 0, "logprobs": {"content": content}}]})
        choices = []
        for index, prompt in enumerate(asked.body["prompt"]):
            pairs = self.shown(tuple(prompt), count)
            logprobs = {"tokens": [pairs[0][0]], "top_logprobs": [dict(pairs)]}
            choices.append({"index": index, "logprobs": logprobs})
        return Reply({"choices": choices[::-1]})

    def truth(self, plan: QueryPlan, ends: tuple[int, ...]) -> list[tuple[float, float]]:
        """Each text's log-probability, without and with its end."""
        found = []
        for ids in plan.option_token_ids:
            context, total = plan.prompt_token_ids, 0.0
            for token in ids:
                total += float(self.logprobs(context)[token])
                context = (*context, token)
            end = math.log(math.fsum(math.exp(self.logprobs(context)[token]) for token in ends))
            found.append((total, total + end))
        return found


@contextmanager
def served(
    reply: Callable[[Asked], Reply], folder: Path, **settings: Any
) -> Iterator[tuple[EndpointEngine, FakeOpenAI]]:
    server = FakeOpenAI(reply)
    requests = RequestsConfig.model_validate({"backoff_s": 0, "attempts": 2, **settings})
    model = entry(folder, server.url)
    with EndpointEngine("remote", model, requests=requests, root=folder.parent) as engine:
        yield engine, server
    server.close()


def planned(tokenizer: ChatTokenizer, options: list[str]) -> tuple[QueryPlan, ScoreRequest]:
    prompt = tokenizer.render(MESSAGES)
    plan = plan_query(tokenizer.tokenise_all, prompt.text, prompt.token_ids, options)
    assert plan.prompt_token_ids == prompt.token_ids
    ends = (*tokenizer.terminator_ids, 7)  # two, as many models have
    return plan, ScoreRequest("q", prompt.token_ids, plan.option_token_ids, ends, None, MESSAGES)


def measure(toy: Toy, options: list[str], folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """The query's record from what the toy shows, and the truth."""
    plan, request = planned(toy.tokenizer, options)
    with served(toy, folder) as (engine, _):
        (score,) = engine.score([request])
    assert score.error is None
    assert score.bounds is not None
    record = bounded_query("q", options, plan, score.bounds)
    json.dumps(record, allow_nan=False)
    return record, toy.truth(plan, request.terminator_ids)


def lower(record: dict[str, Any], name: str) -> float:
    value = record[f"{name}_lower"]
    return -math.inf if value is None else value


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
@pytest.mark.parametrize(
    ("steepness", "drawn_rank", "most"), [(1.0, 0, 20), (4.0, 3, 5), (4.0, 200, 20), (1.0, 200, 5)]
)
@pytest.mark.parametrize("offers", [("completions",), ("chat",)])
def test_the_truth_is_always_within_the_bounds(
    options, steepness, drawn_rank, most, offers, tokenizer, folder
):
    toy = Toy(tokenizer, steepness, offers, most, drawn_rank)
    query, truth = measure(toy, options, folder)
    assert query["status"] == "bounds"
    assert (query["option_mass"], query["residual"], distribution(query)) == (None, None, None)
    place = 1 if query["terminated"] else 0
    mass = math.fsum(math.exp(values[place]) for values in truth)
    assert query["option_mass_lower"] - 1e-12 <= mass <= query["option_mass_upper"] + 1e-12
    for option, (logprob, ended) in zip(query["options"], truth, strict=True):
        assert (option["logprob"], option["logprob_terminated"]) == (None, None)
        assert option["token_logprobs"] is None
        assert lower(option, "logprob") - 1e-9 <= logprob <= option["logprob_upper"] + 1e-9
        assert lower(option, "logprob_terminated") - 1e-9 <= ended
        assert ended <= option["logprob_terminated_upper"] + 1e-9


@pytest.mark.parametrize("offers", [("completions",), ("chat",)])
def test_an_option_that_is_not_shown_is_at_most_as_likely_as_the_least_shown(
    offers, tokenizer, folder
):
    toy = Toy(tokenizer, 4.0, offers)
    plan, _ = planned(tokenizer, OPTIONS["single tokens"])
    query, truth = measure(toy, OPTIONS["single tokens"], folder)
    ranked = np.sort(toy.logprobs(plan.prompt_token_ids))[::-1]
    missing = [
        option
        for option, (logprob, _) in zip(query["options"], truth, strict=True)
        if logprob < ranked[19]
    ]
    assert missing
    for option in missing:
        assert option["logprob_upper"] == pytest.approx(ranked[19])
        assert option["logprob_upper"] <= math.log(1 - np.exp(ranked[:20]).sum() + 1e-5)
        assert option["logprob_lower"] is None


@pytest.mark.parametrize("name", OPTIONS)
def test_it_is_an_ordinary_query_where_everything_is_shown(name, tokenizer, folder):
    query, truth = measure(Toy(tokenizer, 1.0, most=None), OPTIONS[name], folder)
    assert query["status"] == "ok"
    assert "option_mass_lower" not in query
    for option, (logprob, ended) in zip(query["options"], truth, strict=True):
        assert set(option) == {
            "text", "token_ids", "logprob", "token_logprobs", "logprob_terminated",
        }  # fmt: skip
        assert option["logprob"] == pytest.approx(logprob)
        assert option["logprob_terminated"] == pytest.approx(ended)
    assert query["option_mass"] + query["residual"] == 1


def test_a_chat_is_exact_about_single_tokens_that_are_shown(tokenizer, folder):
    options = OPTIONS["single tokens"]
    query, truth = measure(Toy(tokenizer, 1.0, ("chat",), None), options, folder)
    assert query["status"] == "ok"
    assert query["option_mass"] == pytest.approx(sum(math.exp(value) for value, _ in truth))
    for option, (logprob, ended) in zip(query["options"], truth, strict=True):
        assert option["logprob"] == pytest.approx(logprob)
        # Of the end after it a chat says nothing.
        assert option["logprob_terminated"] is None
        assert option["logprob_terminated_lower"] is None
        assert ended <= option["logprob_terminated_upper"] == pytest.approx(logprob)
    assert math.fsum(distribution(query).values()) == pytest.approx(1)


def test_a_chat_says_nothing_of_options_that_begin_before_its_answer(tokenizer, folder):
    _, request = planned(tokenizer, OPTIONS["single tokens"])
    cut = request.prompt_token_ids[:-1]
    longer = tuple((request.prompt_token_ids[-1], *ids) for ids in request.continuations)
    with served(Toy(tokenizer, offers=("chat",)), folder) as (engine, _):
        (score,) = engine.score(
            [ScoreRequest("q", cut, longer, request.terminator_ids, None, MESSAGES)]
        )
    assert {one for own in score.bounds for one in (*own.tokens, own.terminators)} == {
        (-math.inf, 0.0)
    }


def test_what_options_share_counts_once_in_the_most_they_can_have(tokenizer, folder):
    options = ["10%", "100%", "12%", "1%"]
    toy = Toy(tokenizer, 1.0, ("chat",), None)
    plan, _ = planned(tokenizer, options)
    firsts = {ids[0] for ids in plan.option_token_ids}
    assert len(firsts) < len(options)
    query, _ = measure(toy, options, folder)
    most = sum(math.exp(toy.logprobs(plan.prompt_token_ids)[token]) for token in firsts)
    assert query["option_mass_upper"] == pytest.approx(most)


def test_bounds_of_surface_forms_hold_the_sum(tokenizer, folder):
    toy = Toy(tokenizer, 4.0, ("completions",))
    options, forms = ["good", "terrible"], ["{}", " {}"]
    prompt = tokenizer.render(MESSAGES)
    plan = plan_query(
        partial(map, tokenizer.tokenise), prompt.text, prompt.token_ids, options, forms
    )
    ends = tokenizer.terminator_ids
    request = ScoreRequest("q", plan.prompt_token_ids, plan.option_token_ids, ends)
    with served(toy, folder) as (engine, _):
        (score,) = engine.score([request])
    query = bounded_query("q", options, plan, score.bounds)
    truth = [math.exp(logprob) for logprob, _ in toy.truth(plan, ends)]
    assert query["status"] == "bounds"
    for place, option in enumerate(query["options"]):
        summed = math.log(sum(truth[2 * place : 2 * place + 2]))
        assert option["logprob_summed"] is None
        assert lower(option, "logprob_summed") - 1e-9 <= summed
        assert summed <= option["logprob_summed_upper"] + 1e-9
        assert [form["text"] for form in option["surface_forms"]] == [
            option["text"], f" {option['text']}",
        ]  # fmt: skip
    assert not needs_terminator(plan.texts)


# --- names of tokens


NAMES = {"yes": {1}, "no": {2}, " no": {3}, "\ufffd": {4, 5, 6}, "x": {7}}
NAMES = {name: frozenset(ids) for name, ids in NAMES.items()}


def shown(drawn: str | None = None, **entries: float) -> Shown:
    return Shown(tuple((name, math.log(p)) for name, p in entries.items()), drawn)


def test_a_shown_token_is_exact():
    assert interval(shown(yes=0.5, no=0.2), 1, NAMES) == (math.log(0.5), math.log(0.5))


def test_a_token_not_shown_is_at_most_what_is_left_over():
    found = interval(shown(yes=0.6, no=0.3), 7, NAMES)
    assert found.lower == -math.inf
    assert math.exp(found.upper) == pytest.approx(0.1, abs=2e-5)


def test_the_drawn_token_is_no_limit_to_those_not_shown():
    found = interval(shown("x", yes=0.3, no=0.2, x=0.001), 3, NAMES)
    assert math.exp(found.upper) == pytest.approx(0.2)


def test_a_name_of_several_tokens_says_what_is_left_over_by_others():
    found = interval(shown(**{"yes": 0.5, "no": 0.2, "\ufffd": 0.01}), 5, NAMES)
    assert found.lower == -math.inf
    # Another token of that name may be shown in its stead, and be less likely.
    assert math.exp(found.upper) == pytest.approx(0.3, abs=2e-5)


def test_an_unknown_name_may_be_the_tokens():
    found = interval(shown(yes=0.5, no=0.1, YES=0.3), 7, NAMES)
    assert math.exp(found.upper) == pytest.approx(0.3)
    assert found.lower == -math.inf


def test_rounding_never_makes_the_unseen_impossible():
    found = interval(shown(yes=0.999, no=0.0010004), 7, NAMES)
    assert math.isfinite(found.upper)
    assert found.upper >= math.log(1e-5)


# --- what the engine does


def test_ways_are_tried_from_the_best_and_the_choice_is_reported(tokenizer, folder, caplog):
    _, request = planned(tokenizer, OPTIONS["single tokens"])
    others = [ScoreRequest(str(n), *vars_of(request)) for n in range(3)]
    with served(Toy(tokenizer, offers=("chat",)), folder) as (engine, server):
        scores = list(engine.score([request, *others]))
        described = engine.describe()["scoring"]
    assert all(score.bounds is not None for score in scores)
    paths = [asked.path for asked in server.asked]
    assert paths[:2] == ["/v1/completions"] * 2
    # Completions are given up for all requests at once.
    assert paths[2:] == ["/v1/chat/completions"] * 4
    assert described["path"] == "bounds, from the likeliest first tokens of chats"
    assert "status 404" in described["reason"]
    assert "bounds, from the likeliest first tokens of chats" in caplog.text
    body = server.asked[-1].body
    assert (body["logprobs"], body["top_logprobs"], body["temperature"]) == (True, 20, 1)
    assert body["messages"] == list(MESSAGES)


def vars_of(request: ScoreRequest) -> tuple[Any, ...]:
    return (
        request.prompt_token_ids,
        request.continuations,
        request.terminator_ids,
        None,
        request.messages,
    )


def test_as_many_tokens_are_asked_for_as_are_granted(tokenizer, folder):
    _, request = planned(tokenizer, OPTIONS["percentages"])
    again = ScoreRequest("again", *vars_of(request))
    with served(Toy(tokenizer, offers=("completions",), most=5), folder, concurrency=1) as (
        engine,
        server,
    ):
        assert len(list(engine.score([request, again]))) == 2
    asked = [a.body["logprobs"] for a in server.asked if "logprobs" in a.body]
    assert asked == [20, 5, 5]


def test_without_a_tokeniser_it_is_refused_as_ever(tokenizer, folder):
    _, request = planned(tokenizer, OPTIONS["percentages"])
    server = FakeOpenAI(Toy(tokenizer))
    model = ModelEntry(name="big", engine="endpoint", base_url=server.url)
    with (
        pytest.raises(EngineError, match="experiment 2 cannot be measured on it"),
        EndpointEngine("remote", model, requests=RequestsConfig()) as engine,
    ):
        list(engine.score([request]))
    server.close()


def test_a_server_without_any_logprobs_is_refused(folder, tokenizer):
    _, request = planned(tokenizer, OPTIONS["percentages"])
    reply = Reply({"choices": [{"index": 0, "message": {"content": "3"}, "logprobs": None}]})
    with (
        pytest.raises(EngineError, match=r"(?s)cannot be measured on it .*chats: its answers lack"),
        served(lambda _: reply, folder) as (engine, _),
    ):
        list(engine.score([request]))


@pytest.mark.parametrize("bad", [math.nan, 0.25, None, "-0.5", True])
@pytest.mark.parametrize("offers", [("completions",), ("chat",)])
def test_a_bad_value_is_an_error(bad, offers, tokenizer, folder):
    toy = Toy(tokenizer, offers=offers)

    def reply(asked: Asked) -> Reply:
        answer = toy(asked)
        if answer.status == 200:
            place = answer.body["choices"][0]["logprobs"]
            if offers == ("chat",):
                place["content"][0]["top_logprobs"][2]["logprob"] = bad
            else:
                place["top_logprobs"][0][list(place["top_logprobs"][0])[2]] = bad
        return answer

    _, request = planned(tokenizer, OPTIONS["percentages"])
    with served(reply, folder) as (engine, _):
        (score,) = engine.score([request])
    assert_refused(score)


def test_nothing_but_zeros_is_an_error(tokenizer, folder):
    def reply(asked: Asked) -> Reply:
        if "top_logprobs" not in asked.body:
            return Reply(status=404)
        entry = {"token": "1", "logprob": 0.0, "bytes": None}
        content = [{**entry, "top_logprobs": [entry]}]
        return Reply({"choices": [{"index": 0, "logprobs": {"content": content}}]})

    _, request = planned(tokenizer, OPTIONS["percentages"])
    with served(reply, folder) as (engine, _):
        (score,) = engine.score([request])
    assert_refused(score)


def assert_refused(score: Score) -> None:
    assert score.error
    assert score.bounds is None
    assert score.token_logprobs is None


def test_an_api_that_writes_9999_has_shown_nothing():
    known = Shown((("yes", math.log(0.6)), ("no", math.log(0.3))), None)
    reply = {
        "choices": [
            {
                "index": 0,
                "logprobs": {
                    "tokens": ["yes"],
                    "top_logprobs": [{"yes": math.log(0.6), "no": math.log(0.3), "x": -9999.0}],
                },
            }
        ]
    }
    (found,) = of_completions(reply, 1)
    assert found.entries == known.entries


# --- what becomes of it


def records_over(toy: Toy, folder: Path, study: str = "study1") -> list[dict[str, Any]]:
    run = run_of(study, "exp2")
    with served(toy, folder) as (engine, _):
        return list(run_scoring(run, items_of(run, 4), toy.tokenizer, engine))


@pytest.mark.parametrize("study", ["study1", "study2"])
def test_tables_hold_no_number_where_there_are_only_bounds(study, tokenizer, folder, tmp_path):
    records = records_over(Toy(tokenizer, offers=("chat",)), folder, study)
    study_ = run_of(study, "exp2").study
    assert {record["status"] for record in records} == {"bounds"}
    columns = probability_columns(study_)
    write_rows(tmp_path / "p.csv", probability_rows(records, study_, 0.5), columns)
    table = pd.read_csv(tmp_path / "p.csv")
    assert set(table["status"]) == {"bounds"}
    assert set(table["quality_flags"]) == {"only_bounds"}
    numbers = [name for group in study_.probability_groups().values() for name in group]
    assert table[numbers].isna().all().all()
    assert table[[name for name in columns if "option_mass" in name]].isna().all().all()
    checks = {c.name: c for c in check_probabilities(table, study_, 4, Thresholds())}
    assert checks["failure_rate"].value == 0
    assert checks["bounds"].value == 1
    assert checks["bounds"].rows_to_review_total == 4
    assert [check.name for check in checks.values() if not check.passed] == []
    strict = check_probabilities(table, study_, 4, Thresholds(max_bounds_rate=0.5))
    assert [check.name for check in strict if not check.passed] == ["bounds"]
    merged = analysis_ready(study_, None, table)
    assert set(merged["exp2_status"]) == {"bounds"}
