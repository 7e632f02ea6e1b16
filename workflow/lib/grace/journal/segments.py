"""The journal's files: each writer appends to a segment of its own and waits for no one.

    <folder>/<time>-<host>-<pid>-<random>.jsonl     one writer's lines; names sort by age
    <folder>/*.tmp, *.damaged                       not read: half a merge; evidence kept by a merge

No file has two writers, so nothing here needs locks, which some network file systems lack.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from grace.errors import JournalError
from grace.journal.lines import key_in

SUFFIX = ".jsonl"
#: A segment that was not written to for so long (seconds) is closed: anybody may merge it ...
CLOSED_AFTER_S = 24 * 3600.0
#: ... because its writer leaves it after a much shorter pause. Clocks may differ by hours.
LEFT_AFTER_S = 3600.0


def segments_in(folder: Path) -> list[Path]:
    """The segments, oldest first; empty where there is no folder yet. Raises `OSError`."""
    if not folder.exists():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)


def scan(path: Path) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Offset in bytes, line, and key of every line; the key is None where the line is damaged.

    A last line without its end is torn: its writer died, or is writing now. Raises `OSError`.
    """
    offset = 0
    with path.open("rb", buffering=2**20) as file:
        for line in file:
            yield offset, line, key_in(line)
            offset += len(line)


def torn(line: bytes) -> bool:
    """Whether the line has no end, which only a segment's last can lack."""
    return not line.endswith(b"\n")


def fsync_folder(folder: Path) -> None:
    """Put names on disk: of new, renamed and deleted files. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, on disk too. Raises `OSError`."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)


class SegmentWriter:
    """Appends to a segment of its own. A failed append leaves only what was appended before."""

    def __init__(self, folder: Path) -> None:
        """Create the segment. Raises `OSError`."""
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        host = re.sub(r"[^\w.]", "_", socket.gethostname(), flags=re.ASCII)
        name = f"{moment}-{host}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self.path = folder / name
        self.size = 0  # bytes on disk
        self._written = time.time()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o666)
        fsync_folder(folder)

    def append(self, content: bytes) -> int:
        """Append whole lines; they are on disk on return. Gives the offset of the first.

        Raises `OSError`, or `JournalError` where the file is no longer the one under its name.
        """
        offset = self.size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):  # half a line would be skipped, too
                os.ftruncate(self._descriptor, offset)
            raise
        try:
            same = os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except FileNotFoundError:
            same = False
        if not same:
            raise JournalError(
                f"the journal's file {self.path} was deleted or its volume vanished during the run."
                " Bring the volume back and run again: only what is not saved is asked again"
            )
        self.size += len(content)
        self._written = time.time()
        return offset

    def paused(self) -> bool:
        """Whether it is time to leave this segment: soon others may take it for closed."""
        return time.time() - self._written > LEFT_AFTER_S

    def close(self) -> None:
        """Close the file; an empty one is deleted, where it still can be."""
        os.close(self._descriptor)
        if self.size == 0:
            with suppress(OSError):
                self.path.unlink()
