"""What a disk may hold after a power cut, from what a program wrote and what it fsynced.

While `recording`, every fsync is noted. A cut may happen before or after any of them. What was
fsynced is there; of what was not, any part may be: of a file's bytes, every sector of 512 by itself
is new, old, or zero, and the length anything between; of a folder's names, any new one may be
missing and any deleted one be back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

SECTOR = 512


@dataclass(frozen=True)
class Moment:
    """A point in time: files and names on disk for sure, those as programs see them, and a note."""

    safe_content: dict[int, bytes]
    safe_names: dict[str, int]
    content: dict[int, bytes]
    names: dict[str, int]
    note: Any

    def after_cut(self, random: Random) -> dict[str, bytes]:
        """A possible content of the folder when power is back."""
        found = {}
        for name in sorted(self.safe_names.keys() | self.names.keys()):
            choices = {self.safe_names.get(name), self.names.get(name)}
            inode = random.choice(sorted(choices, key=str))
            if inode is not None:
                found[name] = self._torn(inode, random)
        return found

    def _torn(self, inode: int, random: Random) -> bytes:
        safe = self.safe_content.get(inode, b"")
        # A deleted file's unsynced bytes are of no interest: nothing of them was acknowledged.
        new = self.content.get(inode, safe)
        if new[: len(safe)] != safe:  # truncated, which is never fsynced on its own
            new = safe
        length = random.choice([len(safe), len(new), random.randint(len(safe), len(new))])
        torn = bytearray(new[:length])
        for start in range(len(safe), length):
            if start == len(safe) or start % SECTOR == 0:
                end = min((start // SECTOR + 1) * SECTOR, length)
                if random.random() < 0.3:
                    torn[start:end] = bytes(end - start)
        return bytes(torn)


@dataclass
class Recorder:
    folder: Path
    note: Callable[[], Any]
    moments: list[Moment] = field(default_factory=list)
    safe_content: dict[int, bytes] = field(default_factory=dict)
    safe_names: dict[str, int] = field(default_factory=dict)
    _kept: dict[int, int] = field(
        default_factory=dict
    )  # open files, so that no inode is used again

    def capture(self) -> None:
        content, names = self._seen()
        self.moments.append(
            Moment(dict(self.safe_content), dict(self.safe_names), content, names, self.note())
        )

    def _seen(self) -> tuple[dict[int, bytes], dict[str, int]]:
        paths = [path for path in self.folder.iterdir() if path.is_file()]
        names = {path.name: path.stat().st_ino for path in paths}
        for name, inode in names.items():
            if inode not in self._kept:
                self._kept[inode] = os.open(self.folder / name, os.O_RDONLY)
        return {names[path.name]: path.read_bytes() for path in paths}, names

    def synced(self, descriptor: int) -> None:
        content, names = self._seen()
        inode = os.fstat(descriptor).st_ino
        if inode in content:
            self.safe_content[inode] = content[inode]
        elif inode == self.folder.stat().st_ino:
            self.safe_names = names

    def start(self) -> None:
        """What is there now is there for sure."""
        self.safe_content, self.safe_names = self._seen()
        self.capture()

    def close(self) -> None:
        for descriptor in self._kept.values():
            os.close(descriptor)


@contextmanager
def recording(folder: Path, note: Callable[[], Any]) -> Iterator[Recorder]:
    """Record a folder's moments; `note` is called at each and kept with it."""
    recorder = Recorder(folder, note)
    recorder.start()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        recorder.capture()
        real(descriptor)
        recorder.synced(descriptor)
        recorder.capture()

    try:
        with mock.patch("os.fsync", fsync):
            yield recorder
        recorder.capture()
    finally:
        recorder.close()
