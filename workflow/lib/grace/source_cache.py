"""What is understood of source files, kept between processes.

Reading the library's syntax takes more than a second, and every run of Snakemake and most of its
jobs need it. An entry is named by all that it follows from.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import Any

from grace import understood
from grace.digests import digest, file_digest

NAME = "sources.json"
#: Entries of a file that has seen many edits; it begins anew then.
MOST = 2000


class SourceCache:
    """Entries about files of the library in `library`, as JSON values."""

    def __init__(self, library: Path) -> None:
        self._path = understood.path_of(library, NAME)
        # What is understood of a file depends on which modules there are, and on what packages
        # hand on; and on how it is understood.
        self._state = digest(
            [
                sys.version_info[:3],
                file_digest(Path(__file__).with_name("source_code.py")),
                sorted(
                    [
                        path.relative_to(library).as_posix(),
                        file_digest(path) if path.name == "__init__.py" else "",
                    ]
                    for path in library.rglob("*.py")
                ),
            ]
        )
        self._entries = self._read()
        self._new: dict[str, Any] = {}

    def key(self, *parts: Any) -> str:
        """The name of an entry that follows from these, and from the library's modules."""
        return digest([self._state, *parts])

    def get(self, key: str) -> Any | None:
        return self._entries.get(key)

    def keep(self, key: str, value: Any) -> None:
        """Keep it for this process, and for others once this one ends."""
        if not self._new:
            atexit.register(self._write, os.getpid())
        self._entries[key] = self._new[key] = value

    def _write(self, process: int) -> None:
        if os.getpid() != process:
            return
        # What others have kept meanwhile stays; what two keep at the same moment, one reads again.
        merged = {**self._read(), **self._new}
        understood.write(self._path, merged if len(merged) <= MOST else self._new)

    def _read(self) -> dict[str, Any]:
        kept = understood.read(self._path)
        return kept if isinstance(kept, dict) else {}
