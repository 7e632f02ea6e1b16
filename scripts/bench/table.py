"""The tables of docs/performance.md, from what `make bench` has measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grace.errors import GraceError

Result = Mapping[str, Any]


def read(folder: Path) -> list[dict[str, Any]]:
    """The results in a folder, by file name. Raises `GraceError` where there are none."""
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    ]
    if not results:
        raise GraceError(f"{folder}: no results of `make bench` here.")
    return results


def render(results: Iterable[Result]) -> str:
    """All results in Markdown, experiment 2 first."""
    ordered = sorted(results, key=lambda result: (result["kind"] != "scoring", result["order"]))
    parts = [_scoring(r) if r["kind"] == "scoring" else _generation(r) for r in ordered]
    if not any(result["model"]["device"] == "cuda" for result in ordered):
        parts.append("No accelerator: the models of real size were not measured.")
    return "\n\n".join(parts) + "\n"


def _scoring(result: Result) -> str:
    systems = {system["key"]: system for system in result["systems"]}
    rows = []
    for system in result["systems"]:
        ceiling = system.get("ceiling")
        rows.append(
            [
                system["name"],
                _spread(system.get("cpu") or system),
                *(_faster(system, systems.get(key)) for key in ("naive", "packed", "lm-eval")),
                f"{ceiling['by_multiplications']:.3g} ({ceiling['by_tokens']:.3g})"
                if ceiling
                else "",
                f"{system['largest_difference']:.1g}",
            ]
        )
    unit = "Options a second of CPU time" if systems["naive"].get("cpu") else "Options a second"
    apart = [system["name"] for system in result["systems"] if not system.get("cpu")]
    noted = (
        [f"By the clock, since it computes in another process: {'; '.join(apart)}."]
        if apart and len(apart) < len(systems)
        else []
    )
    return "\n\n".join(
        [
            f"### Experiment 2, `{result['model']['key']}`",
            f"{_about(result)} {result['trials']} trials with distinct prompts,"
            f" {result['options']:,} options. {unit}:",
            _table(
                [
                    "system",
                    "median (min–max)",
                    "× naive",
                    "× one pass a trial",
                    "× lm-eval",
                    "ceiling × naive (of tokens alone)",
                    "largest difference",
                ],
                rows,
            ),
            *result["notes"],
            *noted,
            _made(result),
        ]
    )


def _faster(system: Mapping[str, Any], other: Mapping[str, Any] | None) -> str:
    """How many times faster; by CPU time where that of both is known."""
    if other is None:
        return ""
    if system.get("cpu") and other.get("cpu"):
        system, other = system["cpu"], other["cpu"]
    return _times(system["median"], other["median"])


def _generation(result: Result) -> str:
    systems = {system["key"]: system for system in result["systems"]}
    ours = systems["ours"]["median"]
    rows = [
        [system["name"], _spread(system), f"{system['tokens']:,}", _times(ours, system["median"])]
        for system in result["systems"]
    ]
    return "\n\n".join(
        [
            f"### Experiment 1 on vLLM, `{result['model']['key']}`",
            f"{_about(result)} {result['requests']} answers of mixed length. Tokens a second:",
            _table(["system", "median (min–max)", "tokens", "ours is ×"], rows),
            *result["notes"],
            _made(result),
        ]
    )


def _about(result: Result) -> str:
    model = result["model"]
    about = model["about"][0].upper() + model["about"][1:]
    threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
    where = threads if model["device"] == "cpu" else "GPU"
    return f"{about}; {model['dtype']}, {where}, {result['repetitions']} interleaved repetitions."


def _made(result: Result) -> str:
    hardware = result["hardware"]
    versions = ", ".join(
        f"{name} {number}" for name, number in result["versions"].items() if number
    )
    gpus = ", ".join(gpu["name"] for gpu in hardware["gpus"]) or "no GPU"
    return (
        f"{result['created'][:10]}, {hardware['processor']}, {hardware['cpus']} cores,"
        f" {hardware['memory_gib']:.0f} GiB, {gpus}; {versions}."
    )


def _spread(system: Mapping[str, Any]) -> str:
    return f"{_number(system['median'])} ({_number(system['min'])}–{_number(system['max'])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(value: float, other: float | None) -> str:
    return "" if other is None else f"{value / other:.3g}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(header)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))
