"""Costs of a recipe, summed up for people and for R, and the model cards of its checkpoints."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import yaml
from r_analysis import rscript

from grace.posttraining.costs import COLUMNS, CORES, KEPT, cost_rows, summary, write_costs_csv
from grace.posttraining.model_card import CardFacts, literal_markdown, model_card
from grace.posttraining.spending import Try

SFT = Try("r", "sft", 1, "1", 3600.0, 2, "1 x a100", 3.0, done=True, forecast_s=1800.0)
KILLED = Try("r", "sft", 1, "0", 360.0, 2, "1 x a100", 3.0, done=False, forecast_s=9.0)
CORE = Try("r", "answers", None, "0", 36.0, 0, "4 cores", None, done=True, forecast_s=18.0)


def test_costs_are_summed_over_tries_and_what_the_journal_had_costs_nothing():
    rows = {(row["step"], row["seed"]): row for row in cost_rows("r", [1], [KILLED, SFT, CORE])}
    assert list(rows) == [
        ("instructions", None), ("answers", None), ("judge", None), ("sft", 1), ("candidates", 1),
        ("judge_pairs", 1), ("dpo", 1),
    ]  # fmt: skip
    sft = rows["sft", 1]
    assert (sft["tries"], sft["hours"], sft["gpu_hours"]) == (2, 1.1, pytest.approx(2.2))
    assert sft["usd"] == pytest.approx(6.6)
    assert (sft["forecast_hours"], sft["forecast_gpu_hours"], sft["forecast_usd"]) == (0.5, 1, 3)
    assert sft["note"] == "1 of them failed or killed"
    assert (rows["answers", None]["note"], rows["answers", None]["usd"]) == (CORES, 0)
    assert (rows["judge", None]["note"], rows["judge", None]["gpu_hours"]) == (KEPT, 0)
    whole = summary("r", list(rows.values()), {"usd": 5})
    assert (whole["gpu_hours"], whole["usd"]) == (pytest.approx(2.2), pytest.approx(6.6))
    unpriced = cost_rows("r", [1], [Try("r", "sft", 1, "1", 9.0, 1, "g", None, done=True)])
    assert summary("r", unpriced, {})["usd"] is None


def test_rounds_have_rows_where_there_are_some():
    steps = [(row["step"], row["seed"]) for row in cost_rows("r", [1, 2], [], {2: 1})]
    own = ["online_candidates 1", "online_judge 1", "online_dpo 1"]
    assert steps[-3:] == [(step, 2) for step in own]
    assert not [step for step, seed in steps if seed == 1 and step in own]


def test_the_reports_table_has_forecast_beside_actual_and_a_sum(tmp_path):
    path = tmp_path / "costs.csv"
    write_costs_csv(path, cost_rows("r", [1, 2], [KILLED, SFT, CORE]))
    with path.open(encoding="utf-8", newline="") as file:
        assert tuple(next(csv.reader(file))) == COLUMNS
    cores = tmp_path / "cores.csv"
    write_costs_csv(cores, cost_rows("s", [1], [CORE]))
    code = """
    for (file in c("common.R", "html.R", "report.R", "training_costs.R")) {
      source(file.path("scripts/lib", file))
    }
    files <- commandArgs(TRUE)
    both <- training_costs_table(files)
    stopifnot(is.null(show_training_costs(list(), character(0))))
    stopifnot(is.null(show_training_costs(list(r = 1), "results/training/r/evaluation/rates.csv")))
    cat(jsonlite::toJSON(list(both = both, cores = training_costs_table(files[2]),
      numbers = read_training_costs(files[1])), digits = 10))
    """
    done = rscript(code, str(path), str(cores))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    table = {(row["Recipe"], row["Step"], row["Seed"]): row for row in found["both"]}
    assert table["r", "sft", "1"]["GPU-hours"] == "2.200"
    assert table["r", "sft", "1"]["GPU-hours forecast"] == "1.000"
    assert table["r", "sft", "2"]["Hours forecast"] == "–"
    assert table["r", "all", "–"]["USD"] == "6.60"
    assert ("s", "all", "–") in table
    # Without GPUs there are neither GPU-hours nor money to show.
    assert list(found["cores"][0]) == [
        "Recipe", "Step", "Seed", "On", "Tries", "Hours forecast", "Hours", "Note"
    ]  # fmt: skip
    whole = found["numbers"][-1]
    assert whole["hours"] == pytest.approx(1.11)
    assert whole["forecast_hours"] == pytest.approx(0.505)


def card(**changes) -> str:
    facts = {
        "key": "demo.sft-1", "stage": "sft", "seed": 1, "base": "org/base", "licence": "apache-2.0",
        "principles": ["A good answer does what is asked."], "hyperparameters": {"lr": 1e-4},
        "record": {"base": {"weights": {"model.safetensors": "a" * 64}, "commit": "c" * 40},
                   "parent": None, "trained": {"data": "d" * 64, "recipe": "e" * 64}},
        "digests": {"adapter_model.safetensors": "f" * 64}, "curve": {"step": "9", "loss": "0.25"},
        "training": {"plan": {"method": "lora", "micro_batch": 2}, "seconds": 12.5},
        "data": {"counts": {"accepted": 1, "rejected": 4},
                 "rows": [{"instruction": "Copy sun.", "answer": "sun"}]},
        "costs": cost_rows("demo", [1], [SFT]),
    }  # fmt: skip
    return model_card(CardFacts(**{**facts, **changes}))


def test_a_card_has_the_hubs_form_and_says_what_it_was_made_of():
    text = card()
    _, front, body = text.split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["base_model"] == "org/base"
    assert values["license"] == "apache-2.0"
    assert values["library_name"] == "peft"
    for told in ("a" * 64, "c" * 40, "d" * 64, "f" * 64, "| lr | 0.0001 |", "| method | lora |",
                 "| last step's loss | 0.25 |", "| rejected | 4 |", "Not evaluated in this run.",
                 "1.000 hours, 2.000 GPU-hours, 6.00 USD", "| Copy sun. | sun |",
                 "One training seed is one draw"):  # fmt: skip
        assert told in body, told
    assert [line for line in body.splitlines() if line.startswith("## ")] == [
        "## Intended use", "## Limits", "## Training data", "## Training", "## Evaluation",
        "## Costs", "## Digests &#40;SHA-256&#41;".replace("&#40;", "(").replace("&#41;", ")"),
    ]  # fmt: skip
    assert "| sft-1 | 0.8 |" in card(rates=[{"evaluated": "sft-1", "rate": "0.8"}])
    assert "began with the adapter 0123" in card(
        record={"parent": "0123" * 16}, stage="dpo",
        data={"counts": {"paired": 1}, "pairs": [{"instruction": "i", "chosen": "c",
                                                 "rejected": "r"}]})  # fmt: skip
    assert "license: unknown" in card(licence=None)
    online = card(key="demo.online2-1", stage="online2")
    assert "preference optimisation, round 2 of pairs by the checkpoint before it," in online
    assert "- dpo" in online


EVIL = [
    "| a | b |\n|---|---|", "<script>alert(1)</script>", "[x](javascript:alert(1))", "`code`",
    "# heading", "- item", "1. item", "![i](http://x.example/i.png)", "https://x.example",
    "www.x.example", "&lt;b&gt;", "*bold* _it_", "a\u202eb\x1b[31m", "$$x$$", "---",
]  # fmt: skip


@pytest.mark.parametrize("text", EVIL)
def test_text_of_models_is_shown_and_commands_nothing(text):
    found = literal_markdown(text)
    assert "\n" not in found
    assert not re.search(r"[|<>`\[\]*_#!$@]", re.sub(r"&#\d+;", "", found))
    assert "://" not in found
    assert "www." not in found
    shown = card(data={"counts": {}, "rows": [{"instruction": text, "answer": text}]})
    assert f"| {found} | {found} |" in shown.splitlines()
    harmless = card(data={"counts": {}, "rows": [{"instruction": "a", "answer": "a"}]})
    assert len(shown.splitlines()) == len(harmless.splitlines())
    assert "\x1b" not in shown
    assert len(literal_markdown("x" * 1000)) < 400


def test_a_card_is_written_by_its_script_from_the_files_of_a_training(tmp_path: Path):
    import model_card as script

    folder = tmp_path / "sft"
    folder.mkdir()
    (folder / "training_curve.csv").write_text("step,loss\n1,2.5\n2,1.5\n")
    (folder / "training.json").write_text("{}")
    (folder / "grace_adapter.json").write_text('{"parent": null}')
    (folder / "adapter_config.json").write_text("{}")
    (tmp_path / "data.json").write_text('{"counts": {"accepted": 1}, "rows": []}')
    steps = cost_rows("demo", [1], [SFT], {1: 2})
    (tmp_path / "costs.json").write_text(json.dumps({"steps": steps}))
    (tmp_path / "rates.csv").write_text("evaluated,rate\nsft-1,0.8\ndpo-1,0.9\n")
    config = {
        "key": "demo.sft-1", "stage": "sft", "seed": 1, "base": "b", "licence": None,
        "principles": [], "hyperparameters": {},
    }  # fmt: skip
    script.write_card(
        sorted(folder.iterdir()), tmp_path / "data.json", tmp_path / "costs.json",
        [tmp_path / "rates.csv"], folder / "README.md", config,
    )  # fmt: skip
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| last step's loss | 1.5 |" in text
    assert "| sft-1 | 0.8 |" in text
    assert "dpo-1" not in text
    assert "judge&#95;pairs" not in text
    # Of a round all steps that led to it.
    script.write_card(
        sorted(folder.iterdir()), tmp_path / "data.json", tmp_path / "costs.json", [],
        folder / "README.md", config | {"key": "demo.online1-1", "stage": "online1"},
    )  # fmt: skip
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "judge&#95;pairs" in text
    assert "online&#95;dpo 1" in text
    assert "online&#95;dpo 2" not in text
