"""From a base to a report on what training changes: the demo's chain, small, with real trainings.

The recipe is the demo's with fewer rows. Whether training improves anything at this size is not
asked; `tests/long/test_demo.py` asks it of the whole. Needs `.venv-train`, which `make test` makes.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import yaml
from report_page import page
from workflow_project import ROOT, Project

pytestmark = pytest.mark.skipif(
    not (ROOT / ".venv-train/bin/python").exists(), reason="no .venv-train (make train-env)"
)
RUN = (
    "--config", "models=[pico-base, demo.sft-1, demo.dpo-1]", "studies=[study2]",
    "experiments=[exp2]", "limit=2", "replications=1", "on_invalid=warn",
)  # fmt: skip
CHECKPOINTS = ("sft", "dpo")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project that has run from the base to the report."""
    found = Project.copied_to(tmp_path_factory.mktemp("demo") / "project")
    (found.folder / ".venv-train").symlink_to(ROOT / ".venv-train")
    path = found.folder / "config/recipes.yaml"
    demo = yaml.safe_load(path.read_text(encoding="utf-8"))["demo"]
    demo["seeds"] = [1]
    demo["instructions"] |= {"train": 48, "evaluation": 24, "sample": 5}
    demo["pairs"] |= {"candidates": 2, "min_margin": 0.05}
    # The first update is made at a rate of 0, so of one alone nothing is learnt.
    demo["dpo"] |= {"batch": 4}
    path.write_text(yaml.safe_dump({"demo": demo}, sort_keys=False), encoding="utf-8")
    found.tells_jobs()
    found.run("--cores", "2", *RUN)
    return found


def adapter(project: Project, stage: str) -> Path:
    return project.folder / f"results/training/demo/seed-1/{stage}"


def test_it_trains_with_trl_and_dpo_goes_on_from_sft(project):
    records = {
        stage: json.loads((adapter(project, stage) / "grace_adapter.json").read_text())
        for stage in CHECKPOINTS
    }
    assert records["sft"]["base"] == records["dpo"]["base"]
    assert (records["sft"]["parent"], bool(records["dpo"]["parent"])) == (None, True)
    for stage in CHECKPOINTS:
        facts = json.loads((adapter(project, stage) / "training.json").read_text())
        assert "trl" in facts["identity"]["versions"]
        with (adapter(project, stage) / "training_curve.csv").open(newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file)]
        assert len(losses) == facts["steps"] >= 1
    # Before its first update DPO prefers neither answer of any pair.
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert len(losses) > 1


def test_all_checkpoints_answer_the_held_out_items_and_the_study(project):
    with (project.folder / "results/training/demo/evaluation/rates.csv").open(newline="") as file:
        rates = [row for row in csv.DictReader(file) if row["part"] == "all"]
    assert {row["evaluated"] for row in rates} == {"base", "base-few-shot", "sft-1", "dpo-1"}
    assert {row["items"] for row in rates} == {"24"}
    said = set()
    for key in ("pico-base", "demo.sft-1", "demo.dpo-1"):
        path = project.folder / f"results/{key}/replication-0/study2_probabilities.csv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["status"] for row in rows] == ["ok", "ok"]
        said.add(tuple(row["prob_was"] for row in rows))
    assert len(said) == 3, "no two of them are the same model"


def test_the_report_says_what_training_changes(project):
    shown = " ".join(page(project.folder / "results/report.html").shown.split())
    for text in ("What training changes", "Held-out instructions", "SFT 1", "DPO 1"):
        assert text in shown, text
    # Its figures are there in each format that the report links to.
    folder = project.folder / "results/training/demo/evaluation/figures"
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        f"{name}.{kind}" for name in ("rates", "types", "losses")
        for kind in ("svg", "png", "pdf", "csv")
    }  # fmt: skip
    linked = (project.folder / "results/report.html").read_text(encoding="utf-8")
    assert 'href="training/demo/evaluation/figures/losses.svg"' in linked


def test_a_second_run_has_nothing_to_do(project):
    assert project.jobs(*RUN) == set()
