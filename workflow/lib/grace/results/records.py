"""Reading and writing the JSON arrays of records that experiments produce."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from grace.errors import RecordError
from grace.runs.leftovers import replaced

#: What goes wrong with a volume, no matter who writes to it.
_VOLUME = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV}


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A text file that takes `path`'s place when the block ends well, and only then.

    Raises `RecordError` where its volume is full, read-only or gone.
    """
    try:
        with replaced(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _VOLUME:
            raise
        raise RecordError(
            f"{path}: cannot be written ({error.strerror}). Fix that and run again: what the"
            " models have answered is in the journal."
        ) from None


def write_records(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write a JSON array, one record a line, without holding it in memory as text."""
    with replacing(path) as file:
        separator = "[\n"
        for record in records:
            file.write(separator)
            json.dump(record, file, ensure_ascii=False, allow_nan=False)
            separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON array, one at a time as far as `write_records` wrote it.

    Raises `RecordError`, perhaps after the first ones, where the array is not whole.
    """
    with path.open(encoding="utf-8") as file:
        first = file.readline() == "[\n" and _record(file.readline())
        if not first:  # empty, or laid out by another program
            yield from read_json(path)
            return
        record, more = first
        yield record
        while more:
            found = _record(file.readline())
            if found is None:
                raise _not_whole(path, "a record is damaged or missing")
            record, more = found
            yield record
        if file.read().strip() != "]":
            raise _not_whole(path, "its end is missing")


def _record(line: str) -> tuple[dict[str, Any], bool] | None:
    """The record in a line, and whether another is to come; None where it is none."""
    text = line.rstrip("\n")
    try:
        record = json.loads(text.removesuffix(","))
    except json.JSONDecodeError:
        return None
    return (record, text.endswith(",")) if isinstance(record, dict) else None


def _not_whole(path: Path, what: object) -> RecordError:
    return RecordError(f"{path}: not whole JSON ({what}). Delete the file and run again.")


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value, indented for people."""
    with replacing(path) as file:
        json.dump(value, file, ensure_ascii=False, allow_nan=False, indent=2)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises `RecordError` where it is not whole."""
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _not_whole(path, error) from None
