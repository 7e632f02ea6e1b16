"""Recipes: what may stand there, and their checkpoints as entries of the registry."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from grace.errors import ConfigError
from grace.posttraining.checkpoints import Registry, needs, stage_before
from grace.posttraining.constitution import Constitution, read_constitution
from grace.posttraining.recipe_runs import RecipeRun, recipe_runs
from grace.runs.continuation import VARIABLE, Failure, encoded
from grace.settings.config import ModelEntry
from grace.settings.loading import models_of
from grace.settings.project import Project
from grace.settings.recipes import Recipe, Recipes, load_recipes
from grace.settings.training_outputs import TrainingOutputs

ROOT = Path(__file__).parents[2]
MODELS = ["qwen-32b-base", "bootstrap.sft-1", "bootstrap.dpo-1"]
ENTRY = {"name": "org/base", "prompting": "completion"}


def recipe(**changes) -> Recipe:
    return Recipe.model_validate({"base": "base", "instructions": {"train": 10}, **changes})


def registry(recipes: dict[str, Recipe], **entries) -> Registry:
    known = {key: ModelEntry.model_validate(values) for key, values in entries.items()}
    return Registry({"base": ModelEntry.model_validate(ENTRY), **known}, recipes, "results")


@pytest.fixture(scope="module")
def project() -> Project:
    return Project(ROOT, {"models": MODELS})


def test_a_checkpoint_is_its_base_with_an_adapter_among_the_results(project):
    base, sft, dpo = (project.models[key] for key in MODELS)
    assert sft.adapter == "results/training/bootstrap/seed-1/sft"
    assert dpo.adapter == "results/training/bootstrap/seed-1/dpo"
    own = {"adapter", "trained"}
    assert dpo.model_dump(exclude=own) == base.model_dump(exclude=own)
    assert dpo.prompting == "completion"
    # One server answers for all three.
    assert list(project.sharing("bootstrap.dpo-1")) == [
        "qwen-32b-base", "bootstrap.dpo-1", "bootstrap.sft-1",
    ]  # fmt: skip
    # What a checkpoint's plan depends on is known before it is trained.
    assert project.model_configs["bootstrap.sft-1"]["trained"] == "bootstrap.sft-1"
    assert "adapter_files" not in project.model_configs["bootstrap.sft-1"]


def test_a_run_without_checkpoints_has_no_recipe_in_it():
    found = Project(ROOT, {})
    assert found.trainings == {}
    assert found.adapter_files("pico") == []
    assert "trained" not in found.model_configs["pico"]


def test_a_run_has_the_recipes_behind_its_models_and_the_seeds_that_they_need():
    recipes = {"one": recipe(seeds=[1, 2]), "two": recipe(base="one.dpo-2", seeds=[5])}
    found = registry(recipes)
    assert found.recipes_of(["two.sft-5"]) == ["one", "two"]
    assert found.seeds_of("one", ["two.sft-5"]) == [2]
    assert found.seeds_of("two", ["two.sft-5", "base"]) == [5]
    assert found.entry("two.dpo-5").adapter == "results/training/two/seed-5/dpo"
    assert found.entry("two.dpo-5").name == "org/base"


def test_a_failed_step_takes_with_it_the_models_that_need_it_and_no_other():
    keys = [f"bootstrap.{stage}-{seed}" for stage in ("sft", "dpo") for seed in (1, 2)]
    found = Project(ROOT, {"models": ["pico", *keys], "studies": ["study1"]}, {})
    assert found.models_behind("bootstrap", "judge", 0) == set(keys)
    assert found.models_behind("bootstrap", "sft", 2) == {"bootstrap.sft-2", "bootstrap.dpo-2"}
    assert found.models_behind("bootstrap", "pairs", 1) == {"bootstrap.dpo-1"}
    assert found.models_behind("bootstrap", "contamination", 0) == set()
    assert found.models_behind("other", "sft", 1) == set()


def test_what_goes_on_without_a_checkpoint_trains_nothing_for_it():
    values = {"models": ["pico", "bootstrap.sft-1", "bootstrap.dpo-2"], "replications": 1,
              "studies": ["study1"]}  # fmt: skip
    failures = [Failure(model="bootstrap.dpo-2", replication=0, stage="dpo", reason="NaN")]
    left = Project(ROOT, values, {VARIABLE: encoded(failures)})
    assert left.checkpoints_wanted == {"pico", "bootstrap.sft-1", "qwen-32b-base"}
    assert list(left.recipes_wanted) == ["bootstrap"]
    failures += [Failure(model="bootstrap.sft-1", replication=0, stage="sft", reason="NaN")]
    alone = Project(ROOT, values, {VARIABLE: encoded(failures)})
    assert alone.recipes_wanted == {}


def test_money_needs_a_price(tmp_path):
    path = tmp_path / "recipes.yaml"
    path.write_text("r: {base: b, instructions: {train: 5}, budget: {usd: 3}}", encoding="utf-8")
    with pytest.raises(ConfigError, match="`usd` needs `usd_per_hour`"):
        load_recipes(path)


def test_a_checkpoint_of_a_checkpoint_fails_with_what_it_was_trained_on_from():
    found = registry({"one": recipe(seeds=[1, 2]), "two": recipe(base="one.dpo-2", seeds=[5])})
    assert [one.key for one in found.chain("two.sft-5")] == ["two.sft-5", "one.dpo-2"]
    assert found.chain("base") == []


@pytest.mark.parametrize(("first", "second", "refused"), [(2, 3, True), (3, 3, False)])
def test_a_chain_that_holds_out_what_its_base_learnt_is_refused_when_it_is_read(
    first, second, refused
):
    recipes = {
        "one": recipe(instructions={"train": 10, "held_out_types": first}),
        "two": recipe(base="one.dpo-1", instructions={"train": 10, "held_out_types": second}),
    }
    known = registry(recipes)
    config = SimpleNamespace(models=["two.sft-1"], results="results")
    if refused:
        with pytest.raises(ConfigError, match=r"'two' holds out the type .* 'one'"):
            recipe_runs(known, recipes, config, ROOT, known.entry)
    else:
        assert list(recipe_runs(known, recipes, config, ROOT, known.entry)) == ["one", "two"]


def rounds_run(project: Project, rounds: int, seeds: tuple[int, ...] = (1, 2)) -> RecipeRun:
    run = project.trainings["bootstrap"]
    changed = run.recipe.model_copy(update={"online_rounds": rounds})
    return replace(run, recipe=changed, seeds=seeds)


def test_each_online_round_is_a_checkpoint_that_goes_on_from_the_one_before_it(project):
    found = registry({"one": recipe(online_rounds=2), "two": recipe(base="one.online1-1")})
    assert [key for key in found.checkpoints if key.startswith("one")] == [
        "one.sft-1", "one.dpo-1", "one.online1-1", "one.online2-1",
    ]  # fmt: skip
    assert found.entry("one.online2-1").adapter == "results/training/one/seed-1/online2"
    assert found.recipes_of(["two.sft-1"]) == ["one", "two"]
    assert [stage_before(stage) for stage in ("dpo", "online1", "online2")] == [
        "sft", "dpo", "online1",
    ]  # fmt: skip
    run = rounds_run(project, 3)
    models = {"bootstrap.online2-1", "bootstrap.sft-1", "bootstrap.sft-2", "bootstrap.dpo-7"}
    assert run.needed(models, 1) == ["sft", "dpo", "online1", "online2"]
    assert run.needed(models, 2) == ["sft"]
    assert run.needed({"pico"}, 1) == []
    assert (run.rounds(models, 1), run.rounds(models, 2)) == (2, 0)
    folder = "results/training/bootstrap/seed-1"
    pairs = [f"{folder}/{place}pairs.json" for place in ("", "round-1/", "round-2/")]
    assert run.pairs_needed(models) == pairs
    assert run.trained_on("online2-1", {}) == ["results/training/bootstrap/selection.json", *pairs]
    assert run.trained_on("online1-1", {})[1:] == pairs[:2]


def test_rounds_are_drawn_anew_and_change_nothing_of_what_is_before_them(project, monkeypatch):
    def configs(rounds: int) -> TrainingOutputs:
        monkeypatch.setitem(project.trainings, "bootstrap", rounds_run(project, rounds))
        return TrainingOutputs(project)

    def before(found: TrainingOutputs) -> list:
        return [found.candidates("bootstrap", 1), found.pairs("bootstrap", 1),
                found.train("bootstrap", "dpo", 1), found.judge("bootstrap")]  # fmt: skip

    without = before(configs(0))
    found = configs(2)
    assert before(found) == without
    asked = [found.candidates("bootstrap", 1, stage) for stage in ("dpo", "online1", "online2")]
    assert [one.model["key"] for one in asked] == [
        "bootstrap.sft-1", "bootstrap.dpo-1", "bootstrap.online1-1",
    ]  # fmt: skip
    for config in (found.candidates, found.pairs):
        seeds = [config("bootstrap", 1, stage).seed for stage in ("dpo", "online1", "online2")]
        assert seeds[0] == 1
        assert len({*seeds, config("bootstrap", 2, "online1").seed}) == 4
    # Trained as DPO is, with its own data and parent.
    assert found.train("bootstrap", "online1", 1) == found.train("bootstrap", "dpo", 1)


def test_a_failed_round_takes_with_it_what_goes_on_from_it_alone():
    stages = ["sft", "dpo", "online1", "online2", "online3"]

    def left(step: str, number: int = 0) -> list[str]:
        return [stage for stage in stages if not needs(stage, step, number)]

    assert left("online_candidates", 2) == ["sft", "dpo", "online1"]
    assert left("online_dpo", 1) == ["sft", "dpo"]
    assert left("pairs") == ["sft"]
    assert left("sft") == left("judge") == []
    assert left("contamination") == stages


def test_each_round_has_decision_points_of_its_own(project):
    run = rounds_run(project, 1)
    seed = "results/training/bootstrap/seed-1"
    assert [one.of for one in run.gate_after("sft", 1)] == [f"{seed}/sft/adapter_model.safetensors"]
    (approval,) = run.gate_after("online1", 1)
    assert approval.of == f"{seed}/online1/adapter_model.safetensors"
    assert approval.note == f"{seed}/round-1/approved_dpo.json"
    assert run.gate_after("dpo", 1)[0].note == f"{seed}/approved_dpo.json"
    assert [one.page for one in run.gates("pairs")] == [
        f"{folder}/{place}pairs.html"
        for folder in (seed, seed.replace("-1", "-2"))
        for place in ("", "round-1/")
    ]
    assert len(run.gates("dpo")) == 4
    assert len(run.gates("sft")) == 2
    assert len(run.gates("sample")) == 1


@pytest.mark.parametrize(
    ("changes", "entries", "told"),
    [
        ({"base": "bass"}, {}, "base 'bass' is no entry of config/models.yaml.*'base'"),
        ({"base": "r.dpo-1"}, {}, "builds on the recipe itself (r -> r)"),
        ({"base": "chat"}, {"chat": {"name": "org/chat"}}, "is not asked as a base model"),
        ({"base": "q"}, {"q": {**ENTRY, "quantization": "awq"}}, "is quantised"),
        ({"base": "a"}, {"a": {**ENTRY, "adapter": "org/a"}}, "`adapter` that no recipe trained"),
        ({"base": "s"}, {"s": {**ENTRY, "max_model_len": 512}}, "holds 512 tokens"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_reason(changes, entries, told):
    with pytest.raises(ConfigError, match=told.replace("(", r"\(").replace(")", r"\)")):
        registry({"r": recipe(**changes)}, **entries).entry("r.sft-1")


def test_a_checkpoint_that_no_recipe_makes_is_unknown_and_the_nearest_is_named():
    with pytest.raises(ConfigError, match=r"Did you mean 'bootstrap.sft-1'") as refusal:
        Project(ROOT, {"models": ["bootstrap.sft1"]})
    assert "Checkpoints of config/recipes.yaml: bootstrap.dpo-1, " in str(refusal.value)


def test_an_adapter_that_is_trained_on_keeps_its_rank():
    recipes = {"one": recipe(), "two": recipe(base="one.dpo-1", sft={"rank": 8})}
    with pytest.raises(ConfigError, match="adapter of rank 16 and alpha 32"):
        registry(recipes).entry("two.sft-1")


def test_a_checkpoint_does_not_take_an_entrys_name_nor_an_entry_a_checkpoints():
    with pytest.raises(ConfigError, match="has the name of a checkpoint of recipe 'r'"):
        registry({"r": recipe()}, **{"r.sft-1": ENTRY})
    with pytest.raises(ConfigError, match="sets `trained`, which Grace sets itself"):
        models_of({"mine": {**ENTRY, "adapter": "a", "trained": "r.sft-1"}}, "models.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("r: {base: b}", "instructions"),
        ("r: {base: b, instructions: {train: 5}, sfd: {}}", "sft"),
        ("r: {base: b, instructions: {train: 0}}", "train"),
        ("r: {base: b, instructions: {train: 5}, seeds: [1, 1]}", "more than once"),
        ("r: {base: b, instructions: {train: 5}, approve: [sample, sampel]}", "approve"),
        ("r: {base: b, instructions: {train: 5}, constitution: ../x.yaml}", "without '..'"),
        ("r.1: {base: b, instructions: {train: 5}}", "r.1"),
        ("r: {base: b, instructions: {train: 5}, answers: {max_tokens: 1024}}", "max_length"),
        ("r: {base: b, instructions: {train: 5}, dpo: {beta: .nan}}", "beta"),
        ("r: {base: b, instructions: {train: 5}, online_rounds: -1}", "online_rounds"),
        ("- r", "must map names of recipes"),
        ("r: {base: b}\nr: {base: c}", "line 2"),
    ],
)
def test_a_recipe_that_is_none_is_refused_with_file_and_key(tmp_path, text, told):
    path = tmp_path / "recipes.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(told)) as refusal:
        load_recipes(path)
    assert str(path) in str(refusal.value)


def test_no_file_of_recipes_is_no_recipe(tmp_path):
    assert load_recipes(tmp_path / "recipes.yaml") == {}


def test_each_step_depends_on_its_own_part_of_the_recipe(project, monkeypatch):
    """What changes with an edit; what follows it is stale by its inputs."""
    steps = {
        "instructions": (), "answers": (), "judge": (), "sample": (), "select": (),
        "candidates": (1,), "pairs": (1,), "sft": (1,), "dpo": (1,),
    }  # fmt: skip

    def configs(text: str = "", old: str = "") -> dict:
        values = yaml.safe_load((ROOT / "config/recipes.yaml").read_text(encoding="utf-8"))
        edited = yaml.safe_load(yaml.safe_dump(values).replace(old, text, 1)) if old else values
        changed = Recipes.model_validate({"recipes": edited}).recipes["bootstrap"]
        run = replace(project.trainings["bootstrap"], recipe=changed)
        monkeypatch.setitem(project.trainings, "bootstrap", run)
        found = TrainingOutputs(project)
        return {
            step: found.train("bootstrap", step, 1)
            if step in ("sft", "dpo")
            else getattr(found, step)("bootstrap", *seeds)
            for step, seeds in steps.items()
        }

    before = configs()

    def changed(old: str, new: str) -> set[str]:
        after = configs(new, old)
        return {step for step in steps if after[step] != before[step]}

    assert changed("beta: 0.2", "beta: 0.1") == {"dpo"}
    assert changed("min_margin: 0.4", "min_margin: 0.5") == {"pairs"}
    assert changed("candidates: 4", "candidates: 5") == {"candidates", "pairs"}
    assert changed("rank: 16", "rank: 8") == {"sft", "dpo"}
    assert changed("accept: 0.6", "accept: 0.5") == {"sample", "select", "pairs"}
    assert changed("temperature: 0.7", "temperature: 0.8") == {"answers", "candidates"}
    assert changed("train: 20000", "train: 19999") == {"instructions"}
    assert changed("sample: 100", "sample: 50") == {"sample", "pairs"}
    assert changed("usd: 300", "usd: 200") == set()
    assert changed("approve:\n  - sample\n", "approve:\n") == set()


def test_the_first_stages_constitution_says_nothing_of_what_the_studies_measure():
    path = ROOT / "resources/constitutions/stage1.yaml"
    found = read_constitution(path, 3, 4)
    told = path.read_text(encoding="utf-8").split("principles:")[1].lower()
    for word in ("polite", "kind", "honest", "nice", "friendly", "respect", "truth", "helpful"):
        assert not re.search(rf"\b{word}", told), word
    assert len(found.principles) >= 3


def test_the_positive_control_is_the_first_stage_with_kindness_and_nothing_else():
    recipes = load_recipes(ROOT / "config/recipes.yaml")
    control = "resources/constitutions/kindness.yaml"
    assert recipes["kindness"] == recipes["bootstrap"].model_copy(update={"constitution": control})
    plain = read_constitution(ROOT / recipes["bootstrap"].constitution, 3, 4)
    kind = read_constitution(ROOT / control, 3, 4)
    assert kind.principles[:-1] == plain.principles
    assert "kind" in kind.principles[-1].text
    for name in ("format", "refusals", "wrong_formats"):
        assert getattr(kind, name) == getattr(plain, name)
    assert kind.examples[: len(plain.examples)] == plain.examples
    assert kind.judge.examples[: len(plain.judge.examples)] == plain.judge.examples
    # The question holds what the first stage's does.
    for polarity in ("accepting", "rejecting"):
        question = getattr(plain.judge, polarity).removesuffix("?")
        assert getattr(kind.judge, polarity).startswith(question)
        assert "kind" in getattr(kind.judge, polarity)


def test_every_key_of_a_recipe_and_of_a_constitution_is_explained():
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    for model in (Recipe, Constitution):
        for name, field in model.model_fields.items():
            assert f"`{name}" in page, name
            inner = getattr(field.annotation, "model_fields", {})
            assert [key for key in inner if f"`{key}`" not in page] == [], name
