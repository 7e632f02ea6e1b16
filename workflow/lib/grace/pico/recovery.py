"""Does a run on pico give the simulator's distributions back? The workflow's end-to-end check.

Experiment 2 measures distributions: they are compared one by one. Experiment 1 draws answers:
their frequencies are tested against the simulator's by a likelihood ratio G whose distribution
comes from simulated runs of the same trials, since many expected counts are too small for a
chi-squared approximation. The tests hold for answers sampled at temperature 1 and top-p 1.

A network never gives the impossible a probability of exactly zero, so that G would be infinite
after a single slip; it is therefore reckoned against a simulator that answers at random in one
answer of `1 / LAPSE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grace.pico import simulator
from grace.pico.trained_on import STATES, UTTERANCES
from grace.pico.trained_on import study as trained_on
from grace.scoring.distributions import jensen_shannon, normalised
from grace.studies.answers import StructuredAnswer
from grace.studies.trials import Trial

Array = NDArray[np.float64]
Record = Mapping[str, Any]
#: One draw of counts for every group: a list of arrays, one count a category.
Counts = list[Array]
SIMULATIONS = 2000
LAPSE = 0.001


@dataclass(frozen=True)
class Scored:
    """Experiment 2 against the simulator.

    `divergences` holds the Jensen-Shannon divergence in bits of each measured query, by query
    name, in the records' order; `option_mass` the mass that all its options got.
    """

    divergences: dict[str, list[float]]
    option_mass: list[float]
    failed: int

    @property
    def all_divergences(self) -> list[float]:
        """Of all queries together."""
        return [value for values in self.divergences.values() for value in values]

    @property
    def mean_divergence(self) -> float:
        """Bits."""
        return float(np.mean(self.all_divergences))

    @property
    def max_divergence(self) -> float:
        """Bits."""
        return max(self.all_divergences)

    @property
    def mean_option_mass(self) -> float:
        """Between 0 and 1."""
        return float(np.mean(self.option_mass))

    @property
    def min_option_mass(self) -> float:
        """Between 0 and 1."""
        return min(self.option_mass)


@dataclass(frozen=True)
class Answered:
    """Experiment 1 against the simulator.

    `p_values` has one entry a test: study 1 `initial`, `bets` (each percentage's distribution by
    cell and state), `bet_means` and `knowledge` (by access); study 2 `utterances` (by goal and
    state). `summing_to_100` is the share of parsed answers whose percentages do; None in study 2.
    """

    answers: int
    parsed: int
    summing_to_100: float | None
    p_values: dict[str, float]

    @property
    def parse_rate(self) -> float:
        """Share of the answers that could be read."""
        return self.parsed / self.answers


def expected(study: str, trial: Any) -> dict[str, simulator.Part]:
    """The simulator's distribution for each of a trial's queries."""
    if study == "study1":
        return simulator.study1_distributions(trial)
    return simulator.study2_distributions(trial)


def scored(study: str, records: Iterable[Record]) -> Scored:
    """Compare the records of `<study>_exp2.json`. Raises `ValueError` if none was measured."""
    divergences: dict[str, list[float]] = {}
    masses: list[float] = []
    failed = 0
    for record in records:
        trial = trained_on(study).trial(record["trial"])
        wanted = expected(study, trial)
        for query in record["queries"]:
            if query["name"] not in wanted:
                continue  # pico was not trained on it
            if query["status"] != "ok":
                failed += 1
                continue
            measured = normalised([option["logprob"] for option in query["options"]])
            distribution = wanted[query["name"]]
            target = [distribution.get(option["text"], 0.0) for option in query["options"]]
            divergences.setdefault(query["name"], []).append(jensen_shannon(measured, target))
            masses.append(query["option_mass"])
    if not masses:
        raise ValueError(f"{study}: no measured query in the records")
    return Scored(divergences, masses, failed)


def answered(
    study: str, records: Iterable[Record], *, seed: int = 0, simulations: int = SIMULATIONS
) -> Answered:
    """Compare the records of `<study>_exp1.json`. Raises `ValueError` if none could be read."""
    trials: list[Any] = []
    answers: list[Any] = []
    total = 0
    for record in records:
        total += 1
        answer = trained_on(study).parse(record["response"])
        if answer.extraction_errors is None:
            trials.append(trained_on(study).trial(record["trial"]))
            answers.append(answer)
    if not answers:
        raise ValueError(f"{study}: none of {total} answers could be read")
    rng = np.random.default_rng(seed)
    if study == "study2":
        tests = {"utterances": _test_utterances(trials, answers, rng, simulations)}
        return Answered(total, len(answers), None, tests)
    tests = _test_study1(trials, answers, rng, simulations)
    return Answered(total, len(answers), _summing_to_100(answers), tests)


def g_statistic(counts: Counts, probabilities: Counts) -> float:
    """2 sum O ln(O / E) over groups of categories. Infinite where the impossible was seen."""
    total = 0.0
    for observed, distribution in zip(counts, probabilities, strict=True):
        seen = observed > 0
        if (distribution[seen] <= 0).any():
            return float("inf")
        wanted = observed.sum() * distribution[seen]
        total += 2 * float((observed[seen] * np.log(observed[seen] / wanted)).sum())
    return total


def monte_carlo_p(statistic: float, simulate: Callable[[], float], simulations: int) -> float:
    """Share of simulated runs, the real one included, that fit no better."""
    worse = sum(simulate() >= statistic for _ in range(simulations))
    return (1 + worse) / (1 + simulations)


def _test_groups(
    counts: Counts, probabilities: Counts, rng: np.random.Generator, simulations: int
) -> float:
    """G-test of independent groups of categories."""
    sizes = [int(observed.sum()) for observed in counts]
    reference = [_lapsing(distribution) for distribution in probabilities]

    def simulate() -> float:
        drawn = [
            rng.multinomial(size, distribution).astype(float)
            for size, distribution in zip(sizes, probabilities, strict=True)
        ]
        return g_statistic(drawn, reference)

    return monte_carlo_p(g_statistic(counts, reference), simulate, simulations)


def _test_utterances(
    trials: Sequence[Trial],
    answers: Sequence[StructuredAnswer],
    rng: np.random.Generator,
    simulations: int,
) -> float:
    texts = list(UTTERANCES)
    counts: dict[tuple[str, int], Array] = {}
    for trial, answer in zip(trials, answers, strict=True):
        cell = (trial["Goal_simplified"], trial["State_number"])
        group = counts.setdefault(cell, np.zeros(len(texts)))
        group[texts.index(str(answer["response_cleaned"]))] += 1
    wanted = [
        _vector([simulator.utterance(*cell).get(text, 0.0) for text in texts]) for cell in counts
    ]
    return _test_groups(list(counts.values()), wanted, rng, simulations)


def _bets(answer: StructuredAnswer) -> list[float]:
    return [float(answer[f"probability_{state}"]) for state in STATES]


def _summing_to_100(answers: Sequence[StructuredAnswer]) -> float:
    return float(np.mean([abs(sum(_bets(answer)) - 100) < 1e-6 for answer in answers]))


def _test_study1(
    trials: Sequence[Trial],
    answers: Sequence[StructuredAnswer],
    rng: np.random.Generator,
    simulations: int,
) -> dict[str, float]:
    initial = np.zeros(len(STATES))
    knows: dict[int, Array] = {}
    bets: dict[tuple[int, int], list[list[float]]] = {}
    for trial, answer in zip(trials, answers, strict=True):
        initial[int(answer["Prior_A"] or 0)] += 1
        knows.setdefault(trial["access"], np.zeros(2))[
            0 if answer["Knowledge_A"] == "yes" else 1
        ] += 1
        bets.setdefault((trial["access"], trial["observe"]), []).append(_bets(answer))
    prior = [_vector(list(simulator.initial_answer().values()))]
    knowledge = [_vector(list(simulator.knowledge(access).values())) for access in knows]
    real = {cell: np.array(rows) / simulator.TENTHS for cell, rows in bets.items()}

    def simulated() -> dict[tuple[int, int], Array]:
        return {
            cell: rng.multinomial(simulator.TENTHS, _beliefs(cell), len(rows)).astype(float)
            for cell, rows in bets.items()
        }

    return {
        "initial": _test_groups([initial], prior, rng, simulations),
        "bets": monte_carlo_p(_bets_g(real), lambda: _bets_g(simulated()), simulations),
        "bet_means": monte_carlo_p(
            _mean_distance(real), lambda: _mean_distance(simulated()), simulations
        ),
        "knowledge": _test_groups(list(knows.values()), knowledge, rng, simulations),
    }


def _beliefs(cell: tuple[int, int]) -> Array:
    beliefs = _vector(simulator.beliefs(*cell))
    normed: Array = beliefs / beliefs.sum()
    return normed


def _bets_g(bets: Mapping[tuple[int, int], Array]) -> float:
    """G of each percentage's distribution, by cell and state. Rows are answers, in tenths."""
    counts: Counts = []
    wanted: Counts = []
    for cell, rows in bets.items():
        if not np.array_equal(rows, rows.round()) or (rows > simulator.TENTHS).any():
            return float("inf")
        for state in STATES:
            drawn = rows[:, state].astype(int)
            counts.append(np.bincount(drawn, minlength=simulator.TENTHS + 1).astype(float))
            bet = simulator.binomial(simulator.TENTHS, float(_beliefs(cell)[state]))
            wanted.append(_lapsing(_vector(bet)))
    return g_statistic(counts, wanted)


def _mean_distance(bets: Mapping[tuple[int, int], Array]) -> float:
    """Squared distances of the mean bets, in standard errors, summed over cells and states."""
    total = 0.0
    for cell, rows in bets.items():
        beliefs = _beliefs(cell)
        variance = simulator.TENTHS * beliefs * (1 - beliefs) + LAPSE * simulator.TENTHS**2
        apart = (rows.mean(axis=0) - simulator.TENTHS * beliefs) ** 2
        total += float((apart / variance).sum()) * len(rows)
    return total


def _lapsing(distribution: Array) -> Array:
    mixed: Array = (1 - LAPSE) * distribution + LAPSE / len(distribution)
    return mixed


def _vector(values: Sequence[float]) -> Array:
    return np.array(values, dtype=np.float64)
