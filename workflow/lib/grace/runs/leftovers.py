"""Temporary files that say whose they are, so that those of dead processes can be removed.

No one cleans up after `kill -9` but the next run. A name holds what tells the process from
others; one that cannot be seen from here, on another host, counts as dead after a day.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from grace.runs.process_id import process_space

#: How names of files end that are not whole yet.
PARTIAL = ".part"
#: Since when nothing was written to what a process of another host left behind. In seconds.
LEFT_AFTER_S = 24 * 3600.0

_OWNER = re.compile(r"@(\w+)@(\d+)@")
_SCRATCH = "grace-scratch"


def _space() -> str:
    return hashlib.sha256(process_space().encode()).hexdigest()[:12]


def _owner() -> str:
    return f"@{_space()}@{os.getpid()}@"


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file that takes its place when the block ends well, only then.

    Removes what jobs that were killed left of the same file: only one may make it at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL}"):
        left.unlink(missing_ok=True)
    partial = path.with_name(f".{path.name}.{_owner()}{PARTIAL}")
    try:
        yield partial
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is removed with the block, or by the next one where its process is killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}@*"):
        if _is_left(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{_owner()}") as folder:
        yield Path(folder)


def remove_partials(folder: Path) -> int:
    """Remove the unfinished files of dead processes in a folder and all below; gives how many."""
    found = [path for path in folder.rglob(f".*{PARTIAL}") if _is_left(path)]
    for path in found:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return len(found)


def _is_left(path: Path) -> bool:
    """Whether no one will finish it. False where it is gone, or somebody else's."""
    try:
        status = path.lstat()
    except OSError:
        return False
    if status.st_uid != os.geteuid():
        return False
    owner = _OWNER.search(path.name)
    if owner and owner[1] == _space():
        return not psutil.pid_exists(int(owner[2]))
    return time.time() - status.st_mtime > LEFT_AFTER_S
