"""A sheet on which a person checks how answers were read.

A sample of answers, the same for the same seed, spread evenly over studies and models. The person
fills in a CSV file; a page beside it is for reading. Text of models and studies is hostile here,
too: a spreadsheet must not take it for a formula, nor a browser for mark-up.
"""

from __future__ import annotations

import csv
import html
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from grace.errors import RecordError
from grace.foreign_text import decoded, for_log
from grace.results.extracted import EXTRACTION_COLUMNS
from grace.results.records import replacing
from grace.results.tables import CsvLines
from grace.studies.study import Study

#: What a person fills in: that a row was looked at, and of each field that was read wrongly what is
#: right, `NONE` where the answer gives nothing.
CHECKED, RIGHT, NONE = "checked", "right_", "none"
#: What identifies a row of the sheet, and shows whether the answer is still that of the results.
IDENTITY_COLUMNS = ("study", "model_key", "replication", "variant", "trial_index", "answer_id")
_SHOWN = ("quality_flags", "extraction_confidence", "extraction_errors", *EXTRACTION_COLUMNS)
#: What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
Row = dict[str, Any]


class ReviewSource(NamedTuple):
    """A study's answers of one model: rows of the structured table, prompts by row."""

    study: Study
    rows: Sequence[Mapping[str, str]]
    prompts: Mapping[tuple[str, str], str]


def sample(groups: Mapping[tuple[str, str], int], most: int, seed: int) -> dict[tuple[str, str], list[int]]:  # fmt: skip
    """Which rows are looked at: row numbers by group, `most` in all, groups as even as they can be.

    `groups` holds how many rows each study and model has.
    """
    shares = dict.fromkeys(sorted(groups), 0)
    left = most
    while left > 0 and (open_ := [name for name in shares if shares[name] < groups[name]]):
        each = max(1, left // len(open_))
        for name in open_:
            taken = min(each, groups[name] - shares[name], left)
            shares[name] += taken
            left -= taken
    rng = random.Random(seed)
    return {name: sorted(rng.sample(range(groups[name]), shares[name])) for name in shares}


def field_names(study: Study) -> tuple[str, ...]:
    """The fields that a person can correct: those read, not those that follow from them."""
    assert study.answers is not None  # experiment 1 was asked
    return tuple(name for name in study.answers.fields if name not in study.answers.derived)


def sheet_rows(source: ReviewSource, numbers: Iterable[int]) -> Iterator[Row]:
    """Rows of a study's sheet: prompt, answer, what was read, flags, and empty cells to fill in."""
    names = field_names(source.study)
    for number in numbers:
        row = source.rows[number]
        yield {
            "study": source.study.name,
            **{name: row[name] for name in IDENTITY_COLUMNS[1:]},
            "prompt": source.prompts.get((row["variant"], row["trial_index"]), ""),
            "answer": row["model_response"],
            **{name: row[name] for name in names},
            **{name: row[name] for name in _SHOWN if name in row},
            CHECKED: "",
            **{f"{RIGHT}{name}": "" for name in names},
        }


def as_cell(value: Any) -> str:
    """A text as a spreadsheet shows it and takes for no formula."""
    text = for_log("" if value is None else str(value))
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Write a sheet. Raises `RecordError` where one is there that somebody has begun to fill in."""
    if path.exists() and any(filled(row) for row in read_sheet_rows(path)):
        raise RecordError(
            f"{path}: somebody has begun to fill it in, so it is not written anew. Read it with"
            " `snakemake review_agreement`, or move it away."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        writer = csv.writer(CsvLines(file), lineterminator="\r\n")
        writer.writerow(rows[0])
        writer.writerows([as_cell(value) for value in row.values()] for row in rows)


def read_sheet_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a sheet as a spreadsheet saved it: UTF-8, `,` or `;` between cells.

    Raises `RecordError` where it is no such sheet.
    """
    try:
        text = decoded(path.read_bytes())
        first = text.partition("\n")[0]
        separator = ";" if first.count(";") > first.count(",") else ","
        found = list(csv.DictReader(text.splitlines(keepends=True), delimiter=separator))
    except (ValueError, csv.Error) as error:
        raise RecordError(f"{path}: cannot be read as a CSV file ({error}).") from None
    for number, row in enumerate(found, start=2):
        if None in row:
            raise RecordError(
                f"{path}, row {number}: holds more cells than the first row has. Put a text that"
                f" holds '{separator}' into quotation marks, as a spreadsheet does."
            )
    missing = [name for name in (*IDENTITY_COLUMNS, CHECKED) if not found or name not in found[0]]
    if missing:
        raise RecordError(
            f"{path}: no review sheet: it lacks {', '.join(missing)}. Write one with `snakemake"
            " review_sheet`."
        )
    return [{name: (value or "").strip() for name, value in row.items() if name} for row in found]


def filled(row: Mapping[str, str]) -> bool:
    """Whether a person has written anything into a row."""
    return any(
        value and (name == CHECKED or name.startswith(RIGHT)) for name, value in row.items()
    )


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Answers to review: {study}</title><style>
body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .7em; }}
table {{ border-collapse: collapse; }} td, th {{ border: 1px solid #bbb; padding: .2em .6em; text-align: left; }}
section {{ border-top: 2px solid #444; margin-top: 2em; }}
</style></head><body>
<h1>Answers to review: {study}</h1>
<p>{count} answers. Fill in {sheet}: write anything into <code>checked</code> once you have looked at an
answer. Where a field was read wrongly, write what is right into its <code>right_…</code> cell, and
<code>none</code> where the answer gives nothing; leave it empty where it was read rightly. Then:
<code>snakemake review_agreement</code>.</p>
{sections}
</body></html>
"""  # noqa: E501


def page(study: Study, rows: Sequence[Row], sheet: str) -> str:
    """The sheet as one HTML page, in which no text of others is mark-up."""
    names = field_names(study)
    parts = []
    for number, row in enumerate(rows, start=2):
        read = "".join(
            f"<tr><th>{_text(name)}</th><td>{_text(row[name]) or '–'}</td></tr>"
            for name in (*names, *(name for name in _SHOWN if name in row))
        )
        parts.append(
            f"<section><h2>Row {number}: {_text(row['model_key'])}, replication"
            f" {_text(row['replication'])}, {_text(row['variant'])}, trial"
            f" {_text(row['trial_index'])}</h2><h3>Prompt</h3><pre>{_text(row['prompt'])}</pre>"
            f"<h3>Answer</h3><pre>{_text(row['answer'])}</pre><h3>Read</h3><table>{read}</table>"
            "</section>"
        )
    return _PAGE.format(
        study=_text(study.name), count=len(rows), sheet=_text(sheet), sections="\n".join(parts)
    )


def _text(value: Any) -> str:
    return html.escape(for_log("" if value is None else str(value)))
