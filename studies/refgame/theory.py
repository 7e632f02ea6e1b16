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

#: Every trial has the same structure: one word is true of the first object alone, one of the last
#: alone, and two are true of two objects each. Rows are objects, columns words.
TRUE = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=float)


def choice(role: str, *, alpha: float, error: float) -> list[float]:
    """P(target), P(competitor), P(distractor). Raises `ValueError` for another role.

    In production the first object is named: its own word is the target, the one that it shares the
    competitor. In interpretation that shared word is heard: it means the second object.
    """
    literal = TRUE / TRUE.sum(axis=0)  # L0(o | w)
    speaker = TRUE * np.where(TRUE > 0, literal, 1.0) ** alpha
    speaker /= speaker.sum(axis=1, keepdims=True)  # S1(w | o)
    if role == "production":
        own, shared, *others = speaker[0]
        kinds = [own, shared, sum(others)]
    elif role == "interpretation":
        named, meant, other = speaker[:, 1] / speaker[:, 1].sum()  # L1(o | the shared word)
        kinds = [meant, named, other]
    else:
        raise ValueError(f"role is {role!r}, but must be production or interpretation")
    return [float((1 - error) * kind + error / len(kinds)) for kind in kinds]
