"""The Rational Speech Act model of a reference game, as fitted by Franke et al. (2024).

Frank & Goodman (2012), Predicting pragmatic reasoning in language games, Science 336:998; Franke,
Tsvilodub & Carcassi (2024), arXiv 2406.09012. A word w is true of an object o that has it as a
feature; objects are equally likely and words cost nothing.

    L0(o | w) ∝ [[w]](o)
    S1(w | o) ∝ exp(alpha ln L0(o | w)), 0 where w is not true of o
    L1(o | w) ∝ S1(w | o)

Production chooses from S1, interpretation from L1. With probability `error` a choice is made at
random among the three kinds of choice that a trial has (target, competitor, distractor), which is
the parametrisation that gives the published estimates back.
"""

from __future__ import annotations

import numpy as np

KINDS = ("target", "competitor", "distractor")


def choice(
    role: str, objects: list[str], words: list[str], given: str, target: str, competitor: str,
    *, alpha: float, error: float,
) -> dict[str, float]:  # fmt: skip
    """P(kind of choice) in one trial. Raises `ValueError` for a role that the game has not."""
    true = np.array([[word in thing.split() for word in words] for thing in objects], dtype=float)
    literal = true / true.sum(axis=0)  # L0(o | w), objects by words
    with np.errstate(divide="ignore"):
        speaker = np.exp(alpha * np.log(literal)) * true
    speaker /= speaker.sum(axis=1, keepdims=True)
    if role == "production":
        options, chances = words, speaker[objects.index(given)]
    elif role == "interpretation":
        heard = speaker[:, words.index(given)]
        options, chances = objects, heard / heard.sum()
    else:
        raise ValueError(f"role is {role!r}, but must be production or interpretation")
    kinds = dict.fromkeys(KINDS, 0.0)
    for option, chance in zip(options, chances, strict=True):
        kind = {target: "target", competitor: "competitor"}.get(option, "distractor")
        kinds[kind] += float(chance)
    return {kind: (1 - error) * chance + error / len(kinds) for kind, chance in kinds.items()}
