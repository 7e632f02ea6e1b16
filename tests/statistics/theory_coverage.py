"""How often intervals of study 2's fitted speaker hold the truth: `theory_coverage.py FIRST END`.

Runs FIRST to END - 1 of every design, or of those whose numbers follow. Part of
`make test-statistics`; writes CSV lines `design,spread,kind,parameter,covered,runs`. Items differ
by normal deviates in how they favour each utterance; the truth is the fit to very many of them. A
run takes about a fifth of a second of a busy core, or more; all cores work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from functools import cache
from pathlib import Path

from bundled_studies import bundled_study

# Before numpy: processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from grace.studies.fitted_theory import FittedTheory
from grace.studies.theory import load_theory
from grace.studies.theory_likelihood import Predict, Space, most_likely, search

ROOT = Path(__file__).parents[2]
ITEMS, ANSWERS = 12, 34
DESIGNS = ((0.0, "drawn"), (0.3, "drawn"), (0.3, "scored"), (0.7, "drawn"), (0.7, "scored"))


@cache
def speaker() -> tuple[Predict, Space, np.ndarray]:
    """Study 2's polite speaker, its parameters, and its answers' chances at the published ones.

    Its distributions are taken a goal at a time, not a cell at a time as `FittedTheory` does, whose
    numbers they are: that is checked.
    """
    study = bundled_study("study2")
    polite = FittedTheory(study, study.declaration.theory[0], "theory.0")
    theory = load_theory(study)
    files = [ROOT / f"resources/reference/politeness_{name}.csv" for name in ("lexicon", "weights")]
    goals = list(dict.fromkeys(cell["goal"] for cell in polite.cells))
    names = ("w_informational", "w_social", "w_presentational", "phi")

    def predict(values: Mapping[str, float]) -> np.ndarray:
        shared = values["alpha "], values["negation_cost "]
        return np.concatenate(
            [
                theory._table(
                    goal, *files, *shared, tuple(values[f"{name} {goal}"] for name in names)
                )
                for goal in goals
            ]
        )

    published = {"alpha ": theory.ALPHA, "negation_cost ": theory.COSTS["wasn't"]}
    for goal, own in theory.read_weights(files[1]).items():
        values = zip(names, astuple(own), strict=True)
        published |= {f"{name} {goal}": value for name, value in values}
    chances = predict(published)
    np.testing.assert_allclose(chances, polite.predict(published), rtol=1e-12)
    return predict, polite.space(), chances


def items(rng: np.random.Generator, spread: float, number: int) -> np.ndarray:
    """Distributions of so many items: items x cells x utterances."""
    chances = speaker()[2]
    found = chances * np.exp(spread * rng.normal(size=(number, 1, chances.shape[1])))
    shares: np.ndarray = found / found.sum(axis=2, keepdims=True)
    return shares


@cache
def truth(spread: float) -> list[float]:
    """The parameters that fit very many items best."""
    predict, space, _ = speaker()
    many = items(np.random.default_rng(99), spread, 6000).mean(axis=0)
    return list(space.values(search(predict, 1e4 * many, space)[0]))


def held(design: tuple[float, str, int]) -> list[tuple[str, bool]]:
    """Of one run, whether the interval of each parameter that has one holds the truth."""
    spread, kind, run = design
    predict, space, _ = speaker()
    rng = np.random.default_rng([5, DESIGNS.index((spread, kind)), run])
    shares = items(rng, spread, ITEMS)
    answers = ANSWERS * shares if kind == "scored" else rng.multinomial(ANSWERS, shares)
    fitted = most_likely(predict, answers.astype(float), space, by_condition=False)
    return [
        (one.name, one.low - 1e-6 <= value <= one.high + 1e-6)
        for one, value in zip(fitted.parameters, truth(spread), strict=True)
        if one.low is not None and one.high is not None
    ]


def rates(runs: range, designs: list[int]) -> Iterator[tuple[int, float, str, str, int, int]]:
    """Rows of the table: `covered` of `runs` with an interval hold the truth."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number in designs or range(len(DESIGNS)):
            spread, kind = DESIGNS[number]
            found: dict[str, list[bool]] = {}
            for one in pool.map(held, [(spread, kind, run) for run in runs], chunksize=4):
                for name, covered in one:
                    found.setdefault(name, []).append(covered)
            for name, covered_in in found.items():
                yield number, spread, kind, name, sum(covered_in), len(covered_in)


def main(first: int, end: int, *designs: int) -> None:
    """Print the rates as CSV."""
    print("design,spread,kind,parameter,covered,runs")
    for row in rates(range(first, end), list(designs)):
        print(*row, sep=",", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
