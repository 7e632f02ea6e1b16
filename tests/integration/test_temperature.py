"""pico's sampled answers against its measured distributions, at two ways of sampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundled_studies import STUDIES

from grace.engines.base import Decoding
from grace.engines.transformers.model import TransformersEngine
from grace.experiments.generation import run_generation
from grace.experiments.measurement import run_scoring
from grace.experiments.trials import Run, trial_prompts
from grace.models.chat import ChatTokenizer
from grace.prompts.variants import PromptSet
from grace.results.tables import probability_rows
from grace.settings.config import ModelEntry, RequestsConfig, ScoringConfig
from grace.settings.output_configs import DecodingConfig
from grace.studies.stimuli import read_trials

ROOT = Path(__file__).resolve().parents[2]
STUDY = STUDIES["study2"]
REPLICATIONS = 20


@pytest.fixture(scope="module")
def engine():
    entry = ModelEntry(name="resources/models/pico", engine="transformers", gpus=0, dtype="float32")
    requests, scoring = RequestsConfig(concurrency=64), ScoringConfig()
    with TransformersEngine(
        "pico", entry, requests=requests, scoring=scoring, root=ROOT, threads=2
    ) as opened:
        yield opened, ChatTokenizer("pico", entry, ROOT)


@pytest.fixture(scope="module")
def measured(engine):
    """Experiment 2's records of a trial for each goal and state."""
    trials = read_trials(ROOT / "resources/stimuli/study2.csv", STUDY, None)
    cells = {
        (trial.derived["Goal_simplified"], trial.derived["State_number"]): trial for trial in trials
    }
    run = Run("pico", "resources/models/pico", STUDY, "exp2", 0, 1000, False)
    prompts = [PromptSet(ROOT / "config/prompts/seed")]
    items = trial_prompts(run, list(cells.values()), prompts)
    return list(cells.values()), list(run_scoring(run, items, engine[1], engine[0]))


def said(engine, trials, decoding: Decoding) -> list[list[int]]:
    """What each trial's answers are, as indices of options."""
    options = STUDY.options(STUDY.query_forms[0], trials[0])
    found: list[list[int]] = [[] for _ in trials]
    for replication in range(REPLICATIONS if decoding.temperature else 1):
        run = Run("pico", "resources/models/pico", STUDY, "exp1", replication, 1000, False)
        items = trial_prompts(run, trials, [PromptSet(ROOT / "config/prompts/seed")])
        for record in run_generation(run, items, engine[1], engine[0], decoding):
            answer = STUDY.parse(record["response"], record["trial"])
            found[record["trial_index"]].append(options.index(answer["response_cleaned"]))
    return found


def distributions(measured, temperature: float, top_p: float) -> np.ndarray:
    config = DecodingConfig(temperature=temperature, top_p=top_p)
    rows = list(probability_rows(measured[1], STUDY, 0.5, config))
    assert max(row["sampled_bound"] for row in rows) < 1e-4
    columns = STUDY.distributions.queries["utterance"].options
    return np.array([[row[f"sampled_{name}"] for name in columns] for row in rows])


def surprise(counts: np.ndarray, chances: np.ndarray) -> float:
    """Mean log-probability of the answers."""
    used = counts > 0
    with np.errstate(divide="ignore"):
        return float((counts[used] * np.log(chances[used])).sum() / counts.sum())


def expected(chances: np.ndarray) -> tuple[float, float]:
    """That of answers drawn from these distributions: what 99.8 % of draws lie between."""
    rng = np.random.default_rng(1)
    draws = [
        surprise(np.array([rng.multinomial(REPLICATIONS, p / p.sum()) for p in chances]), chances)
        for _ in range(1000)
    ]
    return float(np.quantile(draws, 0.001)), float(np.quantile(draws, 0.999))


def test_answers_are_drawn_from_the_distributions_as_sampled(engine, measured):
    temperature, top_p = 0.7, 0.8
    found = said(engine, measured[0], Decoding(temperature, top_p, 16))
    counts = np.array([np.bincount(cell, minlength=8) for cell in found])
    assert counts.sum() == 12 * REPLICATIONS
    chances = distributions(measured, temperature, top_p)
    low, high = expected(chances)
    assert low <= surprise(counts, chances) <= high
    # And not from what was measured, nor as if only one of the two counted.
    for other in ((1, 1), (temperature, 1)):
        plain = distributions(measured, *other)
        assert surprise(counts, plain) > expected(plain)[1]
    # And not as if top_p alone counted.
    hotter = distributions(measured, 1, top_p)
    low, high = expected(hotter)
    assert not low <= surprise(counts, hotter) <= high


def test_at_temperature_0_the_answer_is_the_greedy_one(engine, measured):
    found = said(engine, measured[0], Decoding(0, 1.0, 16))
    chances = distributions(measured, 0, 1)
    assert [cell[0] for cell in found] == list(chances.argmax(1))
    assert (chances.max(1) == 1).all()
