"""Which answers there are and where: about 200 bytes of memory an answer, none of the answers."""

from __future__ import annotations

import logging
from array import array
from pathlib import Path
from typing import NamedTuple

from grace.errors import JournalError
from grace.journal.lines import check_of
from grace.journal.segments import scan, segments_in, torn

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a line begins (offset in bytes), and its checksum."""

    path: Path
    offset: int
    check: int


class Index:
    """Keys (32 bytes each) and places. Of two different answers to one key the first counts."""

    def __init__(self) -> None:
        self.damaged = 0
        self.conflicts = 0
        self.segments: list[Path] = []
        self._rows: dict[bytes, int] = {}
        self._segment_numbers, self._offsets, self._checks = array("I"), array("Q"), array("Q")

    @classmethod
    def load(cls, folder: Path) -> Index:
        """Read every segment of a folder. Raises `JournalError` or `OSError`."""
        for _ in range(10):
            try:
                return cls._load(folder)
            except FileNotFoundError:
                continue  # merged into a new segment since it was listed: list again
        raise JournalError(f"the files of the journal {folder} vanish while they are read")

    @classmethod
    def _load(cls, folder: Path) -> Index:
        index = cls()
        for path in segments_in(folder):
            damaged = 0
            for offset, line, key in scan(path):
                if key is not None:
                    index.add(key, path, offset, check_of(line))
                elif not torn(line):
                    damaged += 1
            if damaged:
                index.damaged += damaged
                logger.warning(
                    "%s: %d damaged lines skipped; what they answered is asked again", path, damaged
                )
        return index

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def find(self, key: bytes) -> Place | None:
        row = self._rows.get(key)
        if row is None:
            return None
        path = self.segments[self._segment_numbers[row]]
        return Place(path, self._offsets[row], self._checks[row])

    def add(self, key: bytes, path: Path, offset: int, check: int) -> None:
        """Note an answer. A different one to the same key is reported and left out."""
        if not self.segments or self.segments[-1] != path:
            self.segments.append(path)
        known = self._rows.setdefault(key, len(self._checks))
        if known < len(self._checks):
            if self._checks[known] != check:
                self.report_conflict(key)
            return
        self._segment_numbers.append(len(self.segments) - 1)
        self._offsets.append(offset)
        self._checks.append(check)

    def forget(self, key: bytes) -> None:
        """Leave out an answer that was found damaged, so that it can be asked and added again."""
        del self._rows[key]

    def report_conflict(self, key: bytes) -> None:
        """Say that a key has two different answers."""
        self.conflicts += 1
        logger.warning("the journal has two different answers to %s: the first counts", key.hex())


def line_at(place: Place) -> bytes:
    """The bytes from a place to the end of the line, unchecked. Raises `OSError`."""
    with place.path.open("rb") as file:
        file.seek(place.offset)
        return file.readline()
