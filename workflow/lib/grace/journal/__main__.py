"""`python -m grace.journal show|compact`: what a journal holds, for people."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grace.errors import GraceError, JournalError
from grace.journal.compaction import compact
from grace.journal.index import Index
from grace.journal.lines import value_in
from grace.journal.segments import scan, segments_in, torn
from grace.journal.store import explained

DEFAULT = Path(".grace/journal")


def answers(folder: Path, prefix: str, where: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Key and value of each answer whose key begins so and whose fields have these values.

    A field inside another is named as in `meta.model`. Raises `OSError`.
    """
    shown = set()
    for path in segments_in(folder):
        for _, line, key in scan(path):
            if key is None or key in shown or not key.hex().startswith(prefix):
                continue
            value = value_in(line)
            if value is not None and all(
                _field(value, name) == wanted for name, wanted in where.items()
            ):
                shown.add(key)
                yield {"key": key.hex(), "value": value}


def _field(value: Any, name: str) -> str | None:
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value if isinstance(value, str) else json.dumps(value)


def summary(folder: Path) -> Iterator[str]:
    """A line for each segment, then one for the journal. Raises `OSError`."""
    for path in segments_in(folder):
        good = damaged = tail = 0
        for _, line, key in scan(path):
            if key is not None:
                good += 1
            elif torn(line):
                tail = len(line)
            else:
                damaged += 1
        yield (
            f"{path.name}: {good} answers, {path.stat().st_size} bytes"
            + (f", {damaged} DAMAGED LINES" if damaged else "")
            + (f", torn tail of {tail} bytes" if tail else "")
        )
    index = Index.load(folder)
    yield (
        f"{folder}: {len(index)} different answers, {index.damaged} damaged lines,"
        f" {index.conflicts} conflicts"
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command. Raises `GraceError`."""
    parser = argparse.ArgumentParser(prog="python -m grace.journal", description=__doc__)
    parser.add_argument(
        "--journal", type=Path, default=DEFAULT, help=f"its folder (default: {DEFAULT})"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="list the files, or print answers as JSON lines")
    show.add_argument("key", nargs="?", help="how the key begins; '' for all answers")
    show.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="only answers whose field has the value, such as meta.study=study2; may be repeated",
    )
    commands.add_parser("compact", help="merge files that no one has written to for a day")
    options = parser.parse_args(arguments)
    folder: Path = options.journal
    if not folder.is_dir():
        raise JournalError(f"there is no journal in {folder.absolute()}; name one with --journal")
    try:
        if options.command == "compact":
            print(f"{compact(folder)} files merged")
        elif options.key is None and not options.where:
            print(*summary(folder), sep="\n")
        else:
            where = dict(text.partition("=")[::2] for text in options.where)
            for answer in answers(folder, options.key or "", where):
                print(json.dumps(answer, ensure_ascii=False))
    except OSError as error:
        raise explained(error, folder) from error


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        main()
    except BrokenPipeError:
        sys.exit(1)
    except GraceError as problem:
        sys.exit(str(problem))
