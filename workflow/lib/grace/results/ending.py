"""The last lines of a run: what there is to open, and how much of it could be used."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

_HEAD = ("study", "model", "variant", "experiment", "replications", "trials", "usable", "flagged")
#: Columns of the tables behind the study's name, before those of `usable`.
_GIVEN = ("model_key", "variant", "experiment", "replications", "trials")


def ending(tables: Sequence[Path], report: Path, trials: Path) -> str:
    """The lines.

    Args:
        tables: `<study>_quality.csv` of the studies, as R writes them.
        report: The report's path.
        trials: The trial browser's; left out where it is not there.
    """
    rows: list[tuple[str, ...]] = [_HEAD]
    for path in tables:
        study = path.name.removesuffix("_quality.csv")
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                usable = f"{row['usable']} ({float(row['usable_percent']):.1f} %)"
                rows.append((study, *(row[key] for key in _GIVEN), usable, row["flagged"]))
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    texts = 4  # columns of text; those behind them are numbers
    lines = [
        "  ".join(
            cell.ljust(width) if place < texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines += ["", f"Report: {report}"]
    if trials.exists():
        lines.append(f"Trials: {trials}")
    return "\n".join(lines)
