"""What a pod does before its first answer, noted for the run that made it. Nothing outside of pods.

A line a phase, `SECONDS PHASE` (of the epoch), in a file beside what else a pod is told of itself
(`grace.provenance.environment.POD_FACTS`), which the run's controller reads.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from grace.provenance.environment import POD_FACTS

SUFFIX = ".phases"
STARTING, LOADING, WARMING, ANSWERING = (
    "starting the server", "loading weights", "warming up the server", "answering",
)  # fmt: skip
#: What vLLM 0.32 writes at the beginning of a phase, the last phase first.
SERVER_WORDS = (
    (WARMING, ("Model loading took", "Loading weights took")),
    (LOADING, ("Starting to load model",)),
)


def note(phase: str) -> None:
    """Write down that a phase begins. What cannot be written is no reason to stop."""
    folder, pod = os.environ.get(POD_FACTS), os.environ.get("POD_NAME")
    if not folder or not pod or "/" in pod:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with (Path(folder) / f"{pod}{SUFFIX}").open("a", encoding="utf-8") as file:
            file.write(f"{time.time():.0f} {phase}\n")
    except OSError:
        return


def noted(folder: Path, pod: str) -> list[tuple[float, str]]:
    """The phases that a pod has noted, each with when it began (seconds of the epoch)."""
    try:
        lines = (folder / f"{pod}{SUFFIX}").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        at, _, phase = line.partition(" ")
        if at.isdecimal() and phase:  # the last line may be half written
            found.append((float(at), phase))
    return found


def server_phase(log: str) -> str:
    """What a server that starts is doing, from what it has written since it was started."""
    for phase, words in SERVER_WORDS:
        if any(word in log for word in words):
            return phase
    return STARTING
