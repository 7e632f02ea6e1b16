"""The demo of post-training, with real trainings: what it has to reach, and its controls.

Three training seeds on cores; needs `.venv-train` (make train-env) and some twenty minutes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from workflow_project import ROOT, Project

from grace.pico_base import held_out
from grace.settings.recipes import load_recipes

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (ROOT / ".venv-train/bin/python").exists(), reason="no .venv-train (make train-env)"
    ),
]
RECIPE = load_recipes(ROOT / "config/recipes.yaml")["demo"]
SEEDS = RECIPE.seeds
BASE = ROOT / "resources/models/pico-base"
CHECKPOINTS = [f"demo.{stage}-{seed}" for seed in SEEDS for stage in ("sft", "dpo")]
RUN = (
    "--config", f"models=[{', '.join(['pico-base', *CHECKPOINTS])}]", "limit=2",
    "replications=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """All seeds trained and evaluated."""
    found = Project.copied_to(tmp_path_factory.mktemp("demo") / "project")
    (found.folder / ".venv-train").symlink_to(ROOT / ".venv-train")
    found.run("results/training/demo/evaluation/rates.csv", *RUN, timeout_s=3600)
    return found


def table(project: Project, name: str) -> pd.DataFrame:
    found = pd.read_csv(project.folder / f"results/training/demo/evaluation/{name}.csv")
    return found[(found["measure"] == "strict") & (found["part"] == "all")]


def test_each_step_of_training_reaches_what_the_design_asks_for(project):
    rates = table(project, "rates").set_index("evaluated")
    assert (rates["items"] >= 1000).all()
    assert rates.loc["base", "rate"] <= 0.35
    tests = table(project, "tests").set_index(["comparison", "seed"])
    for seed in SEEDS:
        assert tests.loc[("base \u2192 SFT", seed), "difference"] >= 0.25
        assert tests.loc[("base \u2192 SFT", seed), "p"] < 1e-6
        assert tests.loc[("SFT \u2192 DPO", seed), "difference"] >= 0.03
        assert rates.loc[f"dpo-{seed}", "low"] > rates.loc[f"sft-{seed}", "rate"]


# Controls


@cache
def _rows(project: Project) -> list[dict[str, Any]]:
    path = project.folder / "results/training/demo/instructions.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    return [row for row in found["rows"] if row["split"] == "evaluation"]


def right(project: Project, adapter: Path) -> float:
    """Share of right answers to the held-out items, at temperature 0."""
    with held_out.opened(held_out.entry(BASE, adapter)) as asked:
        found = held_out.answered(asked, _rows(project))
    return sum(row["right"] for row in found) / len(found)


def trained(
    kind: str, data: Path, parent: Path | None, hyperparameters: Mapping[str, Any], seed: int
) -> Path:
    """An adapter, beside its data."""
    told = data.with_suffix(".json")
    told.write_text(json.dumps(hyperparameters), encoding="utf-8")
    folder = data.parent / f"{data.stem}-adapter"
    subprocess.run(
        [
            str(ROOT / ".venv-train/bin/python"), "-m", "grace.training", "--kind", kind,
            "--base", str(BASE), "--parent", str(parent or "none"), "--data", str(data),
            "--recipe-json", str(told), "--seed", str(seed), "--output", str(folder),
        ],
        cwd=data.parent, check=True, env={"PYTHONPATH": str(ROOT / "workflow/lib")},
    )  # fmt: skip
    return folder
