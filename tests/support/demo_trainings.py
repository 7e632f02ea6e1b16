"""Trainings of the recipe `demo` on data of one's own, and what they get right of its items."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Literal

from workflow_project import ROOT, Project

from grace.pico_base import held_out
from grace.settings.recipes import load_recipes

RECIPE = load_recipes(ROOT / "config/recipes.yaml")["demo"]
BASE = ROOT / "resources/models/pico-base"
#: Of the environment of trainings (`make train-env`).
PYTHON = ROOT / ".venv-train/bin/python"


def rows(project: Project, name: str) -> list[dict[str, Any]]:
    """Rows of one of the recipe's JSON files."""
    path = project.folder / "results/training/demo" / name
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def right(project: Project, adapter: Path) -> float:
    """Share of right answers to the held-out items, at temperature 0."""
    items = [row for row in rows(project, "instructions.json") if row["split"] == "evaluation"]
    with held_out.opened(held_out.entry(BASE, adapter)) as asked:
        found = held_out.answered(asked, items)
    return sum(row["right"] for row in found) / len(found)


def trained(kind: Literal["sft", "dpo"], data: Path, parent: Path | None, seed: int) -> Path:
    """An adapter by the recipe's hyperparameters, beside its data."""
    told = data.with_suffix(".json")
    told.write_text(json.dumps(RECIPE.hyperparameters(kind)), encoding="utf-8")
    folder = data.parent / f"{data.stem}-adapter"
    subprocess.run(
        [
            str(PYTHON), "-m", "grace.training", "--kind", kind,
            "--base", str(BASE), "--parent", str(parent or "none"), "--data", str(data),
            "--recipe-json", str(told), "--seed", str(seed), "--output", str(folder),
        ],
        cwd=data.parent, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "workflow/lib")},
    )  # fmt: skip
    return folder
