"""Before the first trial: does a server draw its answers as it is asked to?"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from engines_for_tests import journaled
from fake_openai import Asked, FakeOpenAI, Reply, chat_answer

from grace.engines.base import Decoding, Generation, GenerationRequest
from grace.engines.endpoint.client import EndpointEngine
from grace.engines.sampling_check import PROMPT, Sampling
from grace.errors import EngineError
from grace.journal import Journal
from grace.settings.config import ModelEntry, RequestsConfig

WARM = Decoding(0.7, 1.0, 32)
Server = Callable[[dict[str, Any]], str]


def words(*parts: Any) -> str:
    """A long text that follows from the parts."""
    return " ".join(
        hashlib.sha256(json.dumps(parts).encode()).hexdigest()[n : n + 8] for n in range(9)
    )


def honest(body: dict[str, Any]) -> str:
    return words(body["messages"], body["temperature"], body["seed"])


def unseeded() -> Server:
    numbers = iter(range(10**6))
    return lambda body: words(next(numbers))


def frozen(body: dict[str, Any]) -> str:
    """Ignores temperature and seed."""
    return words(body["messages"])


def fixed_seed(body: dict[str, Any]) -> str:
    return words(body["messages"], body["temperature"])


def sure(body: dict[str, Any]) -> str:
    """A model that is very sure of itself, up to a high temperature."""
    return honest(body) if body["temperature"] > 1 else words(body["messages"])


@contextmanager
def served(server: Server, **failing: int) -> Iterator[tuple[EndpointEngine, FakeOpenAI]]:
    def reply(asked: Asked) -> Reply:
        if failing and asked.body["temperature"] > 1:
            return Reply({"error": {"message": "temperature must be at most 1"}}, **failing)
        return chat_answer(server(asked.body))

    fake = FakeOpenAI(reply)
    entry = ModelEntry(name="big", engine="endpoint", base_url=fake.url)
    requests = RequestsConfig(backoff_s=0, attempts=1)
    with EndpointEngine("remote", entry, requests=requests) as engine:
        yield engine, fake
    fake.close()


def found(server: Server, decoding: Decoding = WARM, **failing: int) -> tuple[Sampling, int]:
    with served(server, **failing) as (engine, fake):
        sampling = engine.check_sampling(decoding)
        assert sampling.requests == len(fake.asked) <= 4
        assert all(asked.body["max_tokens"] <= 48 for asked in fake.asked)
    return sampling, len(fake.asked)


def test_an_honest_server_is_seen_to_be_one_in_three_requests() -> None:
    sampling, asked = found(honest)
    assert (sampling.draws_vary, sampling.seed_honoured, asked) == (True, True, 3)


def test_a_seed_without_effect_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    sampling, asked = found(unseeded())
    assert (sampling.draws_vary, sampling.seed_honoured, asked) == (True, False, 3)
    (warning,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert "no one can repeat this run's answers" in warning.message


@pytest.mark.parametrize(
    ("server", "ignored"), [(frozen, "temperature and seed"), (fixed_seed, "the seed")]
)
def test_a_server_that_gives_one_answer_to_all_seeds_is_refused(
    server: Server, ignored: str
) -> None:
    with (
        served(server) as (engine, fake),
        pytest.raises(EngineError, match=f"its server ignores {ignored}: different seeds got"),
    ):
        engine.check_sampling(WARM)
    assert len(fake.asked) == 4


def test_a_model_that_is_sure_of_itself_is_not_refused() -> None:
    sampling, asked = found(sure)
    assert (sampling.draws_vary, sampling.seed_honoured, asked) == (True, None, 4)


@pytest.mark.parametrize("text", ["", "three", "It was good"])
def test_short_answers_prove_nothing(text: str) -> None:
    sampling, asked = found(lambda _: text)
    assert (sampling.draws_vary, sampling.seed_honoured, asked) == (None, None, 2)
    assert sampling.error is None


def test_a_refused_temperature_proves_nothing() -> None:
    sampling, _ = found(frozen, status=400)
    assert sampling.draws_vary is None
    assert "temperature must be at most 1" in str(sampling.error)


def asked_of(fake: FakeOpenAI) -> list[str]:
    return [asked.body["messages"][0]["content"] for asked in fake.asked]


def trials(*texts: str, decoding: Decoding = WARM) -> list[GenerationRequest]:
    return [
        GenerationRequest(text, ({"role": "user", "content": text},), (), decoding, seed=n)
        for n, text in enumerate(texts)
    ]


def run(
    engine: EndpointEngine, folder: Path, requests: list[GenerationRequest]
) -> tuple[list[Generation], dict[str, Any]]:
    with Journal(folder) as journal:
        kept = journaled(engine, journal, name="endpoint")
        return list(kept.generate(requests)), kept.describe()


def test_it_is_looked_at_once_before_the_first_trial_and_kept(tmp_path: Path) -> None:
    with served(honest) as (engine, fake):
        _, facts = run(engine, tmp_path, trials("a", "b"))
        assert asked_of(fake)[:3] == [PROMPT] * 3
        assert sorted(asked_of(fake)[3:]) == ["a", "b"]
        assert facts["sampling"]["seed_honoured"] is True
        del fake.asked[:]
        _, again = run(engine, tmp_path, trials("a", "b", "c"))
        assert asked_of(fake) == ["c"]
        assert again["sampling"] == facts["sampling"]
        del fake.asked[:]
        _, nothing = run(engine, tmp_path, trials("a", "b"))
        assert asked_of(fake) == []
        assert nothing["sampling"] == facts["sampling"]


def test_nothing_is_paid_to_a_server_that_repeats_itself(tmp_path: Path) -> None:
    with served(frozen) as (engine, fake):
        with pytest.raises(EngineError, match="so nothing was asked"):
            run(engine, tmp_path, trials(*map(str, range(300))))
        assert asked_of(fake) == [PROMPT] * 4


def test_greedy_answers_need_no_look(tmp_path: Path) -> None:
    with served(frozen) as (engine, fake):
        _, facts = run(engine, tmp_path, trials("a", decoding=Decoding(0.0, 1.0, 32)))
    assert asked_of(fake) == ["a"]
    assert "sampling" not in facts


def test_a_look_that_failed_is_taken_again(tmp_path: Path) -> None:
    with served(sure, status=503) as (engine, fake):
        run(engine, tmp_path, trials("a"))
        run(engine, tmp_path, trials("b"))
        assert asked_of(fake).count(PROMPT) == 8
