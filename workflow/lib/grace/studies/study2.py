"""Study 2, politeness, after Yoon, Tessler, Goodman & Frank (2020), Open Mind 4:71-87.

A speaker thinks that the listener's work deserves 0 to 3 hearts and has a goal: to be
informative, to be kind, or both. Which of eight utterances does the speaker choose?
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from grace.distributions import entropy
from grace.prompts import PromptSet
from grace.studies.base import Message, Query, StructuredAnswer, Study, Trial

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


class Study2Answer(StructuredAnswer):
    """Experiment 1's answer: one of eight utterances."""

    Was_Wasnt: Literal["was", "wasn't"] | None = None
    Assessment: Literal["terrible", "bad", "good", "amazing"] | None = None
    response_cleaned: str | None = None


# The apostrophe may be any mark or none. The lookahead keeps a choice left open, such as the
# form's own "[terrible/bad/good/amazing]", from being taken for its first word.
_UTTERANCE = re.compile(
    r"\bit\s+\[?(was\s+not|was|wasn(?:[^\w\s]|ʼ)?t)\]?\s+\[?(terrible|bad|good|amazing)\b"
    r"(?![ \t]*(?:/|or\b))",
    re.IGNORECASE,
)
_FORM = re.compile(r"\s*It (?:was|wasn't) (?:terrible|bad|good|amazing)\.?\s*")


class Study2(Study):
    """Politeness."""

    name = "study2"
    trial_model = Study2Trial
    answer_model = Study2Answer
    key_columns = ("Participant_ID", "Domain")
    raw_input_columns = (
        "Participant_ID",
        "Domain",
        "Precontext",
        "Scenario",
        "Goal",
        "State",
        "SP_Name",
        "LS_Name",
        "Goal_simplified",
        "State_number",
    )
    probability_input_columns = ("Participant_ID", "Domain", "Goal_simplified", "State_number")
    query_names = ("utterance",)
    templates = {"exp1": ("study2_exp1.j2",), "exp2": ("study2_exp2.j2",)}

    def derived_columns(self, trial: Study2Trial) -> dict[str, Any]:
        return {"Goal_simplified": trial.goal_simplified, "State_number": trial.state_number}

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

    def parse(self, response: str | None) -> Study2Answer:
        text = re.sub(r"[*_`\"]+", "", response or "")
        found = {
            (
                "was" if re.fullmatch("was", frame, re.IGNORECASE) else "wasn't",
                assessment.lower(),
            )
            for frame, assessment in _UTTERANCE.findall(text)
        }
        if len(found) != 1:
            problem = "no utterance of the form asked for" if not found else "several utterances"
            return Study2Answer(extraction_confidence=0.0, extraction_errors=problem)
        frame, assessment = next(iter(found))
        return Study2Answer.model_validate(
            {
                "Was_Wasnt": frame,
                "Assessment": assessment,
                "response_cleaned": f"It {frame} {assessment}",
                "extraction_confidence": 1.0 if _FORM.fullmatch(response or "") else 0.8,
                "extraction_errors": None,
            }
        )

    def probability_columns(self) -> tuple[str, ...]:
        joint = [f"prob_{_key(frame)}_{word}" for frame in FRAMES for word in ASSESSMENTS]
        return (
            "prob_was",
            "prob_wasnt",
            *[f"prob_{word}" for word in ASSESSMENTS],
            *joint,
            "entropy_frame",
            "entropy_assessment",
            "entropy_joint",
        )

    def probabilities(
        self, distributions: Mapping[str, Mapping[str, float] | None]
    ) -> dict[str, float | None]:
        values: dict[str, float | None] = dict.fromkeys(self.probability_columns())
        utterances = distributions.get("utterance")
        if utterances is None:
            return values
        joint = {UTTERANCES[text]: probability for text, probability in utterances.items()}
        frames = {f: sum(p for (frame, _), p in joint.items() if frame == f) for f in FRAMES}
        words = {w: sum(p for (_, word), p in joint.items() if word == w) for w in ASSESSMENTS}
        for (frame, word), probability in joint.items():
            values[f"prob_{_key(frame)}_{word}"] = probability
        for frame, probability in frames.items():
            values[f"prob_{_key(frame)}"] = probability
        for word, probability in words.items():
            values[f"prob_{word}"] = probability
        values["entropy_frame"] = entropy(frames.values())
        values["entropy_assessment"] = entropy(words.values())
        values["entropy_joint"] = entropy(joint.values())
        return values

    def probability_groups(self) -> Mapping[str, tuple[str, ...]]:
        return {
            "frame": ("prob_was", "prob_wasnt"),
            "assessment": tuple(f"prob_{word}" for word in ASSESSMENTS),
            "utterance": tuple(
                f"prob_{_key(frame)}_{word}" for frame in FRAMES for word in ASSESSMENTS
            ),
        }

    def answer_checks(
        self, answer: Mapping[str, Any], percentage_tolerance: float
    ) -> Sequence[str]:
        return []


def _key(frame: str) -> str:
    """A frame as it stands in column names."""
    return frame.replace("'", "")
