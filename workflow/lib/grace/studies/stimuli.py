"""Reading a study's stimuli CSV into trials, with errors that name file, row and column."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grace.errors import StimuliError
from grace.foreign_text import NotUtf8Error, decoded, message
from grace.prompts.plain_text import is_blank, known_control_token, shortened, unusable_character
from grace.studies.asking import StudyDesign
from grace.studies.trial_cache import Numbered, remembered
from grace.studies.trials import Trial, TrialError

#: Problems shown before the rest are only counted.
SHOWN = 10
#: Bytes of a file; a hundred thousand trials have about 60 MB.
MOST_BYTES = 256 * 2**20
#: What tables and R take for no value.
_MISSING = {"NA"}


def _text(path: Path) -> str:
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            # Reading it might never end.
            raise StimuliError(f"{path}: cannot be read: it is a pipe or a device, not a file.")
        if status.st_size > MOST_BYTES:
            raise StimuliError(
                f"{path}: {status.st_size:,} bytes are too many for a file of trials, which may"
                f" have {MOST_BYTES:,}. Split it, and run its parts one by one."
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise StimuliError(
            f"{path}: no such file. Check `stimuli` in config/config.yaml, <study>_csv on the"
            " command line, or `stimuli.file` of the study."
        ) from None
    except OSError as error:
        raise StimuliError(f"{path}: cannot be read: {error.strerror}.") from None
    except ValueError as error:  # a name with NUL in it
        raise StimuliError(f"{str(path)!r}: cannot be read: {error}.") from None
    if not data.removeprefix(codecs.BOM_UTF8).strip():
        raise StimuliError(f"{path}: the file is empty; it needs a header and at least one trial.")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        utf16 = data.count(b"\0") * 4 > len(data)
        what = "not UTF-8 but UTF-16" if utf16 else "holds U+0000, which is no text"
        todo = "Save the file as 'CSV UTF-8'" if utf16 else "Delete it"
        raise StimuliError(f"{path}, line {line}: {what}. {todo}.")
    try:
        return decoded(data)
    except NotUtf8Error as error:
        raise StimuliError(f"{path}, {error}. Save the file as 'CSV UTF-8'.") from None


def _header(path: Path, header: Sequence[str], study: StudyDesign) -> list[str]:
    """The header with aliases replaced; refuses missing and repeated columns."""
    names = [study.column_aliases.get(name.strip(), name.strip()) for name in header]
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise StimuliError(
            f"{path}, row 1: the column {message(', '.join(repeated))} stands there twice."
        )
    wanted = study.input_columns()
    missing = [name for name in wanted if name not in names]
    if missing:
        hints = "".join(_rename(name, [n for n in names if n not in wanted]) for name in missing)
        if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
            hints = " Save the file with commas between the columns."
        found = message(", ".join(name[:80] for name in names[:40])) or "an empty line there"
        raise StimuliError(
            f"{path}, row 1: {study.name} needs the column{'s' if len(missing) > 1 else ''}"
            f" {', '.join(missing)}; the file has {found}.{hints}"
        )
    return names


def _rename(column: str, others: Sequence[str]) -> str:
    close = difflib.get_close_matches(column, others, n=1)
    return f" Rename {shortened(close[0])} to '{column}'?" if close else ""


def _unfit(values: Mapping[str, str], study: StudyDesign) -> list[str]:
    """What no column may hold, whatever it is for: by column, in words."""
    findings = []
    for name, value in values.items():
        character, token = unusable_character(value), known_control_token(value)
        if character is not None:
            findings.append(f"{name} is {shortened(value)}: it holds {character}; delete it")
        elif token is not None:
            findings.append(
                f"{name} holds {shortened(token)}, a control token of language models, which may"
                " end the question and open a turn of its own; write it otherwise"
            )
        elif value.strip() and is_blank(value):
            findings.append(f"{name} is {shortened(value)}: must not be empty")
        elif name in study.key_columns and value.strip() in _MISSING:
            findings.append(
                f"{name} is {shortened(value)}: R takes that for a missing value; write it"
                " otherwise"
            )
    return findings


def read_trials(path: Path, study: StudyDesign, limit: int | None = None) -> list[Trial]:
    """The first `limit` trials of a CSV file, all of them by default, in file order.

    Columns that the study does not use are left out. The whole file is checked, whatever the
    limit. Raises `StimuliError`.
    """
    trials = [trial for _, trial in numbered_trials(path, study)]
    return trials if limit is None else trials[:limit]


def numbered_trials(path: Path, study: StudyDesign) -> list[Numbered]:
    """All trials with their rows, counted as a spreadsheet does, the header being row 1.

    Raises `StimuliError`.
    """
    text = _text(path)
    return remembered(text, study, lambda: _numbered(path, text, study))


def _numbered(path: Path, text: str, study: StudyDesign) -> list[Numbered]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise StimuliError(
            f"{path}, line {reader.line_num}: not a readable CSV file: {error}. Look for a"
            " quotation mark without its partner."
        ) from None
    names = _header(path, rows[0], study)
    columns = study.input_columns()
    trials: list[Numbered] = []
    seen: dict[tuple[Any, ...], int] = {}
    problems: list[str] = []
    for number, cells in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            problems.append(f"row {number}: {len(cells)} cells, but the header has {len(names)}")
            continue
        given = dict(zip(names, cells, strict=True))
        values = {name: given[name] for name in columns}
        unfit = _unfit(values, study)
        if unfit:
            problems.append(f"row {number}: {'; '.join(unfit)}")
            continue
        try:
            trial = study.trial(values)
        except TrialError as error:
            problems.append(f"row {number}: {error}")
            continue
        key = tuple(trial[name] for name in study.key_columns)
        if key in seen:
            named = " and ".join(
                f"{name} {shortened(value)}"
                for name, value in zip(study.key_columns, key, strict=True)
            )
            problems.append(
                f"row {number}: {named} stand in row {seen[key]} already; every trial needs its"
                " own pair"
            )
            continue
        seen[key] = number
        trials.append((number, trial))
    if problems:
        more = f"\n… and {len(problems) - SHOWN} more." if len(problems) > SHOWN else ""
        raise StimuliError("\n".join(f"{path}, {line}." for line in problems[:SHOWN]) + more)
    if not trials:
        raise StimuliError(f"{path}: the file has a header but no trials.")
    return trials
