"""What a recipe has cost: a row for each of its steps, forecast beside actual. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grace.forecast.recipe_steps import ROUND, SECONDS_AN_HOUR, SEEDED, SHARED, money
from grace.posttraining.spending import Try, spent_in
from grace.results.records import replacing

COLUMNS = (
    "recipe", "step", "seed", "tries", "on", "gpus", "forecast_hours", "hours",
    "forecast_gpu_hours", "gpu_hours", "forecast_usd", "usd", "note",
)  # fmt: skip
"""Of costs.csv. `seed` is empty for steps of all seeds; `hours` are of all tries, `forecast_*` of
the last one, from before it began; empty is not known."""
#: Notes of rows that cost nothing.
KEPT = "nothing was computed: the journal had it, or it was done"
CORES = "on cores: 0 GPU-hours"


def cost_rows(
    recipe: str, seeds: Iterable[int], tries: Sequence[Try], rounds: Mapping[int, int] | None = None
) -> list[dict[str, Any]]:
    """A row for each step of a recipe and of these training seeds, in order, by `COLUMNS`.

    `rounds` says by seed how many there are. Steps in `tries` that are neither, as evaluations,
    follow.
    """
    wanted: list[tuple[str, int | None]] = [(step, None) for step in SHARED]
    for seed in seeds:
        wanted += [(step, seed) for step in SEEDED]
        numbers = range(1, 1 + (rounds or {}).get(seed, 0))
        wanted += [(f"{step} {number}", seed) for number in numbers for step in ROUND]
    wanted += [(one.step, one.seed) for one in tries]
    return [
        _row(recipe, step, seed, [one for one in tries if (one.step, one.seed) == (step, seed)])
        for step, seed in dict.fromkeys(wanted)
    ]


def _row(recipe: str, step: str, seed: int | None, tries: Sequence[Try]) -> dict[str, Any]:
    gpu_hours, usd = spent_in(tries)
    row: dict[str, Any] = {
        "recipe": recipe, "step": step, "seed": seed, "tries": len(tries), "on": "", "gpus": 0,
        "forecast_hours": None, "hours": sum(one.seconds for one in tries) / SECONDS_AN_HOUR,
        "forecast_gpu_hours": None, "gpu_hours": gpu_hours, "forecast_usd": None, "usd": usd,
        "note": KEPT,
    }  # fmt: skip
    if not tries:
        return row
    last = tries[-1]
    failed = sum(not one.done for one in tries)
    row |= {"on": last.on, "gpus": last.gpus, "note": "" if last.gpus else CORES}
    if failed:
        said = f"{failed} of them failed or killed"
        row["note"] = f"{row['note']}; {said}" if row["note"] else said
    if last.forecast_s is not None:
        hours = last.forecast_s / SECONDS_AN_HOUR
        row |= {
            "forecast_hours": hours,
            "forecast_gpu_hours": hours * last.gpus,
            "forecast_usd": money(hours * last.gpus, last.price),
        }
    return row


def summary(
    recipe: str, rows: Sequence[Mapping[str, Any]], budget: Mapping[str, Any]
) -> dict[str, Any]:
    """costs.json: rows, sums over them, and the budget."""
    usd = [row["usd"] for row in rows]
    return {
        "recipe": recipe,
        "budget": dict(budget),
        "hours": sum(row["hours"] for row in rows),
        "gpu_hours": sum(row["gpu_hours"] for row in rows),
        "usd": None if None in usd else sum(usd),
        "steps": list(rows),
    }


def write_costs_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write costs.csv."""
    with replacing(path) as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(row[name]) for name in COLUMNS})


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
