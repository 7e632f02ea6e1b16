"""How often intervals of study 2's fitted speaker hold the truth: `theory_coverage.py RUNS`.

Part of `make test-statistics`; writes CSV lines `spread,kind,parameter,covered,runs`. Items differ
by normal deviates in how they favour each utterance; the truth is the fit to very many of them. A
run takes about two seconds of a busy core; all cores work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

# Before numpy: processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from grace.studies.catalogue import bundled
from grace.studies.theory import load_theory
from grace.studies.theory_likelihood import most_likely, search
from grace.studies.theory_of_models import FittedTheory

ROOT = Path(__file__).parents[2]
ITEMS, ANSWERS = 12, 34
DESIGNS = ((0.0, "drawn"), (0.3, "drawn"), (0.3, "scored"), (0.7, "drawn"), (0.7, "scored"))


@cache
def speaker() -> tuple[FittedTheory, np.ndarray]:
    """Study 2's polite speaker, and its answers' chances at the published parameters."""
    study = bundled(ROOT, "study2")["study2"]
    polite = FittedTheory(study, study.declaration.theory[0], "theory.0")
    published = {"alpha": 4.470302, "negation_cost": 2.640959}
    weights = load_theory(study).read_weights(
        study.beside("../../resources/reference/politeness_weights.csv")
    )
    for goal, own in weights.items():
        for name in ("informational", "social", "presentational"):
            published[f"w_{name} {goal}"] = getattr(own, name)
        published[f"phi {goal}"] = own.phi
    names = polite.space().names
    return polite, polite.predict({name: published[name.strip()] for name in names})


def items(rng: np.random.Generator, spread: float, number: int) -> np.ndarray:
    """Distributions of so many items: items x cells x utterances."""
    _, chances = speaker()
    found = chances * np.exp(spread * rng.normal(size=(number, 1, chances.shape[1])))
    shares: np.ndarray = found / found.sum(axis=2, keepdims=True)
    return shares


@cache
def truth(spread: float) -> list[float]:
    """The parameters that fit very many items best."""
    polite, _ = speaker()
    many = items(np.random.default_rng(99), spread, 6000).mean(axis=0)
    space = polite.space()
    return list(space.values(search(polite.predict, 1e4 * many, space)[0]))


def held(design: tuple[float, str, int]) -> list[tuple[str, bool]]:
    """Of one run, whether the interval of each parameter that has one holds the truth."""
    spread, kind, run = design
    polite, _ = speaker()
    rng = np.random.default_rng([5, DESIGNS.index((spread, kind)), run])
    shares = items(rng, spread, ITEMS)
    answers = ANSWERS * shares if kind == "scored" else rng.multinomial(ANSWERS, shares)
    found = most_likely(polite.predict, answers.astype(float), polite.space()).parameters
    return [
        (one.name, one.low - 1e-6 <= value <= one.high + 1e-6)
        for one, value in zip(found, truth(spread), strict=True)
        if one.low is not None and one.high is not None
    ]


def rates(runs: int) -> Iterator[tuple[float, str, str, int, int]]:
    """Spread, kind, parameter, runs whose interval held the truth, and runs with an interval."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for spread, kind in DESIGNS:
            found: dict[str, list[bool]] = {}
            for one in pool.map(held, [(spread, kind, run) for run in range(runs)], chunksize=4):
                for name, covered in one:
                    found.setdefault(name, []).append(covered)
            for name, covered_in in found.items():
                yield spread, kind, name, sum(covered_in), len(covered_in)


def main(runs: int) -> None:
    """Print the rates as CSV."""
    print("spread,kind,parameter,covered,runs")
    for row in rates(runs):
        print(*row, sep=",", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
