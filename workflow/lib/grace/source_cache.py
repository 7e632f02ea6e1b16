"""What is understood of source files, kept between processes beside Python's compiled modules.

Reading the library's syntax takes more than a second, and every run of Snakemake and most of its
jobs need it. An entry is named by all that it follows from, so none is ever out of date; whatever
is wrong with the file costs reading again and nothing else. It is written as Python writes its own:
not at all under PYTHONDONTWRITEBYTECODE, elsewhere under PYTHONPYCACHEPREFIX.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from grace.digests import digest, file_digest

NAME = "sources.json"
#: Entries of a file that has seen many edits; it begins anew then.
MOST = 2000


class SourceCache:
    """Entries about files of the library in `library`, as JSON values."""

    def __init__(self, library: Path) -> None:
        self._path = Path(cache_from_source(str(library / "module.py"))).with_name(NAME)
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
        if not self._new and not sys.dont_write_bytecode:
            atexit.register(self._write, os.getpid())
        self._entries[key] = self._new[key] = value

    def _write(self, process: int) -> None:
        if os.getpid() != process:
            return
        # What others have kept meanwhile stays; what two keep at the same moment, one reads again.
        merged = {**self._read(), **self._new}
        if len(merged) > MOST:
            merged = self._new
        partial = self._path.with_name(f".{NAME}.{os.getpid()}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(merged), encoding="utf-8")
            partial.replace(self._path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            kept = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return kept if isinstance(kept, dict) else {}
