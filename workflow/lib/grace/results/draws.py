"""Whether answers to one prompt vary as sampling makes them, or a server repeats itself.

A server that ignores temperature or seed gives every draw the same answer, which looks like a model
that is very sure. The two are told apart only where that is certain enough:

- Where experiment 2 measured the same prompt, the model itself says how sure it is. No option can
  be likelier than it is among the options as experiment 1 samples them (docs/temperature.md), bound
  included. Half of the variation that follows is asked for, because of what the model says beside
  the options: where its tokens part from theirs no table tells. How often draws may then repeat the
  first one is bounded with Chernoff's inequality.
- Elsewhere only a run in which no draw at all differs tells anything, and only a long one: for a
  chance of one in a thousand to end up there with `MANY_REPEATS`, a model has to give the same
  answer in 98.6 of 100 draws on average over all prompts, and with `MANY_SHORT_REPEATS` in 99.7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from grace.results.tables import bound_columns
from grace.settings.config import GenerationConfig
from grace.studies.study import Study

CHANCE = 1e-6
"""Least chance of an honest server to repeat itself as often as was seen, for it to be believed."""
MANY_REPEATS, MANY_SHORT_REPEATS = 500, 2000
SHORT = 40
"""Characters: shorter answers, such as a word or a sentence, are repeated more easily."""
LEAST_TEMPERATURE = 0.5
"""Below it, a run without any variation may be a model's own."""


@dataclass(frozen=True)
class Repeats:
    """Draws that repeat the first answer to their prompt, and the largest share that is possible.

    `share` is among all draws but each prompt's first.
    """

    draws: int
    share: float
    most: float


def draws_of(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a structured table that are draws of their own: answered, each seed once a prompt."""
    answered = table[table["status"].eq("ok") & table["answer_id"].notna()]
    drawn = answered.drop_duplicates(["prompt_id", "request_seed"])
    return drawn[drawn.groupby("prompt_id")["prompt_id"].transform("size") > 1]


def against_measured(
    draws: pd.DataFrame, probabilities: pd.DataFrame, study: Study, decoding: GenerationConfig
) -> Repeats | None:
    """Repeats of answers whose prompts experiment 2 measured too; None where there are none.

    Where `top_p` may leave a single answer beside the options, or an answer follows a reasoning
    trace, experiment 2 does not say what was sampled.
    """
    if decoding.top_p < 1 or len(study.query_names) > 1:
        return None
    options = max(map(list, study.probability_groups().values()), key=len)
    as_sampled = study.sampled_columns()
    if any(name not in as_sampled for name in options):
        return None
    bound = next(iter(bound_columns(study).values()))
    sampled = [as_sampled[name] for name in options]
    measured = probabilities[probabilities["status"].eq("ok")].drop_duplicates("prompt_id")
    measured = measured.dropna(subset=["option_mass", bound, *options, *sampled])
    beside = [
        _beside(mass, shares, decoding.temperature)
        for mass, *shares in measured[["option_mass", *options]].itertuples(index=False)
    ]
    highest = (measured[sampled].max(axis=1) + measured[bound]).clip(upper=1)
    likeliest = dict(zip(measured["prompt_id"], np.maximum(highest, beside), strict=True))
    known = draws[draws["prompt_id"].isin(likeliest) & draws["reasoning_characters"].isna()]
    repeats = _repeats(known)
    if not repeats:
        return None
    count = sum(draws for _, draws, _ in repeats)
    mean = sum(draws * (1 + likeliest[prompt]) / 2 for prompt, draws, _ in repeats) / count
    same = sum(same for _, _, same in repeats)
    return Repeats(count, same / count, _most(mean, count))


def among_themselves(draws: pd.DataFrame, temperature: float) -> Repeats | None:
    """Repeats of all answers; None where there are none.

    The largest possible share is 1 where even a run without any variation proves nothing.
    """
    repeats = _repeats(draws)
    if not repeats:
        return None
    count = sum(draws for _, draws, _ in repeats)
    lengths = draws["model_response"].fillna("").str.len()
    lengths = lengths + draws["reasoning_characters"].fillna(0)
    enough = MANY_REPEATS if lengths.median() >= SHORT else MANY_SHORT_REPEATS
    conclusive = temperature >= LEAST_TEMPERATURE and count >= enough
    same = sum(same for _, _, same in repeats)
    return Repeats(count, same / count, 1 - 1 / count if conclusive else 1.0)


def _repeats(draws: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Prompt, draws after its first, and how many of them are the first one again."""
    return [
        (str(prompt), len(ids) - 1, int((ids.iloc[1:] == ids.iloc[0]).sum()))
        for prompt, ids in draws.groupby("prompt_id", sort=False)["answer_id"]
        if len(ids) > 1
    ]


def _beside(mass: float, shares: Sequence[float], temperature: float) -> float:
    """The most probability of one answer beside the options, at a temperature.

    `shares` are the options' of their `mass` at temperature 1. What is beside them may be many
    answers, of which each has less. It is taken to part from the options at their first token,
    where these are together or apart, whichever leaves it more.
    """
    power = 1 / temperature
    rest = max(0.0, 1 - mass)
    largest = max(mass, rest)
    apart = math.fsum((mass * share / largest) ** power for share in shares)
    beside: float = (rest / largest) ** power
    share: float = beside / (min(apart, (mass / largest) ** power) + beside)
    return share


def _most(mean: float, count: int) -> float:
    """The largest share of `count` events, of chance `mean` on average, with a chance of `CHANCE`.

    1 where even all of them are that likely.
    """
    enough = -math.log(CHANCE) / count
    if _divergence(1.0, mean) < enough:
        return 1.0
    low, high = mean, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(middle, mean) < enough else (low, middle)
    return low


def _divergence(share: float, mean: float) -> float:
    """Kullback-Leibler divergence (nats) of a coin with chance `share` from one with `mean`."""
    if mean >= 1:
        return 0.0
    rest = (1 - share) * math.log((1 - share) / (1 - mean)) if share < 1 else 0.0
    return share * math.log(share / mean) + rest
