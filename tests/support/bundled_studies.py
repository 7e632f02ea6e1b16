"""The bundled studies, each loaded once."""

from functools import cache
from pathlib import Path

from grace.studies.catalogue import bundled
from grace.studies.study import Study

ROOT = Path(__file__).parents[2]


@cache
def bundled_study(name: str) -> Study:
    return bundled(ROOT, name)[name]


STUDIES = {name: bundled_study(name) for name in ("study1", "study2")}
UTTERANCES = {
    f"It {frame} {assessment}": (frame, assessment)
    for frame in ("was", "wasn't")
    for assessment in ("terrible", "bad", "good", "amazing")
}
STUDY1, STUDY2 = STUDIES.values()
#: What no wording may hold.
FAULTS = (
    r"<br",  # markup
    r"[{}]|None\b",  # values left out
    r"\n\n\n| \n| $|  ",  # stray white space
    r"\bYou are\b",  # no one is asked to be Emma
    r"the property",  # each story has a phrase of its own
    r"\b1 hearts|\b[023] heart\b",
    r"\b1 of the \w+ (have|are|were|hold|deserve)\b",
    r"\b[23] of the \w+ (has|is|was|holds|deserves)\b",
    r"exactly \d (of|exams|letters|tickets|fruits|phones|seeds)",
    r"\bIt was (fine|dull|great|odd|lovely)\b",  # the leftover column
)
