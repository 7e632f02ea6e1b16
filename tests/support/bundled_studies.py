"""The bundled studies that a default run has, loaded once."""

from pathlib import Path

from grace.studies.catalogue import bundled

ROOT = Path(__file__).parents[2]
STUDIES = bundled(ROOT, "study1", "study2")
UTTERANCES = {
    f"It {frame} {assessment}": (frame, assessment)
    for frame in ("was", "wasn't")
    for assessment in ("terrible", "bad", "good", "amazing")
}
STUDY1, STUDY2 = STUDIES.values()
