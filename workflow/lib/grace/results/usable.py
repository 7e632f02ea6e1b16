"""Whether a finished run says anything about a model: read from the analyses' tables of quality."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ParamSpec

from grace.errors import RecordError

P = ParamSpec("P")


def usable_answers(tables: Iterable[Path]) -> dict[str, int]:
    """Usable answers and measurements of each model, from `study1_quality.csv` and its like.

    Raises `RecordError` where a table cannot be read.
    """
    found: dict[str, int] = {}
    for path in tables:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file, strict=True):
                    model = row["model_key"]
                    found[model] = found.get(model, 0) + int(row["usable"])
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise RecordError(
                f"{path}: cannot be read as a table of quality ({type(error).__name__}). Delete it"
                " and run again to have it rebuilt."
            ) from error
    return found


def refuse_without_usable_answer(tables: Iterable[Path], report: Path) -> None:
    """Raise `RecordError` if no model has a usable answer: such a run has failed.

    The report is there and says so; only the exit status would not.
    """
    usable = usable_answers(tables)
    if any(usable.values()):
        return
    models = f" ({', '.join(sorted(usable))})" if usable else ""
    raise RecordError(
        f"no model of this run{models} has a usable answer or measurement, so {report} says"
        " nothing about any. Each replication's validation.json says what is wrong with which"
        " rows; the answers themselves are in *_raw_responses.csv."
    )


def followed_by(execute: Callable[P, None], check: Callable[[], None]) -> Callable[P, None]:
    """`execute`, and `check` where that did not fail.

    Here, since Snakemake names the rules file that an error came through.
    """

    def both(*args: P.args, **kwargs: P.kwargs) -> None:
        execute(*args, **kwargs)
        check()

    return both
