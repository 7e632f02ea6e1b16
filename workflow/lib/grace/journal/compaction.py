"""Merging closed segments into one.

A crash at any moment loses nothing: the merged segment is on disk under its name before the old
ones go, and an answer that stands in two segments counts once. Nor do two merges at a time.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from pathlib import Path

from grace.journal.lines import check_of
from grace.journal.segments import CLOSED_AFTER_S, SUFFIX, fsync_folder, scan, segments_in, torn

logger = logging.getLogger(__name__)


def compact(folder: Path, *, closed_after_s: float = CLOSED_AFTER_S, at_least: int = 2) -> int:
    """Merge the closed segments if there are `at_least` so many; gives their number.

    Torn tails go. A segment with damaged lines is kept beside the journal as `*.damaged`, for who
    wants to know; its good lines are merged. Raises `OSError`.
    """
    latest = time.time() - closed_after_s
    try:
        closed = [path for path in segments_in(folder) if path.stat().st_mtime <= latest]
        if len(closed) < at_least:
            return 0
        damaged = _merge(folder, closed)
    except FileNotFoundError:
        return 0  # somebody else is merging them
    for path in closed:
        if path in damaged:
            path.rename(path.with_suffix(".damaged"))
        else:
            path.unlink(missing_ok=True)
    fsync_folder(folder)
    for path in folder.glob("*.tmp"):  # of merges that died
        if path.stat().st_mtime <= latest:
            path.unlink(missing_ok=True)
    logger.info("journal %s: merged %d files", folder, len(closed))
    return len(closed)


def _merge(folder: Path, closed: list[Path]) -> set[Path]:
    """Write every distinct line into a new segment, in order; gives those with damaged lines."""
    damaged = set()
    seen: set[tuple[bytes, int]] = set()
    # The oldest one's time: its answers stay the first.
    moment = re.split("-", closed[0].name, maxsplit=1)[0]
    temporary = folder / f"{moment}-merged-{secrets.token_hex(4)}.tmp"
    with temporary.open("xb") as file:
        try:
            for path in closed:
                for _, line, key in scan(path):
                    if key is None:
                        if not torn(line):
                            damaged.add(path)
                    elif (key, check_of(line)) not in seen:
                        seen.add((key, check_of(line)))
                        file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    temporary.rename(temporary.with_suffix(SUFFIX))
    fsync_folder(folder)
    return damaged
