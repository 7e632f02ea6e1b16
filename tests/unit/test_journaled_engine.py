"""Answers that the journal holds are given back and not asked again; all others are kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny_architectures as tiny
import torch
from engines_for_tests import ScriptedEngine, journaled
from scoring_trials import trials

from grace.engines import registry
from grace.engines.answer_keys import AnswerKeys
from grace.engines.base import Decoding, GenerationRequest, Score, ScoreRequest
from grace.engines.journaled import JournaledEngine
from grace.engines.transformers.scorer import COPIES, Scorer
from grace.journal import Journal
from grace.scoring.bounds import Bounds, Interval
from grace.scoring.subtrees import Costs
from grace.settings.config import ScoringConfig

DECODING = Decoding(0.7, 1.0, 20)


def generation(key: str, text: str = "How many?", seed: int = 1) -> GenerationRequest:
    return GenerationRequest(
        key, ({"role": "user", "content": text},), tuple(map(ord, text)), DECODING, seed
    )


def scoring(key: str, text: str = "How many?") -> ScoreRequest:
    return ScoreRequest(key, tuple(map(ord, text)), ((49,), (50, 51)), (0,))


class Counting(ScriptedEngine):
    """Remembers what it was asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.keys: list[str] = []

    def generate(self, requests: Any) -> Iterator[Any]:
        requests = list(requests)
        self.keys += [request.key for request in requests]
        yield from super().generate(requests)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_what_was_answered_is_not_asked_again(folder: Path) -> None:
    requests = [generation("a", seed=1), generation("b", seed=2)]
    with Journal(folder) as journal:
        first = sorted(journaled(Counting(), journal).generate(requests), key=lambda g: g.key)
    engine = Counting()
    with Journal(folder) as journal:
        again = journaled(engine, journal, "tomorrow")
        # Another key of the same request: which trial asked does not matter.
        renamed = [dataclasses.replace(requests[0], key="x"), requests[1], generation("c", seed=3)]
        found = {answer.key: answer for answer in again.generate(renamed)}
        sessions = again.sessions()
    assert engine.keys == ["c"]
    assert dataclasses.replace(found["x"], key="a") == first[0]
    assert found["b"] == first[1]
    assert [(one["started"], one["answers"]) for one in sessions] == [("today", 2), ("tomorrow", 1)]


@pytest.mark.parametrize(
    "other",
    [
        generation("a", text="How few?"),
        generation("a", seed=2),
        dataclasses.replace(generation("a"), decoding=Decoding(0.8, 1.0, 20)),
        dataclasses.replace(generation("a"), decoding=Decoding(0.7, 1.0, 21)),
    ],
)
def test_another_request_is_asked(folder: Path, other: GenerationRequest) -> None:
    engine = Counting()
    with Journal(folder) as journal:
        kept = journaled(engine, journal)
        list(kept.generate([generation("a")]))
        list(kept.generate([other]))
    assert engine.keys == ["a", "a"]


def test_another_model_version_or_answer_version_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Counting()

    def ask(**identity: Any) -> None:
        list(journaled(engine, journal, **identity).generate([generation("a")]))

    with Journal(folder) as journal:
        for identity in ({"model": 1}, {"model": 2}, {"model": 1, "version": 2}, {"model": 1}):
            ask(**identity)
        assert engine.keys == ["a"] * 3
        monkeypatch.setattr(registry.spec("transformers"), "answer_version", {"exp1": 99})
        ask(model=1)
    assert engine.keys == ["a"] * 4


def test_how_much_the_journal_holds_is_logged_once_it_was_looked_up(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "grace")
    with Journal(folder) as journal:
        list(journaled(Counting(), journal).generate([generation("a")]))
        assert "the journal holds" not in caplog.text
        list(journaled(Counting(), journal).generate([generation("a"), generation("b", seed=2)]))
        assert "pico/test: the journal holds 1 of 2 answers" in caplog.text
        list(journaled(Counting(), journal).generate([generation("a")]))
    assert "pico/test: the journal holds all 1 answers" in caplog.text


def test_an_engine_is_opened_at_the_first_answer_that_is_missing(folder: Path) -> None:
    opened: list[str] = []

    @contextmanager
    def opening() -> Iterator[Any]:
        opened.append("opened")
        yield ScriptedEngine()
        opened.append("closed")

    def journaled_lazily() -> JournaledEngine:
        keys = AnswerKeys("transformers", "exp1", {})
        return JournaledEngine(opening, journal, keys=keys, session={}, label="pico/test")

    with Journal(folder) as journal:
        with journaled_lazily() as engine:
            assert opened == []
            answers = list(engine.generate([generation("a")]))
            scores = list(engine.score([scoring("a")]))
            assert engine.opened
            assert opened == ["opened"]
        assert opened == ["opened", "closed"]
        with journaled_lazily() as engine:
            assert list(engine.generate([generation("a")])) == answers
            assert list(engine.score([scoring("a")])) == scores
            # What is recorded of the engine is what answered then.
            assert engine.describe() == {"engine": "scripted"}
            assert not engine.opened
        assert opened == ["opened", "closed"]


def test_failures_are_asked_again(folder: Path) -> None:
    failing = Counting(fails=lambda prompt: True)
    with Journal(folder) as journal:
        (failed,) = journaled(failing, journal).generate([generation("a")])
        (failed_score,) = journaled(failing, journal).score([scoring("a")])
        (answer,) = journaled(Counting(), journal).generate([generation("a")])
        (score,) = journaled(Counting(), journal).score([scoring("a")])
    assert failed.error
    assert failed_score.error
    assert answer.error is None
    assert score.error is None


def test_scores_come_back_to_the_last_digit(folder: Path) -> None:
    class Bounded(ScriptedEngine):
        """Two kinds of score; both with numbers that JSON must not round."""

        def score(self, requests: Any, known: Any = frozenset()) -> Iterator[Score]:
            for request in requests:
                if request.key in known:
                    continue
                if request.key == "exact":
                    yield Score("exact", ((-0.1,), (-1 / 3, -2e-17)), (-5e-324, -700.25))
                else:
                    unknown = Interval(-math.inf, -0.1)
                    bounds = Bounds((Interval(-2.0, -1.0), unknown), Interval(-1 / 3, -1 / 3))
                    yield Score("bounds", None, None, bounds=(bounds, bounds))

    requests = [scoring("exact", "a"), scoring("bounds", "b")]
    with Journal(folder) as journal:
        first = list(journaled(Bounded(), journal).score(requests))
    with Journal(folder) as journal:
        assert list(journaled(Counting(), journal).score(requests)) == first


@pytest.mark.parametrize("path", ["packed forests", COPIES])
@pytest.mark.parametrize("subtrees", [True, False])
def test_what_is_left_has_the_same_digits_as_if_all_were_asked(
    monkeypatch: pytest.MonkeyPatch, path: str, subtrees: bool
) -> None:
    """Rounding depends on a batch's company, so the company stays."""
    monkeypatch.setattr("grace.engines.transformers.scorer.reads_subtrees", lambda device: subtrees)
    monkeypatch.setattr("grace.scoring.subtrees.costs_of", lambda _: Costs(100, 0, 384))
    torch.set_num_threads(1)
    model = tiny.build("llama")
    requests = trials(tiny.tokeniser("digit"))
    budget = ScoringConfig(max_batch_tokens=200)
    asked = Scorer("tiny", model, budget)
    asked.path = path
    whole = {score.key: score for score in asked.score(requests)}
    for left in ([requests[0]], requests[4:6], requests[::4]):
        known = {request.key for request in requests} - {request.key for request in left}
        scorer = Scorer("tiny", model, budget)
        scorer.path = path
        found = list(scorer.score(requests, known))
        assert {score.key for score in found} == {request.key for request in left}
        assert all(score == whole[score.key] for score in found)
    assert list(Scorer("tiny", model, budget).score(requests, set(whole))) == []


class NeverTheSame(Counting):
    """Its numbers differ from one request to the next, as rounding in other company does."""

    def generate(self, requests: Any) -> Iterator[Any]:
        for place, answer in enumerate(super().generate(requests)):
            yield dataclasses.replace(answer, text=f"{place}")

    def score(self, requests: Any, known: Any = frozenset()) -> Iterator[Any]:
        for place, request in enumerate(requests):
            yield Score(request.key, ((-1.0 - place,), (-2.0, -3.0)), (-0.5, -0.5))


def test_requests_that_are_one_to_the_model_have_the_answer_that_is_kept(folder: Path) -> None:
    with Journal(folder) as journal, journaled(NeverTheSame(), journal) as engine:
        requests = [generation("a"), generation("b"), generation("c", "Who?")]
        texts = {answer.key: answer.text for answer in engine.generate(requests)}
        assert texts["a"] == texts["b"] != texts["c"]
        one, same, other = (engine.answer_keys()[name] for name in "abc")
        assert one == same != other
        assert {one, other} == set(engine.answer_keys().values())
        for key, text in ((one, texts["a"]), (other, texts["c"])):
            assert (journal.get(key) or {})["answer"]["text"] == text
        scores = list(engine.score([scoring("d"), scoring("e")]))
        assert scores[0].token_logprobs == scores[1].token_logprobs
        assert journal.conflicts == 0


def test_the_keys_of_answers_are_known_where_nothing_was_asked(folder: Path) -> None:
    requests = [generation("a"), generation("b", "Who?")]
    with Journal(folder) as journal, journaled(Counting(), journal) as engine:
        list(engine.generate(requests))
        first = engine.answer_keys()
    with Journal(folder) as journal, journaled(Counting(), journal) as engine:
        list(engine.generate(requests))
        assert not engine.opened
        assert engine.answer_keys() == first
        assert first.keys() == {"a", "b"}
