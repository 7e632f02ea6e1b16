"""A server that repeats itself is told from a model that is sure: simulated, many times."""

from __future__ import annotations

import hashlib
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bundled_studies import STUDIES

from grace.results.draws import CHANCE, _most, draws_of
from grace.results.validation import Check, check_draws
from grace.settings.config import GenerationConfig

ROOT = Path(__file__).parents[2]
STUDY1, STUDY2 = STUDIES["study1"], STUDIES["study2"]
OPTIONS = max(STUDY2.probability_groups().values(), key=len)
WARM = GenerationConfig(temperature=0.7)


def table(texts: list[tuple[str, str]], reasoning: float | None = None) -> pd.DataFrame:
    """A structured table of (prompt, answer) pairs, each with a seed of its own."""
    return pd.DataFrame(
        {
            "variant": "seed",
            "trial_index": range(len(texts)),
            "prompt_id": [prompt for prompt, _ in texts],
            "request_seed": range(len(texts)),
            "status": "ok",
            "model_response": [text for _, text in texts],
            "answer_id": [hashlib.sha256(text.encode()).hexdigest()[:16] for _, text in texts],
            "reasoning_characters": reasoning,
        }
    ).astype({"reasoning_characters": "float64"})


def measured(
    distributions: np.ndarray, mass: float = 1.0, temperature: float = 0.7
) -> pd.DataFrame:
    """Experiment 2's table: a row a prompt, its options' probabilities at temperature 1 and as
    sampled, where each option is a token of its own."""
    found = pd.DataFrame(distributions, columns=list(OPTIONS))
    warm = distributions ** (1 / temperature)
    warm /= warm.sum(axis=1, keepdims=True)
    found[[f"sampled_{name}" for name in OPTIONS]] = warm
    found["sampled_bound"] = 0.0
    found["prompt_id"] = [str(prompt) for prompt in range(len(found))]
    found["option_mass"], found["status"] = mass, "ok"
    return found


def sampled(
    dice: np.random.Generator, distributions: np.ndarray, draws: int, temperature: float = 0.7
) -> pd.DataFrame:
    """What a model with these distributions answers at a temperature."""
    warm = distributions ** (1 / temperature)
    warm /= warm.sum(axis=1, keepdims=True)
    return table(
        [
            (str(prompt), OPTIONS[option])
            for prompt, row in enumerate(warm)
            for option in dice.choice(len(row), size=draws, p=row)
        ]
    )


def failed(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if not check.passed}


@pytest.mark.parametrize("peak", [0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 1.5])
def test_honest_models_pass_however_sure_they_are(peak: float, temperature: float) -> None:
    """Models from undecided ones to ones that are sure of nearly every answer."""
    dice = np.random.default_rng(7)
    decoding = GenerationConfig(temperature=temperature)
    for _ in range(5):
        distributions = dice.dirichlet(np.full(len(OPTIONS), 1 / peak), size=40) + 1e-12
        distributions /= distributions.sum(axis=1, keepdims=True)
        answers = sampled(dice, distributions, 10, temperature)
        found = measured(distributions, temperature=temperature)
        assert not failed(check_draws(answers, found, STUDY2, decoding))


@pytest.mark.parametrize("nondeterministic", [0.0, 0.05])
def test_a_server_that_repeats_itself_fails_where_the_model_is_not_sure(
    nondeterministic: float,
) -> None:
    """Greedy answers, a few of them changed by rounding as on a busy GPU."""
    dice = np.random.default_rng(7)
    distributions = dice.dirichlet(np.full(len(OPTIONS), 0.5), size=20)
    texts = [
        (str(prompt), "other" if dice.random() < nondeterministic else OPTIONS[row.argmax()])
        for prompt, row in enumerate(distributions)
        for _ in range(10)
    ]
    checks = check_draws(table(texts), measured(distributions), STUDY2, WARM)
    assert failed(checks) == {"draws_as_measured"}
    (check,) = [one for one in checks if not one.passed]
    line = check.failure("big, replication 0")
    assert "share of 180 further answers to a prompt at temperature 0.7 that repeat" in line
    assert "a server that ignores temperature or seed repeats itself" in line


def test_the_likeliest_option_is_that_of_sampled_tokens_not_of_whole_strings() -> None:
    """The likeliest first token leads to many options, each of them less likely than another's."""
    distributions = np.tile([0.45, *[0.55 / 7] * 7], (20, 1))
    texts = [(str(prompt), "It was bad") for prompt in range(20) for _ in range(30)]
    found = measured(distributions, temperature=0.2)
    decoding = GenerationConfig(temperature=0.2)
    assert not failed(check_draws(table(texts), found, STUDY2, decoding)), "whole strings: sure"
    found[[f"sampled_{name}" for name in OPTIONS]] = [0.27, *[0.73 / 7] * 7]
    assert failed(check_draws(table(texts), found, STUDY2, decoding)) == {"draws_as_measured"}
    found["sampled_bound"] = 0.7
    assert not failed(check_draws(table(texts), found, STUDY2, decoding)), "or it may be sure"


def test_a_model_that_says_something_else_than_the_options_is_not_blamed() -> None:
    """It writes "**It was good**" each time, which experiment 2 sees as a low option mass."""
    dice = np.random.default_rng(7)
    distributions = dice.dirichlet(np.full(len(OPTIONS), 5.0), size=20)
    texts = [(str(prompt), "**It was good**") for prompt in range(20) for _ in range(10)]
    assert not failed(check_draws(table(texts), measured(distributions, 0.001), STUDY2, WARM))
    assert failed(check_draws(table(texts), measured(distributions, 0.9), STUDY2, WARM))


def test_answers_after_a_trace_and_cut_distributions_are_not_compared() -> None:
    """A trace decides, which experiment 2 did not read; `top_p` cuts what it measured."""
    distributions = np.full((20, len(OPTIONS)), 1 / len(OPTIONS))
    texts = [(str(prompt), "It was good") for prompt in range(20) for _ in range(10)]
    cut = GenerationConfig(temperature=0.7, top_p=0.9)
    assert not failed(check_draws(table(texts, 100), measured(distributions), STUDY2, WARM))
    assert not failed(check_draws(table(texts), measured(distributions), STUDY2, cut))


def form(prompt: int, number: int = 0) -> str:
    return f"Initial Answer: {prompt % 4}\nProbabilities: 0: {number}%, 1: 0%, 2: 0%, 3: 0%\n"


def test_a_whole_run_without_any_variation_fails() -> None:
    texts = [(str(prompt), form(prompt)) for prompt in range(36) for _ in range(16)]
    checks = check_draws(table(texts), None, STUDY1, WARM)
    assert failed(checks) == {"draws_vary"}


@pytest.mark.parametrize("same", [0.9, 0.97, 0.986])
def test_a_model_that_is_sure_of_nearly_every_form_passes(same: float) -> None:
    """30 runs of study 1 of two replications each; one in a thousand may be blamed at 0.986."""
    dice = np.random.default_rng(7)
    blamed = 0
    for _ in range(30):
        texts = [
            (str(prompt), form(prompt, 0 if dice.random() < same else int(dice.integers(1, 99))))
            for prompt in range(36)
            for _ in range(16)
        ]
        blamed += bool(failed(check_draws(table(texts), None, STUDY1, WARM)))
    assert blamed == 0


@pytest.mark.parametrize(
    ("prompts", "draws", "temperature", "text"),
    [
        (6, 4, 0.7, form(0)),  # too few
        (36, 16, 0.2, form(0)),  # nearly greedy
        (36, 16, 0.7, "It was good"),  # short
    ],
)
def test_too_little_to_tell_passes(prompts: int, draws: int, temperature: float, text: str) -> None:
    texts = [(str(prompt), text) for prompt in range(prompts) for _ in range(draws)]
    decoding = GenerationConfig(temperature=temperature)
    checks = check_draws(table(texts), None, STUDY1, decoding)
    assert [check.name for check in checks] == ["draws_vary"]
    assert not failed(checks)


def test_nothing_is_checked_where_nothing_was_drawn_twice() -> None:
    texts = [(str(prompt), form(prompt)) for prompt in range(300)]
    assert check_draws(table(texts), None, STUDY1, WARM) == []
    repeated = [(str(prompt % 36), form(prompt % 36)) for prompt in range(300)]
    greedy = GenerationConfig(temperature=0)
    assert check_draws(table(repeated), None, STUDY1, greedy) == []
    once = table(repeated).assign(request_seed=1)
    assert draws_of(once).empty, "one draw that stands there often"


def test_the_bound_is_chernoffs() -> None:
    """Of 200 coins of chance 0.8, more than the bound come up less often than `CHANCE` says."""
    bound = _most(0.8, 200)
    tail = np.random.default_rng(7).binomial(200, 0.8, size=500_000) > bound * 200
    assert tail.mean() <= 10 * CHANCE
    assert 0.88 < bound < 0.96
    assert _most(0.999, 200) == 1.0


def test_replications_that_repeat_each_other_are_seen_when_they_are_merged(tmp_path: Path) -> None:
    """Each has too few draws to tell; a server that draws passes."""
    repeated_draws = runpy.run_path(str(ROOT / "scripts/merge.py"))["repeated_draws"]
    for share, lines in ((1.0, 1), (0.9, 0)):
        dice = np.random.default_rng(7)
        paths = []
        for replication in range(2):
            texts = [
                (f"{prompt:016x}", form(prompt, 0 if dice.random() < share else 7))
                for prompt in range(36)
                for _ in range(8)
            ]
            found = table(texts).assign(model_key="big", replication=replication)
            found["request_seed"] += 1000 * replication
            assert not failed(check_draws(found, None, STUDY1, WARM))
            paths.append(tmp_path / f"{replication}.csv")
            found.to_csv(paths[-1], index=False)
        refused = list(repeated_draws(paths, [], STUDY1, WARM))
        assert [one.what for one in refused] == [("big", 0), ("big", 1)] * lines
        reasons = {failure.reason for failure in refused}
        assert all("big, all 2 replications, study1_exp1: share of 540" in line for line in reasons)
