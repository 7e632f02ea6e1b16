"""Study 2, politeness, after Yoon, Tessler, Goodman & Frank (2020), Open Mind 4:71-87.

A speaker thinks that the listener's work deserves 0 to 3 hearts and has a goal: to be
informative, to be kind, or both. Which of eight utterances does the speaker choose?
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from grace.prompts.plain_text import shortened
from grace.prompts.variants import PromptSet
from grace.studies.base import Message, Query, StudyDesign, Trial

FRAMES = ("was", "wasn't")
ASSESSMENTS = ("terrible", "bad", "good", "amazing")
GoalLabel = Literal["informative", "social", "both"]
GOALS: tuple[GoalLabel, ...] = ("informative", "social", "both")
UTTERANCES = {
    f"It {frame} {assessment}": (frame, assessment)
    for frame in FRAMES
    for assessment in ASSESSMENTS
}
_STATE = re.compile(r"([0-3])\s*(?a:hearts?)?", re.IGNORECASE)
#: Used where a file gives a goal's bare label instead of a clause.
_GOAL_CLAUSES = {
    "informative": "If {speaker} wanted to be as informative as possible",
    "social": "If {speaker} wanted {listener} to feel good and did not mind being uninformative",
    "both": "If {speaker} wanted BOTH to be informative AND {listener} to feel good",
}


# What a goal may say, after `_goal_words`: S stands for the speaker, L for the listener.
_INFORMATIVE = r"(?:as )?(?:informative and accurate|accurate and informative|informative|accurate)"
_GIVE = rf"(?:be {_INFORMATIVE}(?: as possible)?|give {_INFORMATIVE} feedback(?: as possible)?)"
_PLEASE = r"(?:(?:make|help) L feel (?:good|better)|be (?:kind|social)(?: to L)?)"
_L_PLEASED = r"L to feel (?:good|better)"
_RATHER_THAN = r",? (?:rather than|instead of|(?:but )?not necessarily)"
_FORMS: dict[GoalLabel, str] = {
    "informative": (
        rf"to {_GIVE}(?:,? whether or not that pleased L"
        rf"|{_RATHER_THAN} (?:to )?(?:{_PLEASE}|making L feel (?:good|better)|kind|social))?"
    ),
    "social": (
        rf"(?:to {_PLEASE}|{_L_PLEASED})"
        rf"(?:,? and being {_INFORMATIVE} did not matter|,? and did not mind being uninformative"
        rf"|{_RATHER_THAN} (?:to )?(?:{_GIVE}|giving {_INFORMATIVE} feedback|{_INFORMATIVE}))?"
    ),
    "both": (
        rf"(?:to both|both to) {_GIVE},? and (?:(?:to )?{_PLEASE}|{_L_PLEASED})"
        rf"|(?:to both|both to) {_PLEASE},? and (?:to )?{_GIVE}"
        rf"|both {_L_PLEASED},? and to {_GIVE}"
    ),
}
_GOAL_FORMS = {
    label: re.compile(rf"{label}|if S want(?:ed|s) (?:{form})") for label, form in _FORMS.items()
}
_GOALS_ALLOWED = (
    "informative, social, both, or a clause of the form 'If <speaker> wanted to be as informative"
    " and accurate as possible', 'If <speaker> wanted to make <listener> feel good, rather than"
    " give informative feedback' or 'If <speaker> wanted BOTH to be informative AND to make"
    " <listener> feel good'; config/README.md lists all forms"
)


def _goal_words(goal: str, speaker: str, listener: str) -> str:
    """A goal in small letters and single spaces, the names replaced by S and L."""
    text = " ".join(goal.lower().split()).rstrip(".,;: ")
    parts = re.fullmatch(r"if (.+?)( want(?:ed|s)\b.*)", text)
    if parts is None or parts[1] not in {speaker.lower(), "he", "she", "they"}:
        return text
    names = rf"(?<= )(?:{re.escape(listener.lower())}|him|her|them)(?=[ ,]|$)"
    return f"if S{re.sub(names, 'L', parts[2])}"


def simplify_goal(goal: str, speaker: str, listener: str) -> GoalLabel | None:
    """A goal's label, or None for a text that says none of the known things and nothing else.

    Nothing is guessed from single words: "informative, not kind" and "not social" are None.
    """
    text = _goal_words(goal, speaker, listener)
    found = [label for label, form in _GOAL_FORMS.items() if form.fullmatch(text)]
    return found[0] if len(found) == 1 else None


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

    @field_validator("State")
    @classmethod
    def _known_state(cls, value: str) -> str:
        if not _STATE.fullmatch(value):
            raise ValueError("must be one of '0 hearts', '1 heart', '2 hearts', '3 hearts'")
        return value

    @model_validator(mode="after")
    def _two_people(self) -> Study2Trial:
        if self.SP_Name.strip().casefold() == self.LS_Name.strip().casefold():
            raise ValueError(
                f"SP_Name and LS_Name are both {shortened(self.SP_Name)}: the speaker says what"
                " somebody else's work deserves, so the two must differ"
            )
        return self

    @model_validator(mode="after")
    def _known_goal(self) -> Study2Trial:
        if simplify_goal(self.Goal, self.SP_Name, self.LS_Name) is None:
            raise ValueError(
                f"Goal is {shortened(self.Goal)}: must be one of {_GOALS_ALLOWED}. Here <speaker>"
                f" is {shortened(self.SP_Name)} and <listener> {shortened(self.LS_Name)}"
            )
        return self

    @property
    def goal_simplified(self) -> GoalLabel:
        """informative, social or both."""
        goal = simplify_goal(self.Goal, self.SP_Name, self.LS_Name)
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
