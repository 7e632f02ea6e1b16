"""SHA-256 of whole files, read once: a file that is the same file, unchanged, is not read again.

A file counts as unchanged while its device, inode, size and both its times are what they were: any
write moves `ctime`, which no program can set. Digests are kept in one small file,
`<journal_dir>/contents.json`. Whatever is wrong with it costs reading again and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from grace.digests import digest, file_digest

logger = logging.getLogger(__name__)

NAME = "contents.json"
#: Files up to this size in bytes are read every time: that is quicker than it is to keep them.
ALWAYS_READ = 2**20
#: A digest is not kept where the file was touched so shortly before it was read (ns) that a second
#: write could leave the same times. Some file systems count in 2 s; clocks of file servers differ.
SETTLED_NS = 10 * 10**9
#: Reading more than this (bytes) is announced, also where no one has asked for a log.
ANNOUNCED = 2 * 2**30

Stamp = tuple[int, int, int, int, int]


class Contents:
    """Digests of files' contents, kept in `folder`; in this process alone where that is None."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path = folder / NAME if folder is not None else None
        self._known = self._read()

    def digest(self, path: Path) -> str:
        """SHA-256 of a file's bytes, 64 hex digits. Raises `OSError`."""
        before = _stamp(path.stat())
        if before[2] <= ALWAYS_READ:
            return file_digest(path)
        key = f"{before[0]}:{before[1]}"
        known = self._known.get(key)
        if known is not None and known[:3] == list(before[2:]):
            return str(known[3])
        if before[2] > ANNOUNCED:
            logger.warning("%s: reading %.0f GB for its digest, once", path, before[2] / 1e9)
        started = time.time_ns()
        found = file_digest(path)
        settled = started - max(before[3:]) > SETTLED_NS
        if settled and _stamp(path.stat()) == before:
            self._keep(key, [*before[2:], found])
        return found

    def files(self, folder: Path) -> dict[str, str]:
        """Digests of a model folder's files, by name from the folder.

        Without notes for people (`*.md`) and without what is hidden, such as a version control's or
        a download's bookkeeping: no engine reads them. Raises `OSError`.
        """
        return {name: self.digest(folder / name) for name in model_files(folder)}

    def folder(self, folder: Path) -> str:
        """One digest of a model folder: names and contents of its files. Raises `OSError`."""
        return digest(self.files(folder))

    def _keep(self, key: str, entry: list[Any]) -> None:
        self._known[key] = entry
        if self._path is None:
            return
        # What others have kept meanwhile stays; what two keep at the same moment, one reads again.
        merged = {**self._read(), key: entry}
        partial = self._path.with_name(f".{NAME}.{os.getpid()}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({"check": _check(merged), "files": merged}, indent=0))
            partial.replace(self._path)
        except OSError as error:
            logger.debug("%s: not kept (%s)", self._path, error)
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _read(self) -> dict[str, list[Any]]:
        if self._path is None:
            return {}
        try:
            kept = json.loads(self._path.read_bytes())
            files: dict[str, list[Any]] = kept["files"]
            return files if kept["check"] == _check(files) else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}


def model_files(folder: Path) -> list[str]:
    """Names of the files of a model folder that count, from the folder, in order.

    Engines follow links to folders, so these count as well.
    """
    files = _files_below(folder, folder.resolve())
    return sorted(path.relative_to(folder).as_posix() for path in files if path.suffix != ".md")


def _files_below(folder: Path, *above: Path) -> Iterator[Path]:
    """What is not hidden; `above` are the folders that lead here, which a link may lead back to."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and (real := path.resolve()) not in above:
            yield from _files_below(path, *above, real)


def _stamp(stat: os.stat_result) -> Stamp:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _check(files: Any) -> str:
    return sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
