"""The forecast states what a run then logs that it asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from engines_for_tests import CharacterTokenizer, ScriptedEngine
from scripted_runs import run_of

from grace.engines.base import Decoding
from grace.experiments.generation import run_generation
from grace.experiments.measurement import run_scoring
from grace.experiments.trials import trial_prompts
from grace.forecast import request_table, requests
from grace.forecast.estimate import Forecaster
from grace.models.chat import tokenizer_of
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"\b\d+\b", text)]


def items_of(project: Project, study: str, experiment: str):
    run = run_of(study, experiment)
    return run, trial_prompts(run, project.trials[study], list(project.variants[study].values()))


@pytest.mark.parametrize("study", ["study1", "study2"])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_experiment_1_asks_as_forecast(study, temperature, caplog):
    caplog.set_level("INFO")
    project = Project(ROOT, {"generation": {"temperature": temperature}, "limit": 100})
    run, items = items_of(project, study, "exp1")
    found = requests.generation_requests(
        requests.rendered(run.study, items, "exp1"), project.config.generation
    )
    decoding = Decoding(**project.config.generation.model_dump())
    engine = ScriptedEngine()
    list(run_generation(run, items, CharacterTokenizer(), engine, decoding))
    (line,) = [r.getMessage() for r in caplog.records if r.name == "grace.experiments.generation"]
    prompts, joined, _temperature, sent = numbers(line.split(":", 1)[1])
    assert (found.queries, found.repeated, found.asked) == (prompts, joined, sent)
    assert sent == len(engine.generated)
    assert found.distinct == len({str(r.messages) for r in engine.generated})


@pytest.mark.parametrize("study", ["study1", "study2"])
@pytest.mark.parametrize("forms", [("{}",), ("{}", " {}")])
def test_experiment_2_asks_as_forecast(study, forms, caplog):
    caplog.set_level("INFO")
    project = Project(ROOT, {"limit": 100})
    run, items = items_of(project, study, "exp2")
    tokenizer = tokenizer_of("pico", project.models["pico"], ROOT)
    found = requests.scoring_requests(requests.rendered(run.study, items, "exp2"))
    tokens = requests.scoring_tokens(run.study, items, tokenizer, forms)
    engine = ScriptedEngine()
    list(run_scoring(run, items, tokenizer, engine, forms))
    (line,) = [r.getMessage() for r in caplog.records if r.name == "grace.experiments.measurement"]
    queries, trials, repeated, distinct, nulls, _forests, *read = numbers(line.split(":", 1)[1])
    assert (found.queries, found.trials, found.repeated) == (queries, trials, repeated)
    assert (found.distinct, found.null_contexts) == (distinct, nulls)
    assert nulls == {"study1": 5, "study2": 1}[study]
    assert found.asked == distinct + nulls == len(engine.scored)
    assert [tokens.one_by_one, tokens.without_repeats, tokens.in_forests] == read
    assert tokens.without_repeats == sum(
        len(request.prompt_token_ids) + len(ids)
        for request in engine.scored
        for ids in request.continuations
    )


def test_replications_share_the_counts():
    def rows(replications: list[int]) -> list[requests.ForecastRow]:
        values = {"replications": replications, "limit": 60, "studies": ["study1"]}
        return list(request_table.rows(Project(ROOT, values)))

    assert rows([0]) == rows([7])


def test_a_tokeniser_that_is_not_here_is_reported_not_an_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    values = {"models": ["pico", "gemma-2b"], "limit": 5, "replications": 3}
    rows = list(request_table.rows(Project(ROOT, values)))
    text = request_table.table(rows, 3)
    lines = {tuple(line.split()[:2]): line.split() for line in text.splitlines() if line}
    assert lines["gemma-2b", "study1_exp2"][6:9] == ["?", "?", "?"]
    assert lines["gemma-2b", "study1_exp1"] == [
        "gemma-2b", *lines["pico", "study1_exp1"][1:],
    ]  # fmt: skip
    assert all(int(n.replace(",", "")) > 0 for n in lines["pico", "study1_exp2"][6:9])
    assert lines["pico", "study2_exp1"][-2:] == ["5", "1,280"]
    assert "3 for each model" in text
    assert "tokeniser is not on this machine" in text
    assert "tokeniser is not" not in request_table.table(rows[:4], 3)


def test_work_is_counted_by_real_tokenisers_where_they_are_here():
    run = Project(ROOT, {"limit": 40, "studies": ["study2"], "results": "no-such-results"})
    exact = Forecaster(run, exact=True, past=[]).replication("pico", None)
    quick = Forecaster(run, past=[]).replication("pico", None)
    assert (exact.estimated_tokens, quick.estimated_tokens) == (False, True)
    for true, guess in zip(exact.jobs, quick.jobs, strict=True):
        assert guess.work.requests == true.work.requests
        # pico's vocabulary is small, so that its prompts are long.
        assert 0.6 < guess.work.read_tokens / true.work.read_tokens < 1.2


def test_ends_that_are_not_read_are_not_counted():
    """With `scoring.terminators: needed`, by the stand-in and by pico's own tokeniser."""
    found = {}
    for terminators in ("all", "needed"):
        config = {"limit": 12, "scoring": {"terminators": terminators}}
        run = Project(ROOT, config)
        for exact in (False, True):
            forecaster = Forecaster(run, exact=exact, past=[])
            estimate = forecaster.replication("pico", None)
            (job,) = [one for one in estimate.jobs if one.label == "study1_exp2"]
            tokens = forecaster.asked.scoring("pico", "study1").tokens.in_forests
            found[terminators, exact] = (job.work.read_tokens, job.work.reads, tokens)
    for exact in (False, True):
        every, needed = found["all", exact], found["needed", exact]
        read, reads, in_forests = (less / more for less, more in zip(needed, every, strict=True))
        # A tenth of the tokens are last ones of options, and a third of the places their ends.
        assert 0.85 < in_forests < 0.95
        assert 0.85 < read < 0.95
        assert 0.6 < reads < 0.7


def test_an_engine_that_reads_every_end_is_counted_with_them():
    run = Project(ROOT, {"limit": 12, "scoring": {"terminators": "needed"}})
    assert run.terminators_of("pico") == "needed"
    run.models["pico"] = run.models["pico"].model_copy(update={"engine": "vllm"})
    assert run.terminators_of("pico") == "all"
