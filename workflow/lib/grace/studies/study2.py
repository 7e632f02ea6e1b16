"""Study 2, politeness, after Yoon, Tessler, Goodman & Frank (2020), Open Mind 4:71-87.

A speaker thinks that the listener's work deserves 0 to 3 hearts and has a goal: to be
informative, to be kind, or both. Which of eight utterances does the speaker choose?
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from grace.prompts import PromptSet
from grace.studies.base import Message, Query, StudyDesign, Trial

FRAMES = ("was", "wasn't")
ASSESSMENTS = ("terrible", "bad", "good", "amazing")
GOALS = ("informative", "social", "both")
UTTERANCES = {
    f"It {frame} {assessment}": (frame, assessment)
    for frame in FRAMES
    for assessment in ASSESSMENTS
}
_STATE = re.compile(r"([0-3])\s*(?:hearts?)?", re.IGNORECASE)
#: Used where a file gives a goal's bare label instead of a clause.
_GOAL_CLAUSES = {
    "informative": "If {speaker} wanted to be as informative as possible",
    "social": "If {speaker} wanted {listener} to feel good and did not mind being uninformative",
    "both": "If {speaker} wanted BOTH to be informative AND {listener} to feel good",
}


def simplify_goal(goal: str) -> Literal["informative", "social", "both"] | None:
    """A goal's label, or None for a text that names none.

    A goal that mentions both motives is `both` only if it says so: "feel good, rather than
    informative" is `social`. What comes after "rather than" or "instead of" is not wanted.
    """
    text = re.split(r"\brather than\b|\binstead of\b", goal.lower())[0]
    if re.search(r"\bboth\b", text):
        return "both"
    if re.search(r"\bfeel (?:good|better)\b|\bkind\b|\bsocial\b", text):
        return "social"
    if re.search(r"\binformative\b|\baccurate\b", text):
        return "informative"
    return None


class Study2Trial(Trial):
    """One row of study2.csv. `Utterance` is left over from a listener task and is never used."""

    Participant_ID: str = Field(min_length=1)
    Domain: str = Field(min_length=1)
    Precontext: str = Field(min_length=1)
    Scenario: str = Field(min_length=1)
    Utterance: str
    Goal: str = Field(min_length=1)
    State: str = Field(min_length=1)
    SP_Name: str = Field(min_length=1)
    LS_Name: str = Field(min_length=1)

    @field_validator("Goal")
    @classmethod
    def _known_goal(cls, value: str) -> str:
        if simplify_goal(value) is None:
            raise ValueError(
                "must be one of informative, social, both, or a clause that mentions being"
                " 'informative' or 'accurate', to 'feel good', or 'both'"
            )
        return value

    @field_validator("State")
    @classmethod
    def _known_state(cls, value: str) -> str:
        if not _STATE.fullmatch(value):
            raise ValueError("must be one of '0 hearts', '1 heart', '2 hearts', '3 hearts'")
        return value

    @property
    def goal_simplified(self) -> Literal["informative", "social", "both"]:
        """informative, social or both."""
        goal = simplify_goal(self.Goal)
        assert goal is not None  # the validator saw to it
        return goal

    @property
    def state_number(self) -> int:
        """How many hearts the speaker would give, 0 to 3."""
        match = _STATE.fullmatch(self.State)
        assert match is not None  # the validator saw to it
        return int(match[1])


class Study2Design(StudyDesign):
    """Politeness: what is asked."""

    name = "study2"
    trial_model = Study2Trial
    key_columns = ("Participant_ID", "Domain")
    templates = {"exp1": ("study2_exp1.j2",), "exp2": ("study2_exp2.j2",)}

    def _values(self, trial: Study2Trial) -> dict[str, Any]:
        names = {"speaker": trial.SP_Name, "listener": trial.LS_Name}
        clause = trial.Goal.strip().rstrip(".,;: ")
        if clause.lower() in GOALS:
            clause = _GOAL_CLAUSES[clause.lower()].format(**names)
        hearts = trial.state_number
        return {
            **names,
            "precontext": trial.Precontext,
            "scenario": trial.Scenario,
            "goal": clause,
            "hearts": f"{hearts} {'heart' if hearts == 1 else 'hearts'}",
        }

    def messages(self, trial: Study2Trial, prompts: PromptSet) -> tuple[Message, ...]:
        return prompts.render("study2_exp1.j2", self._values(trial))

    def queries(self, trial: Study2Trial, prompts: PromptSet) -> tuple[Query, ...]:
        messages = prompts.render("study2_exp2.j2", self._values(trial))
        return (Query("utterance", messages, tuple(UTTERANCES)),)
