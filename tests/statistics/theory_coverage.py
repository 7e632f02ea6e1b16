"""How often intervals of study 2's fitted speaker hold the truth: `theory_coverage.py RUNS`.

For the table in docs/studies.md. Items differ by normal deviates in how they favour each utterance;
the truth is the fit to very many of them. A run takes about two seconds of a busy core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from grace.studies.catalogue import bundled
from grace.studies.theory import load_theory
from grace.studies.theory_likelihood import most_likely, search
from grace.studies.theory_of_models import FittedTheory

ROOT = Path(__file__).parents[2]
ITEMS, ANSWERS = 12, 34


def main(runs: int) -> None:
    study = bundled(ROOT, "study2")["study2"]
    polite = FittedTheory(study, study.declaration.theory[0], "theory.0")
    space = polite.space()
    published = {"alpha": 4.470302, "negation_cost": 2.640959}
    weights = load_theory(study).read_weights(
        study.beside("../../resources/reference/politeness_weights.csv")
    )
    for goal, own in weights.items():
        for name in ("informational", "social", "presentational"):
            published[f"w_{name} {goal}"] = getattr(own, name)
        published[f"phi {goal}"] = own.phi
    chances = polite.predict({name: published[name.strip()] for name in space.names})

    def items(rng: np.random.Generator, spread: float, number: int) -> np.ndarray:
        found = chances * np.exp(spread * rng.normal(size=(number, 1, chances.shape[1])))
        return found / found.sum(axis=2, keepdims=True)

    for spread in (0.0, 0.3, 0.7):
        many = items(np.random.default_rng(99), spread, 6000).mean(axis=0)
        truth = space.values(search(polite.predict, 1e4 * many, space)[0])
        for scored in (False, True) if spread else (False,):
            rng = np.random.default_rng(5)
            held: list[bool] = []
            for _ in range(runs):
                shares = items(rng, spread, ITEMS)
                answers = ANSWERS * shares if scored else rng.multinomial(ANSWERS, shares)
                found = most_likely(polite.predict, answers.astype(float), space).parameters
                held += [
                    one.low - 1e-6 <= value <= one.high + 1e-6
                    for one, value in zip(found, truth, strict=True)
                    if one.low is not None and one.high is not None
                ]
            kind = "scored" if scored else "drawn"
            print(f"spread {spread}, {kind}: {np.mean(held):.3f} of {len(held)}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
