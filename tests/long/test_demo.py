"""The demo of post-training, with real trainings: what it has to reach, and its controls.

Three training seeds on cores; needs `.venv-train` (make train-env) and some ten to thirty minutes.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import fmean, stdev

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_trainings import PYTHON, RECIPE, right, trained
from scipy.stats import t as student_t
from workflow_project import ROOT, Project

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-train (make train-env)"),
]
SEEDS = RECIPE.seeds
#: Of halves of the pairs that are turned around, each with its other half.
DRAWS = 4
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


def turned_pairs(first: Path, target: Path, draw: int, *, other_half: bool) -> None:
    """Pairs of which a drawn half, or the other one, are turned: the chosen answer is rejected.

    Half of each kind and type: were, say, more refusals than not left as they are, the labels would
    still teach.
    """
    pairs = json.loads((first / "pairs.json").read_text(encoding="utf-8"))["pairs"]
    table = pq.read_table(first / "dpo.parquet")
    assert table["row_id"].to_pylist() == [pair["row_id"] for pair in pairs]
    order = list(range(len(pairs)))
    random.Random(draw).shuffle(order)
    order.sort(key=lambda place: (pairs[place]["kind"], pairs[place]["type"]))
    columns = table.to_pydict()
    for place in order[other_half::2]:
        chosen, rejected = columns["chosen_ids"][place], columns["rejected_ids"][place]
        columns["chosen_ids"][place], columns["rejected_ids"][place] = rejected, chosen
    pq.write_table(pa.table(columns, schema=table.schema), target)


def test_pairs_with_shuffled_labels_improve_nothing(project, tmp_path):
    """Over draws: one alone moves answers as it happens, and its other half the other way."""
    first = project.folder / f"results/training/demo/seed-{SEEDS[0]}"
    before = right(project, first / "sft")
    changes = []
    for draw in range(DRAWS):
        both = []
        for other_half in (False, True):
            data = tmp_path / f"turned-{draw}-{other_half:d}.parquet"
            turned_pairs(first, data, draw, other_half=other_half)
            both.append(right(project, trained("dpo", data, first / "sft", SEEDS[0])) - before)
        changes.append(both)
    means = [fmean(both) for both in changes]
    margin = student_t.ppf(0.975, DRAWS - 1) * stdev(means) / DRAWS**0.5
    # No improvement is found, and one as large as DPO has to bring is ruled out.
    assert fmean(means) - margin <= 0
    assert fmean(means) + margin < 0.03
    true = right(project, first / "dpo") - before
    assert true > max(change for both in changes for change in both)
