"""What is evaluated, on which items, and that no item was ever trained on."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from recipe_runs import BANK, BASE, constitution

import contamination
from grace.errors import ConfigError
from grace.evaluation import ifeval
from grace.evaluation.held_out import held_out_items, refuse_trained, trained_rows, verdicts
from grace.posttraining.checkpoints import Checkpoint
from grace.posttraining.declared_checks import DeclaredCheck
from grace.posttraining.instruction_bank import InstructionBank, row_id
from grace.posttraining.instructions import of_evaluation, of_training, records
from grace.posttraining.recipe_runs import RecipeRun, refuse_trained_types
from grace.settings.config import ModelEntry
from grace.settings.recipes import Recipe
from grace.settings.training_configs import AnswersStep, EvaluateStep, InstructionsStep

FOUND = InstructionBank.model_validate(BANK)
STEP = InstructionsStep(
    bank="", train=12, evaluation=6, held_out_types=1, by_base=0, seed=1, model=None
)
HELD_OUT = list(FOUND.held_out(1))
ROWS = list(records(of_training(FOUND, STEP, 12), of_evaluation(FOUND, STEP)))


def config(**checks: object) -> EvaluateStep:
    answers = AnswersStep(
        model={}, format={"prompt": "{instruction}", "stop": ["x"]}, examples=[], temperature=0,
        top_p=1, max_tokens=4, draws=1, seed=1,
    )  # fmt: skip
    own = {one.name: one.check for one in FOUND.types}
    return EvaluateStep(evaluated="sft-1", answers=answers, checks={**own, **checks},
                        held_out=HELD_OUT)  # fmt: skip


def row(kind: str, text: str, **values: str) -> dict:
    return {"row_id": row_id(text), "type": kind, "split": "train", "instruction": text,
            "values": values}  # fmt: skip


def test_items_are_those_of_evaluation_in_order():
    items = held_out_items(ROWS, HELD_OUT)
    assert [item["row_id"] for item in items] == [
        row["row_id"] for row in ROWS if row["split"] == "evaluation"
    ]
    assert {item["type"] for item in items} == {"copy", "swap", "first"}


def test_an_item_that_is_trained_on_is_refused_by_its_words_its_values_or_its_type():
    item = next(r for r in ROWS if r["split"] == "evaluation" and r["type"] not in HELD_OUT)
    same = row(item["type"], f"  {item['instruction'].upper()}!")
    reworded = row(item["type"], "Quite other words.", **item["values"])
    held = row(HELD_OUT[0], "Words of a type that is held out.")
    for planted, what in (
        (same, "stands in instructions.json"), (reworded, "in other words"),
        (held, f"its type '{HELD_OUT[0]}' is held out"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=what):
            held_out_items([*ROWS, planted], HELD_OUT)


def test_an_item_in_what_a_checkpoint_was_trained_on_is_refused(tmp_path):
    items = held_out_items(ROWS, HELD_OUT)
    for name, key in (("selection.json", "rows"), ("pairs.json", "pairs")):
        path = tmp_path / name
        path.write_text(json.dumps({key: [{"row_id": "0" * 16}]}))
        refuse_trained(items, trained_rows(path), str(path))
        path.write_text(json.dumps({key: [{"row_id": items[2]["row_id"]}]}))
        with pytest.raises(ConfigError, match=f"{items[2]['row_id']}.* stands in .*{name}"):
            refuse_trained(items, trained_rows(path), str(path))


def test_verdicts_say_what_is_right_and_leave_open_what_was_not_answered_or_has_no_check():
    items = held_out_items(ROWS, HELD_OUT)[:3]
    right = [FOUND.types[["copy", "swap", "first"].index(item["type"])].check for item in items]
    answers = [
        {"answer": check.filled(item["values"])["text"], "finish_reason": "stop", "flags": []}
        for check, item in zip(right, items, strict=True)
    ]
    found = verdicts(items, answers, config())
    assert [(one["strict"], one["loose"], one["kind"]) for one in found] == [
        (True, True, "right")
    ] * 3
    assert [one["held_out"] for one in found] == [item["type"] in HELD_OUT for item in items]
    assert found[0].keys() == {
        "item", "type", "held_out", "instruction", "values", "answer", "strict", "loose", "kind",
        "stop_reason", "flags",
    }  # fmt: skip
    answers[0] = {"answer": "", "finish_reason": None, "flags": ["failed"]}
    answers[1] = {"answer": "a rambling", "finish_reason": "length", "flags": ["cut off"]}
    found = verdicts(items, answers, config(**{items[2]["type"]: None}))
    assert [(one["strict"], one["kind"]) for one in found] == [
        (None, None), (False, "truncated"), (None, None),
    ]  # fmt: skip


def test_an_export_has_ifevals_documents_and_says_what_has_no_counterpart(monkeypatch):
    def declared(rule: str, **arguments: str) -> DeclaredCheck:
        return DeclaredCheck.model_validate({"rule": rule, **arguments})

    checks = {
        "words": declared("word-count", number="{number}"), "key": declared("contains", text="{w}"),
        "not": declared("lacks", text="{w}"), "small": declared("lower-case"),
        "end": declared("ends", text="{w}"), "copy": declared("exact", text="{w}"), "open": None,
    }  # fmt: skip
    items = [
        {"type": kind, "values": {"number": "four", "w": "lamp"}, "instruction": f"Do {kind}.",
         "answer": "a lamp", "strict": True}
        for kind in checks
    ]  # fmt: skip
    items.append({**items[0], "strict": None, "answer": ""})
    found = {row["prompt"]: row for row in ifeval.documents(items, checks)}
    assert found.keys() == {f"Do {kind}." for kind in ("words", "key", "not", "small", "end")}
    assert found["Do words."] == {
        "key": 0, "prompt": "Do words.", "response": "a lamp",
        "instruction_id_list": ["length_constraints:number_words"] * 2,
        "kwargs": [
            {"num_words": 4, "relation": "at least"}, {"num_words": 5, "relation": "less than"},
        ],
    }  # fmt: skip
    assert found["Do key."]["kwargs"] == [{"keywords": ["lamp"]}]
    assert found["Do not."]["instruction_id_list"] == ["keywords:forbidden_words"]
    assert found["Do end."]["kwargs"] == [{"end_phrase": "lamp"}]
    # Neither the harness nor what its task needs is a dependency.
    monkeypatch.setitem(sys.modules, ifeval.SCORER, None)
    assert "not scored here" in str(ifeval.scores(found.values()))
    scorer = ModuleType(ifeval.SCORER)
    scorer.process_results = lambda row, results: {
        "prompt_level_strict_acc": row["key"] == 0, "prompt_level_loose_acc": results == ["a lamp"],
    }  # fmt: skip
    monkeypatch.setitem(sys.modules, ifeval.SCORER, scorer)
    assert ifeval.scores(found.values()) == {"strict": 0.2, "loose": 1.0}


def recipe_run(name: str, before: Checkpoint | None = None, shots: int = 3) -> RecipeRun:
    recipe = Recipe.model_validate(
        {"base": before.key if before else "base", "seeds": [1, 2], "instructions": {"train": 9},
         "answers": {"shots": shots}}
    )  # fmt: skip
    entry = ModelEntry.model_validate(BASE)
    return RecipeRun(
        name, recipe, (1, 2), recipe.base, entry, before, constitution(), FOUND, "results"
    )


def test_what_the_run_asks_for_is_evaluated_with_the_base_and_nothing_where_it_asks_for_none():
    run = recipe_run("demo")
    asked = {"base", "demo.dpo-1", "demo.sft-2", "demo.sft-1", "other.sft-1"}
    assert run.evaluated(asked) == ["base", "base-few-shot", "sft-1", "sft-2", "dpo-1"]
    assert recipe_run("demo", shots=0).evaluated(asked)[:2] == ["base", "sft-1"]
    assert run.evaluated({"base", "demo2.sft-1"}) == []
    assert run.shown({"base"}) == {}
    shown = run.shown(asked)
    assert (shown["base"], shown["models"]) == ("base", ["demo.sft-1", "demo.sft-2", "demo.dpo-1"])
    assert (shown["stages"], shown["seeds"]) == (["sft", "sft", "dpo"], [1, 2, 1])
    assert [run.model_of(name)[0] for name in ("base", "base-few-shot", "sft-2", "dpo-1")] == [
        "base", "base", "demo.sft-2", "demo.dpo-1",
    ]  # fmt: skip
    assert run.model_of("dpo-1")[1].adapter == "results/training/demo/seed-1/dpo"


def test_what_a_checkpoint_was_trained_on_is_of_all_recipes_behind_it():
    first = recipe_run("first")
    second = recipe_run("second", Checkpoint("first", "dpo", 2))
    runs = {"first": first, "second": second}
    assert first.trained_on("base", runs) == []
    before = ["results/training/first/selection.json", "results/training/first/seed-2/pairs.json"]
    assert first.trained_on("dpo-2", runs) == before
    assert second.trained_on("base-few-shot", runs) == before
    assert second.trained_on("sft-1", runs) == [*before, "results/training/second/selection.json"]
    assert second.trained_on("dpo-1", runs)[-1] == "results/training/second/seed-1/pairs.json"


def holding(run: RecipeRun, types: int) -> RecipeRun:
    told = run.recipe.instructions.model_copy(update={"held_out_types": types})
    return replace(run, recipe=run.recipe.model_copy(update={"instructions": told}))


def test_a_type_that_a_recipe_behind_the_base_trains_on_cannot_be_held_out():
    """Its items would be counted as of a type that was never trained on."""
    first = holding(recipe_run("first"), 1)
    second = holding(recipe_run("second", Checkpoint("first", "dpo", 2)), 1)
    third = holding(recipe_run("third", Checkpoint("second", "sft", 1)), 2)
    runs = {"first": first, "second": second, "third": third}
    refuse_trained_types(first, runs)
    refuse_trained_types(second, runs)
    (learnt,) = set(third.held_out) - set(first.held_out)
    runs["second"] = holding(second, 2)  # what the first one learnt is still learnt
    with pytest.raises(ConfigError, match=f"'third' holds out the type '{learnt}'.* 'first'"):
        refuse_trained_types(third, runs)
    runs["first"] = holding(first, 2)
    refuse_trained_types(third, runs)


def test_text_of_a_recipe_behind_the_base_is_held_against_the_items_too(tmp_path):
    told = "one two three four five six seven eight"
    item = {**row("copy", f"Now {told}."), "split": "evaluation"}
    own = row("copy", "Copy lamp and tree.")
    rows, report = tmp_path / "instructions.json", tmp_path / "contamination.json"
    rows.write_text(json.dumps([own, item]))
    settings = {"stimuli": {}, "constitution": {}}

    def texts(instruction: str) -> Path:
        path = tmp_path / "pairs.json"
        one = {**row("copy", instruction), "chosen": "lamp", "rejected": "stone"}
        path.write_text(json.dumps({"pairs": [one]}))
        return path

    contamination.compare(rows, [texts("Copy lamp and tree.")], report, settings)
    assert json.loads(report.read_text())["training_texts"] == 3
    contamination.compare(rows, [texts("Copy fork and shoe.")], report, settings)
    assert json.loads(report.read_text())["training_texts"] == 4
    with pytest.raises(ConfigError, match=r"pairs\.json, instruction .* and evaluation item"):
        contamination.compare(rows, [texts(f"Write {told}!")], report, settings)
