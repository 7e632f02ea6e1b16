"""Recipes in the whole workflow: trained, stopped, approved, asked, and what an edit makes stale.

The trainer alone is a stand-in, at the border of its process (tests/support/training_stand_in.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from recipe_runs import add_recipe, copied
from report_page import TAGS, page
from workflow_project import Project

from grace.digests import file_digest

pytestmark = pytest.mark.long
MODELS = "models=[base, demo.sft-1, demo.dpo-1]"
RUN = (
    "--config", MODELS, "studies=[study1]", "experiments=[exp2]", "limit=2", "replications=1",
    "on_invalid=warn",
)  # fmt: skip
#: Everything but R's part.
CHECKED = (
    *(
        f"results/{key}/replication-0/validation.json"
        for key in ("base", "demo.sft-1", "demo.dpo-1")
    ),
    "results/training/demo/contamination.json",
    "results/training/demo/evaluation/rates.csv",
)
SHARED = {f"{step} demo" for step in ("instructions", "answers", "judge", "sample", "select")}
OWN = {f"{step} demo/1" for step in ("sft", "candidates", "judge_pairs", "pairs", "dpo")}
AUDIT = {"contamination demo"}


def evaluated(*names: str) -> set[str]:
    """The evaluations of these, and what compares them."""
    return {f"evaluate demo/{name}" for name in names} | {"compare demo"}


EVALUATED = evaluated("base", "base-few-shot", "sft-1", "dpo-1")
TRAINED = evaluated("sft-1", "dpo-1")


def study(*stages: str) -> set[str]:
    """What the studies do of checkpoints."""
    one = {f"demo.{stage}-1" for stage in stages}
    return {f"{rule} {key}/0" for rule in ("plan", "validate") for key in one} | {
        f"{rule} {key}/0/study1" for rule in ("score", "probabilities") for key in one
    }


BOTH = study("sft", "dpo")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project whose recipe has been trained and asked."""
    found = Project.copied_to(tmp_path_factory.mktemp("recipes") / "project")
    add_recipe(found)
    found.tells_jobs()
    shown = found.run("--cores", "2", *CHECKED, *RUN)
    assert "dpo of demo, seed 1" in shown
    return found


@contextmanager
def edited(project: Project, file: str, old: str, new: str) -> Iterator[None]:
    path = project.folder / file
    text = path.read_text(encoding="utf-8")
    project.edit(file, old, new)
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


def jobs(project: Project, *arguments: str) -> set[str]:
    return project.jobs(*CHECKED, *(arguments or RUN))


def test_a_second_run_has_nothing_to_do_and_the_chain_of_records_holds(project):
    assert jobs(project) == set()
    folder = project.folder / "results/training/demo/seed-1/dpo"
    record = json.loads((folder / ".provenance/adapter_model.safetensors.json").read_text())
    assert "results/training/demo/seed-1/sft/adapter_model.safetensors" in record["input_records"]
    facts = project.folder / "results/demo.dpo-1/replication-0/provenance/study1_exp2.json"
    adapter = json.loads(facts.read_text())["model"]["adapter"]
    assert adapter["name"] == "results/training/demo/seed-1/dpo"
    assert adapter["parent"] == record["engine"]["training"]["parent"]


RECIPES, RULES = "config/recipes.yaml", "resources/constitutions/tiny.yaml"
BANK = "resources/instructions/tiny.yaml"


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        (RECIPES, "beta: 0.2", "beta: 0.3", {"dpo demo/1"} | study("dpo") | evaluated("dpo-1")),
        (RECIPES, "min_margin: 0", "min_margin: 0.001",
         {"pairs demo/1", "dpo demo/1"} | AUDIT | study("dpo") | evaluated("dpo-1")),
        (RECIPES, "rank: 2", "rank: 3", OWN | AUDIT | BOTH | TRAINED),
        (RECIPES, "accept: -1", "accept: -0.9",
         {"sample demo", "select demo"} | OWN | AUDIT | BOTH | TRAINED),
        (RULES, "does what is asked", "does all that is asked",
         {"judge demo", "sample demo", "select demo"} | OWN | AUDIT | BOTH | TRAINED),
        (BANK, "Copy {word}", "Copy just {word}", SHARED | OWN | AUDIT | BOTH | EVALUATED),
        (BANK, "'{other} and {word}'", "'{other}, {word}'", EVALUATED),
        (RECIPES, "  - 2\n", "  - 2\n  - 3\n", set()),
        (RECIPES, "approve: []", "approve: [sample]", set()),
        (RECIPES, "base: base", "base: base\n  budget: {usd: 5, usd_per_hour: 1}", set()),
    ],
    ids=["beta", "margin", "rank", "accept", "principle", "instruction", "check", "seed", "gate",
         "budget"],
)  # fmt: skip
def test_an_edit_makes_stale_what_follows_from_it(project, file, old, new, stale):
    with edited(project, file, old, new):
        assert jobs(project) == stale


def test_another_base_makes_all_stale_and_another_seed_its_own(project):
    config = project.folder / "models/base/config.json"
    with edited(project, "models/base/config.json", '"bos_token_id"', '"note": 1, "bos_token_id"'):
        base = {name.replace("demo.sft-1", "base") for name in study("sft")}
        # The base writes none of its instructions.
        asked = SHARED - {"instructions demo"}
        assert jobs(project) == asked | OWN | AUDIT | BOTH | base | EVALUATED
    assert config.exists()
    second = ("--config", MODELS.replace("dpo-1", "sft-2"), *RUN[2:])
    # Of the second seed no pairs are wanted, and those of the first are no longer compared.
    assert project.jobs("results/training/demo/seed-2/sft/adapter_model.safetensors", *second) == {
        "sft demo/2"
    }


def test_an_online_round_trains_itself_alone_and_is_one_more_checkpoint(project, tmp_path):
    own = copied(project, tmp_path / "project")
    own.edit(RECIPES, "approve: []", "approve: []\n  online_rounds: 2")
    # It changes nothing of a run that has no such checkpoint.
    assert jobs(own) == set()
    rounds = (*RUN[:1], MODELS.replace("]", ", demo.online2-1]"), *RUN[2:])
    checked = (*CHECKED, "results/demo.online2-1/replication-0/validation.json",
               *(f"results/training/demo/{name}" for name in (
                   "costs.json", "seed-1/online1/README.md", "seed-1/online2/README.md",
               )))  # fmt: skip
    shown = own.run("--cores", "2", *checked, *rounds)
    first, second = (f"online_dpo of demo, seed 1, round {number}, in" for number in (1, 2))
    assert shown.index(first) < shown.index(second)
    # Nothing of the stages before was done again.
    for before in ("sft of demo", " dpo of demo", "of demo.sft-1", "model dpo-1"):
        assert before not in shown
    folder = own.folder / "results/training/demo"
    weights = {}
    for stage in ("sft", "dpo", "online1", "online2"):
        record = json.loads((folder / f"seed-1/{stage}/grace_adapter.json").read_text())
        weights[stage] = file_digest(folder / f"seed-1/{stage}/adapter_model.safetensors")
        before = {"online1": "dpo", "online2": "online1"}.get(stage)
        if before:
            assert record["parent"] == weights[before]
    assert len(set(weights.values())) == 4
    said = {
        step: json.loads((folder / f"seed-1/{place}candidates.json").read_text())
        for step, place in (("dpo", ""), ("online1", "round-1/"), ("online2", "round-2/"))
    }
    assert said["dpo"] != said["online1"] != said["online2"]
    evaluation = json.loads((folder / "evaluation/online2-1.json").read_text())
    assert evaluation["model"] == "demo.online2-1"
    costs = json.loads((folder / "costs.json").read_text())["steps"]
    taken = [row["step"] for row in costs if row["tries"] and row["step"].startswith("online")]
    assert taken == [
        f"online_{step} {number}" for number in (1, 2) for step in ("candidates", "judge", "dpo")
    ]
    assert "round 2 of pairs by the checkpoint" in (folder / "seed-1/online2/README.md").read_text()
    audit = json.loads((folder / "contamination.json").read_text())
    before = json.loads((project.folder / "results/training/demo/contamination.json").read_text())
    assert audit["training_texts"] > before["training_texts"]
    # A second run has nothing to do, and a step of the first pairs makes all rounds stale.
    assert own.jobs(*checked, *rounds) == set()
    own.edit(RECIPES, "min_margin: 0", "min_margin: 0.001")
    stale = own.jobs(*checked, *rounds)
    assert {job for job in stale if job.startswith("online_")} == {
        f"online_{step} demo/1/{number}"
        for number in (1, 2)
        for step in ("candidates", "judge", "pairs", "dpo")
    }
    assert "sft demo/1" not in stale


def test_a_round_waits_for_a_decision_of_its_own(project, tmp_path):
    own = copied(project, tmp_path / "project")
    own.edit(RECIPES, "approve: []", "approve: [pairs, dpo]\n  online_rounds: 1")
    rounds = (*RUN[:1], MODELS.replace("]", ", demo.online1-1]"), *RUN[2:])
    target = ("--cores", "1", "results/training/demo/seed-1/online1/grace_adapter.json", *rounds)
    for gate, read in (("dpo", "dpo/training_curve.csv"), ("pairs", "round-1/pairs.html")):
        stopped = own.snakemake(*target)
        assert stopped.returncode == 1
        assert f"at `{gate}`: read results/training/demo/seed-1/{read}" in " ".join(
            stopped.stdout.split()
        )
        assert f"Approved at `{gate}`" in own.run("approve", *rounds, f"gate={gate}", "note=read")
    own.run(*target)
    asked = own.snakemake("--cores", "1", "results/demo.online1-1/replication-0/plan.json", *rounds)
    assert asked.returncode == 1
    assert "seed-1/online1/training_curve.csv" in asked.stdout


def test_a_study_more_trains_nothing(project):
    both = [value.replace("[study1]", "[study1, study2]") for value in RUN]
    found = jobs(project, *both)
    assert not found & (SHARED | OWN | EVALUATED)
    assert found >= AUDIT


def test_a_stimulus_in_the_data_stops_the_run_and_is_named(project, tmp_path):
    row = (project.folder / "resources/stimuli/study1.csv").read_text(encoding="utf-8")
    words = " ".join(row.splitlines()[1].split(",", 4)[-1].replace('"', "").split()[:12])
    planted = json.dumps(f"Copy {words}, then {{word}} and {{other}}.")
    old = (project.folder / BANK).read_text(encoding="utf-8")
    with edited(project, BANK, "Copy {word} and {other}.", planted):
        assert (project.folder / BANK).read_text(encoding="utf-8") != old
        done = project.snakemake("--cores", "1", "results/training/demo/sft.parquet", *RUN)
    assert done.returncode == 1
    assert "Contamination: " in done.stdout
    assert "study1, trial " in done.stdout


def test_gates_stop_until_they_are_approved(project, tmp_path):
    own = Project(tmp_path / "project")
    shutil.copytree(project.folder, own.folder)
    own.edit(RECIPES, "approve: []", "approve: [sample]")
    own.edit(RECIPES, "accept: -1", "accept: -0.95")
    target = ("--cores", "1", "results/training/demo/sft.parquet", *RUN)
    stopped = own.snakemake(*target)
    assert stopped.returncode == 1
    assert (
        "waits for a decision at `sample`: read results/training/demo/sample.html" in stopped.stdout
    )
    assert "Approved at `sample`" in own.run("approve", *RUN, "gate=sample", "note=read all five")
    own.run(*target)
    refused = own.snakemake("approve", *RUN, "gate=pairs", "note=x")
    assert refused.returncode == 1
    assert "does not stop at `pairs`" in refused.stdout


def test_what_goes_wrong_in_a_training_is_shown_and_what_was_answered_stays(project, tmp_path):
    own = Project(tmp_path / "project")
    shutil.copytree(project.folder, own.folder)
    own.edit(RECIPES, "beta: 0.2", "beta: 0.2\n    lr: 1")
    # The models that need it not are asked, and have their report, in which it is named.
    done = own.snakemake("--cores", "2", *RUN)
    assert done.returncode == 1
    assert "the loss is no number (NaN)" in done.stdout
    last = done.stdout[done.stdout.rindex("What could be made without these") :]
    assert "model 'demo.dpo-1', replication 0: " in last
    assert "recipe 'demo': demo.dpo-1: the training ended" in last
    report = (own.folder / "results/report.html").read_text(encoding="utf-8")
    assert "the training ended with status 1" in report.replace("&#39;", "'")
    assert (own.folder / "results/demo.sft-1/replication-0/validation.json").exists()
    assert (own.folder / "results/training/demo/seed-1/dpo.parquet").exists()
    adapter = own.folder / "results/training/demo/seed-1/sft/adapter_model.safetensors"
    data = bytearray(adapter.read_bytes())
    data[-1] ^= 1
    adapter.write_bytes(bytes(data))
    done = own.snakemake("--cores", "1", "results/demo.sft-1/replication-0/plan.json", *RUN)
    assert done.returncode == 1
    assert "changed since the rule sft wrote it" in done.stdout


def test_costs_are_noted_summed_up_and_held_against_the_budget(project, tmp_path):
    own = copied(project, tmp_path / "project")
    folder = own.folder / "results/training/demo"
    cards = [f"results/training/demo/seed-1/{stage}/README.md" for stage in ("sft", "dpo")]
    own.run("--cores", "2", "results/training/demo/costs.json", *cards, *RUN)
    costs = json.loads((folder / "costs.json").read_text(encoding="utf-8"))
    rows = {(row["step"], row["seed"]): row for row in costs["steps"]}
    # The base writes no instruction; the second seed is not needed.
    assert {key for key, row in rows.items() if row["tries"]} == {
        ("answers", None), ("judge", None), ("sft", 1), ("candidates", 1), ("judge_pairs", 1),
        ("dpo", 1), *((f"evaluate {one}", None) for one in ("base", "base-few-shot", "sft-1",
                                                            "dpo-1")),
    }  # fmt: skip
    assert (costs["gpu_hours"], costs["usd"]) == (0.0, 0.0)
    assert rows["sft", 1]["note"] == "on cores: 0 GPU-hours"
    assert rows["sft", 1]["hours"] > 0
    assert rows["sft", 1]["forecast_hours"] > 0
    card = (folder / "seed-1/dpo/README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: peft\nbase_model: models/base\n")
    assert "| beta | 0.2 |" in card
    # What the journal has costs nothing more.
    ledger = next((own.folder / ".grace/costs").iterdir())
    tries = sorted(path.name for path in ledger.iterdir())
    judged = "results/training/demo/judged.json"
    own.run("--cores", "1", judged, "--forcerun", "answers", "judge", *RUN)
    assert sorted(path.name for path in ledger.iterdir()) == tries
    # Five hours of a GPU, of a budget of one: no step is started. With one of six the run goes on.
    one = json.loads((ledger / tries[0]).read_text(encoding="utf-8"))
    (ledger / "z.json").write_text(json.dumps(one | {"gpus": 1, "seconds": 18_000}))
    own.edit(RECIPES, "base: base", "base: base\n  budget: {gpu_hours: 1}")
    own.edit(RECIPES, "beta: 0.2", "beta: 0.3")
    target = ("--cores", "1", "results/training/demo/seed-1/dpo/grace_adapter.json", *RUN)
    refused = own.snakemake(*target)
    assert refused.returncode == 1
    assert "Nothing was started." in refused.stdout
    assert "5.00 GPU-hours are spent and 0.00 more are forecast, 5.00 of 1.00" in refused.stdout
    own.edit(RECIPES, "gpu_hours: 1", "gpu_hours: 6")
    assert "dpo of demo, seed 1" in own.run(*target)


def test_without_a_checkpoint_there_is_no_training_and_a_broken_recipe_is_named(project):
    found = project.jobs("--config", "models=base", *RUN[2:], "results=other")
    assert not {job for job in found if "demo" in job}
    with edited(project, RECIPES, "beta: 0.2", "betta: 0.2"):
        assert "betta" in project.refused(*RUN)
    assert "demo.sft-9" in project.refused("--config", "models=demo.sft-9")


def test_folders_of_results(project):
    """Nothing of a recipe is elsewhere but its trainings' state and the journal."""
    made = {path.name for path in Path(project.folder / ".grace").iterdir()}
    assert {"journal", "training"} <= made


def test_the_report_says_what_training_changes_and_evaluations_are_exported(project, tmp_path):
    own = copied(project, tmp_path / "project")
    own.run("--cores", "2", *RUN)
    found = page(own.folder / "results/report.html")
    headings = "What training changes", "Held-out instructions", "Form and judgement in the studies"
    for text in (*headings, "never trained on", "With texts of evaluation and stimuli"):
        assert text in " ".join(found.shown.split()), text
    assert "fewer than three training seeds" in " ".join(found.shown.split())
    assert {tag for tag, _ in found.tags} <= TAGS
    items = json.loads((own.folder / "results/training/demo/evaluation/sft-1.json").read_text())
    assert (items["model"], items["shots"], len(items["items"])) == ("demo.sft-1", 0, 6)
    assert {one["held_out"] for one in items["items"]} == {True, False}
    few = own.folder / "results/training/demo/evaluation/base-few-shot.json"
    few = json.loads(few.read_text(encoding="utf-8"))
    assert (few["model"], few["shots"]) == ("base", 1)
    shown = own.run("ifeval_export", *RUN)
    assert "wrote results/training/demo/ifeval/dpo-1.jsonl, 0 of 6 items" in shown
    # Without checkpoints there is no such section, and its tables take no numbers.
    plain = ("--config", "models=base", *RUN[2:])
    own.run("--cores", "2", *plain)
    assert "What training changes" not in page(own.folder / "results/report.html").shown
    refused = own.snakemake("ifeval_export", *plain)
    assert refused.returncode == 1
    assert "names no checkpoint" in refused.stdout
