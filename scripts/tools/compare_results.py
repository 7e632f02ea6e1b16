"""Compare two results folders: which results differ, and where.

    python scripts/tools/compare_results.py results ../elsewhere/results

What says when, where and by which code a result was made is left out (times, provenance, logs). Of
all else every byte counts, but for the numbers of fitted mixed models (`FITTED`). The exit status
is 1 where something differs. `--moved plan.json:seeds` leaves a key of a file's JSON out, for a
change that was meant, and `--asked-anew` the times of answers, for runs without a common journal.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grace.digests import file_digest
from grace.errors import GraceError, RecordError

#: Folders about a run, not made from it; records beside results; notes for people.
NOT_RESULTS = {"logs", "benchmarks", "provenance", ".provenance", "review"}
NOTES = {"README.md", "snakemake-report.html", "snakemake-report.zip", "grace-crate.zip"}
#: Keys of JSON files and columns of tables that say when, where and by which code.
ABOUT_THE_JOB = {
    "answered_by", "code", "commit", "completed", "created", "deployment_info", "dirty",
    "git_commit", "git_dirty", "image_digest", "pace", "replication_id", "run_timestamp", "started",
    "timestamps", "unknown",
}  # fmt: skip
#: Keys and columns that say when a model answered, and how fast.
TIMES_OF_ANSWERS = {"first_answer", "last_answer", "processing_time_ms", "response_timestamp"}
#: The same in the report's words.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?")
_HEX = re.compile(r"\b[0-9a-f]{7,64}\b|(?<=commit )unknown\b")
#: Tables of mixed models: lme4's optimiser ends elsewhere from run to run of the very same code and
#: table, by about 1e-6 of a number. They hold four digits, of which the last may fall either way.
FITTED = ("_glmer.csv", "_models.csv")
#: How much of the larger number two numbers of such a table may differ by.
TOLERANCE = 1e-3
#: Differences shown of one file.
SHOWN = 5
#: Characters of a value that are shown.
LONGEST = 80


def results_of(folder: Path) -> dict[str, Path]:
    """The results of a folder by their names in it. Raises `RecordError` where it is none."""
    if not folder.is_dir():
        raise RecordError(f"{folder}: there is no such folder.")
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not NOT_RESULTS & set(parts[:-1]) and path.name not in NOTES:
            found["/".join(parts)] = path
    return found


def differences(
    old: Path, new: Path, moved: Mapping[str, set[str]], *, asked_anew: bool = False
) -> list[str]:
    """A line for each result that is in one folder alone or differs, with where.

    `moved` holds keys that may differ, by a file's name; with `asked_anew` those of
    `TIMES_OF_ANSWERS` may in all. Raises `RecordError`.
    """
    times = TIMES_OF_ANSWERS if asked_anew else set()
    before, after = results_of(old), results_of(new)
    lines = [f"{name}: only in {old}" for name in sorted(before.keys() - after.keys())]
    lines += [f"{name}: only in {new}" for name in sorted(after.keys() - before.keys())]
    for name in sorted(before.keys() & after.keys()):
        if file_digest(before[name]) == file_digest(after[name]):
            continue
        found = list(
            _within(before[name], after[name], times | moved.get(before[name].name, set()))
        )
        lines += [f"{name}: {one}" for one in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"{name}: and {len(found) - SHOWN} more differences")
    return lines


def _within(old: Path, new: Path, moved: set[str]) -> Iterator[str]:
    """Where two files differ that are not the same to the byte."""
    if old.suffix == ".json":
        left_out = ABOUT_THE_JOB | moved
        yield from _values(
            _stripped(json.loads(old.read_text(encoding="utf-8")), left_out),
            _stripped(json.loads(new.read_text(encoding="utf-8")), left_out),
            "",
        )
    elif old.suffix == ".csv":
        yield from _tables(_cells(old, moved), _cells(new, moved), fitted=old.name.endswith(FITTED))
    elif old.suffix == ".parquet":
        import pandas as pd

        left, right = (
            pd.read_parquet(path).drop(columns=list(moved), errors="ignore") for path in (old, new)
        )
        if not left.equals(right):
            yield "another table"
    elif old.suffix == ".html":
        yield from _lines(_page(old), _page(new))
    else:
        yield "other bytes"


def _stripped(value: Any, left_out: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(one, left_out) for key, one in value.items() if key not in left_out}
    return [_stripped(one, left_out) for one in value] if isinstance(value, list) else value


def _values(old: Any, new: Any, place: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        if list(old) != list(new):
            yield f"{place or 'keys'}: {_shown(list(old))} and {_shown(list(new))}"
        for key in old.keys() & new.keys():
            yield from _values(old[key], new[key], f"{place}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _values(left, right, f"{place}[{index}]")
    elif type(old) is not type(new) or old != new:
        yield f"{place}: {_shown(old)} and {_shown(new)}"


def _cells(path: Path, moved: set[str]) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    kept = [index for index, name in enumerate(rows[0]) if name not in ABOUT_THE_JOB | moved]
    return [[row[index] for index in kept] for row in rows]


def _tables(old: list[list[str]], new: list[list[str]], *, fitted: bool) -> Iterator[str]:
    if old[0] != new[0]:
        yield f"columns {_shown(old[0])} and {_shown(new[0])}"
    elif len(old) != len(new):
        yield f"{len(old) - 1} and {len(new) - 1} rows"
    else:
        for number, (left, right) in enumerate(zip(old, new, strict=True), start=1):
            for column, one, other in zip(old[0], left, right, strict=True):
                if one != other and not (fitted and _close(one, other)):
                    yield f"row {number}, {column}: {_shown(one)} and {_shown(other)}"


def _close(one: str, other: str) -> bool:
    try:
        return math.isclose(float(one), float(other), rel_tol=TOLERANCE)
    except ValueError:
        return False


def _page(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return _HEX.sub("(digest)", _TIME.sub("(time)", text)).splitlines()


def _lines(old: list[str], new: list[str]) -> Iterator[str]:
    if len(old) != len(new):
        yield f"{len(old)} and {len(new)} lines"
    for number, (left, right) in enumerate(zip(old, new, strict=False), start=1):
        if left != right:
            yield f"line {number}: {_shown(left)} and {_shown(right)}"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}'" if len(text) <= LONGEST else f"'{text[:LONGEST]}…'"


def main(arguments: list[str] | None = None) -> int:
    """Print the differences; 1 where there are some."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--moved", action="append", default=[], metavar="FILE:KEY")
    parser.add_argument("--asked-anew", action="store_true")
    options = parser.parse_args(arguments)
    moved: dict[str, set[str]] = {}
    for one in options.moved:
        file, _, key = one.partition(":")
        moved.setdefault(file, set()).add(key)
    try:
        found = differences(options.old, options.new, moved, asked_anew=options.asked_anew)
    except (GraceError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(found) if found else f"{len(results_of(options.new))} results are the same.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
