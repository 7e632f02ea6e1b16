"""Files of what was understood once, kept between processes beside Python's compiled modules.

Each is named by, or holds, all that it follows from, so that none is ever out of date; whatever is
wrong with one costs understanding again and nothing else. They are written as Python writes its
own: not at all under PYTHONDONTWRITEBYTECODE, elsewhere under PYTHONPYCACHEPREFIX.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

#: Characters of a SHA-256 in hex.
_DIGEST = 64


def path_of(library: Path, name: str) -> Path:
    """Where a file of this name lies for the modules in `library`."""
    return Path(cache_from_source(str(library / "module.py"))).with_name(name)


def read(path: Path) -> Any | None:
    """A file's JSON value; None where there is none, or not as it was written."""
    try:
        kept = path.read_bytes()
        if hashlib.sha256(kept[_DIGEST:]).hexdigest().encode() != kept[:_DIGEST]:
            return None
        return json.loads(kept[_DIGEST:])
    except (OSError, ValueError, RecursionError):
        return None


def write(path: Path, value: Any) -> None:
    """Write a JSON value whole or not at all; a folder that takes no files is passed over."""
    if sys.dont_write_bytecode:
        return
    text = json.dumps(value).encode()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(hashlib.sha256(text).hexdigest().encode() + text)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
