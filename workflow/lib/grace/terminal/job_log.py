"""What a job's log says that belongs on the terminal: warnings, its last lines, how far it is."""

from __future__ import annotations

import os
import re
from pathlib import Path

from grace.foreign_text import for_log

#: Bytes of a log's end that are read.
MOST_BYTES = 200_000
#: Lines of a failed job's log that are shown.
MOST_LINES = 25
_WARNING = re.compile(r"^(?:\d\d:\d\d:\d\d WARNING |warning: )(.*)$", re.M)
#: A line of `grace.progress`: per cent done, and the time left, such as "03:12" or "1:03:12".
_PROGRESS = re.compile(r" INFO [^\n]*?:\s+(\d+)%\|[^\n]*\[[\d:]+<([\d:]+|\?)[^\n]*\]")


def end_of(log: Path, most_bytes: int = MOST_BYTES) -> str:
    """The end of a log, as a terminal can show it; "" where there is none."""
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - most_bytes))
            text = file.read(most_bytes).decode("utf-8", errors="replace")
    except OSError:
        return ""
    return for_log(text)


def warnings(log: Path) -> list[str]:
    """The texts of a log's warnings, each once."""
    return list(dict.fromkeys(_WARNING.findall(end_of(log))))


def last_lines(log: Path) -> tuple[list[str], bool]:
    """A log's last lines, and whether there are others before them."""
    lines = end_of(log).splitlines()
    return lines[-MOST_LINES:], len(lines) > MOST_LINES


def how_far(log: Path) -> tuple[int, float | None] | None:
    """Per cent that a running job has done, and the seconds left; None where it does not say."""
    found = _PROGRESS.findall(end_of(log, 4000))
    if not found:
        return None
    percent, left = found[-1]
    return int(percent), None if left == "?" else _seconds(left)


def _seconds(clock: str) -> float:
    found = 0.0
    for part in clock.split(":"):
        found = 60 * found + float(part or 0)
    return found
