"""The two bundled studies whose prompts pico is trained on, and what they ask, in its terms."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Literal

from grace.studies.catalogue import bundled
from grace.studies.study import Study
from grace.studies.theory import load_theory

ROOT = Path(__file__).parents[4]

STATES = (0, 1, 2, 3)
PERCENT_OPTIONS = tuple(f"{percentage}%" for percentage in range(0, 101, 10))
GoalLabel = Literal["informative", "social", "both"]
GOALS: tuple[GoalLabel, ...] = ("informative", "social", "both")
#: What each of study 2's answers consists of: frame and assessment.
UTTERANCES = {
    f"It {frame} {assessment}": (frame, assessment)
    for frame in ("was", "wasn't")
    for assessment in ("terrible", "bad", "good", "amazing")
}


@cache
def theory(name: str) -> ModuleType:
    """The model of people of one of the two, which simulates the people that pico learns from."""
    return load_theory(study(name))


@cache
def study(name: str) -> Study:
    """One of the two. Raises `ConfigError`."""
    return bundled(ROOT, name)[name]
