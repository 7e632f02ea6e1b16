"""Null contexts: the prompt without the trial's content, asked once for all trials."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundled_studies import STUDY1, STUDY2, bundled_study
from engines_for_tests import CharacterTokenizer, ScriptedEngine
from wording_runs import VARIANTS, items_of, journaled, run_of, trials, variant

from grace.experiments.measurement import plan_scoring, run_scoring
from grace.experiments.trials import Run, trial_prompts
from grace.journal import Journal
from grace.prompts.variants import PromptSet
from grace.provenance.journal_check import Answers, differences
from grace.results.records import write_json, write_records
from grace.studies.stimuli import read_trials
from grace.studies.study import Study

ROOT = Path(__file__).parents[2]


def null_contexts(study: Study, name: str) -> list[str]:
    """The distinct texts of a variant's null contexts over all bundled trials."""
    prompts = variant(study, name)
    found: dict[str, None] = {}
    for trial in trials(study.name):
        for query in study.queries(trial, prompts):
            if query.name in study.auxiliary_queries:
                assert query.null_context is None
                continue
            assert query.null_context is not None
            found["\n\n".join(one["content"] for one in query.null_context)] = None
    return list(found)


def test_seed_asks_about_nothing_once_a_query():
    asked = null_contexts(STUDY1, "seed")
    assert len(asked) == 5
    assert asked[1] == (
        "N/A\n\nN/A\n\nHow likely is it that the number of N/A is exactly 1? Answer with one of 0%,"
        " 10%, 20%, 30%, 40%, 50%, 60%, 70%, 80%, 90% or 100%, and write nothing else."
    )
    (text,) = null_contexts(STUDY2, "seed")
    assert text.startswith(
        "N/A N/A\n\nOn a scale of 0 to 3 hearts, N/A would in truth give it N/A."
    )
    assert text.endswith("It [was/wasn't] [terrible/bad/good/amazing]")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_wording_has_null_contexts_that_say_nothing_of_a_trial(name: str):
    for study, told in ((STUDY1, ["story_setup", "speach"]), (STUDY2, ["Precontext", "Scenario"])):
        asked = null_contexts(study, name)
        # human: two orders each of two lists, of which study 1's bets list one.
        several = {"study1": 12, "study2": 4} if name == "human" else {"study1": 5, "study2": 1}
        assert len(asked) == several[study.name]
        for trial in trials(study.name, 12):
            assert not any(str(trial[column]) in text for column in told for text in asked)


def templates(folder: Path, **texts: str) -> PromptSet:
    (folder / "mine").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / "mine" / f"{name}.j2").write_text(text)
    return PromptSet(folder / "mine")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ story }} {{ kept }}", "N/A fixed"),
        ("{{ story | upper }}{{ kept | upper }}", "N/AFIXED"),
        # What a text decides, it still decides.
        ("{% if 'once' in story %}old{% else %}new{% endif %}: {{ story }}", "old: N/A"),
        ("{{ 'old' if 'once' in story else story }} {{ story if kept else 1 }}", "old N/A"),
        ("{% if count > 2 %}many{% endif %} {{ count }}", "many N/A"),
        # What follows from it is it, too.
        ("{% for thing in things %}{{ thing }}{{ loop.index }} {% endfor %}", "N/A1 N/A2"),
        ("{% set told = story %}{% set again = told | trim %}{{ again }}", "N/A"),
        ("{% set told = story %}{% include '_part.j2' %}", "N/A N/A"),
        ("{{ things | join(', ') }}; {{ things | length }}", "N/A; N/A"),
        ("Nothing of the trial", "Nothing of the trial"),
    ],
)
def test_what_a_template_prints_of_a_trial_is_left_out(tmp_path: Path, text: str, expected: str):
    prompts = templates(tmp_path, question=text, _part="{{ told }} {{ story }}")
    values = {"story": "once", "things": ["a", "b"], "count": 3, "kept": "fixed"}
    blank = frozenset({"story", "things", "count"})
    (message,) = prompts.null_context("question.j2", values, blank)
    assert message["content"] == expected
    assert prompts.render("question.j2", values)[0]["content"] != expected or "N/A" not in expected


def test_options_that_differ_by_trial_and_bare_texts_have_none():
    for name in ("refgame", "minimal_pairs"):
        study = bundled_study(name)
        found = read_trials(study.stimuli_file, study)
        run = Run("pico", "pico", study, "exp2", 0, 1000, True)
        items = trial_prompts(run, found, study.variants(["seed"], found))
        plan = plan_scoring(study, items, CharacterTokenizer())
        assert plan.null_contexts == {}
        assert plan.counts()["null_contexts"] == 0
        records = list(run_scoring(run, items, CharacterTokenizer(), ScriptedEngine()))
        assert not any("null_contexts" in record for record in records)
        assert not any("null_id" in query for record in records for query in record["queries"])


def test_a_prompt_without_anything_of_the_trial_has_none(tmp_path: Path):
    text = "Good? {{ state | default('') }} "
    names = ("study1_exp2_state", "study1_exp2_knowledge", "study1_exp2_prior")
    prompts = templates(tmp_path, **{name: text + name for name in names})
    assert all(query.null() is None for query in STUDY1.queries(trials("study1", 1)[0], prompts))


def test_they_are_asked_beside_what_was_answered_before(tmp_path: Path):
    """Of a journal from before there were any, nothing is asked again."""
    run = run_of("study1", "exp2")
    items = items_of(run, "seed", "human")
    plan = plan_scoring(run.study, items, CharacterTokenizer())
    before = [one for one in plan.requests if one.key not in plan.null_contexts]
    assert plan.requests[: len(before)] == before
    assert len(plan.requests) - len(before) == len(plan.null_contexts) > 10
    with Journal(tmp_path / "journal") as journal, journaled(ScriptedEngine(), journal) as engine:
        list(engine.score(before))
    asked = ScriptedEngine()
    with Journal(tmp_path / "journal") as journal, journaled(asked, journal) as engine:
        records = list(run_scoring(run, items, CharacterTokenizer(), engine))
        sessions, keys = engine.sessions(), engine.answer_keys()
    assert [one.key for one in asked.scored] == list(plan.null_contexts)
    # The journal vouches for them as for all answers.
    write_json(tmp_path / "provenance.json", {"answers": sessions, "answer_keys": keys})
    held = next(record for record in records if "null_contexts" in record)["null_contexts"][0]

    def found() -> list[str]:
        write_records(tmp_path / "records.json", records)
        answers = Answers(tmp_path / "journal")
        return list(differences(tmp_path / "records.json", tmp_path / "provenance.json", answers))

    assert found() == []
    held["option_mass"] = 0.5
    assert any("not the answer that the journal" in line for line in found())
