"""Study 2, politeness: how answers are read, and the columns of its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from grace.scoring.distributions import entropy
from grace.studies.answers import StructuredAnswer, Study
from grace.studies.study2 import ASSESSMENTS, FRAMES, UTTERANCES, Study2Design, Study2Trial


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
# What takes an utterance back: "would not say it was bad", "rather than it was bad".
_TAKEN_BACK = re.compile(
    r"(?:\b(?:not|never|cannot)|n(?:[^\w\s]|ʼ)?t)\s+(?:\w+\s+){0,2}"
    r"(?:say|saying|said|claim|tell|write|answer|think|call|mean)\b[^.!?\n]{0,40}\Z"
    r"|\b(?:rather\s+than|instead\s+of|avoid|without|neither|nor)\b[^.!?,;\n]{0,40}\Z",
    re.IGNORECASE,
)
#: Characters before an utterance that are looked at.
_BEFORE = 120
# Another word right behind the first one: "good and bad", "bad, good", "terrible | bad".
_ANOTHER = re.compile(
    r"\]?[ \t]*(?:[,;|&–-]|(?:and|but|yet|to|nor)\b)+[ \t]*"
    r"(?:(?:and|but|not|also|or|very)[ \t]+){0,2}\[?(?:terrible|bad|good|amazing)\b",
    re.IGNORECASE,
)
_FORM = re.compile(r"\s*It (?:was|wasn't) (?:terrible|bad|good|amazing)\.?\s*")


class Study2(Study2Design, Study):
    """Politeness."""

    answer_model = Study2Answer
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

    def derived_columns(self, trial: Study2Trial) -> dict[str, Any]:
        return {"Goal_simplified": trial.goal_simplified, "State_number": trial.state_number}

    def parse(self, response: str | None) -> Study2Answer:
        text = re.sub(r"[*_`\"]+", "", response or "")
        matches = list(_UTTERANCE.finditer(text))
        found = {
            (
                "was" if re.fullmatch("was", match[1], re.IGNORECASE) else "wasn't",
                match[2].lower(),
            )
            for match in matches
        }
        if not found:
            problem = "no utterance of the form asked for"
        elif len(found) > 1:
            problem = "several utterances"
        elif any(
            _TAKEN_BACK.search(text[max(0, match.start() - _BEFORE) : match.start()])
            for match in matches
        ):
            problem = "an utterance that is taken back"
        elif any(_ANOTHER.match(text, match.end()) for match in matches):
            problem = "several words in one utterance"
        else:
            problem = None
        if problem is not None:
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
