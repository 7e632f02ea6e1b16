"""The chain whole, as a user runs it: CSV files in, report out."""

from __future__ import annotations

import csv
import html
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pandas as pd
import pytest
import yaml
from bundled_studies import STUDIES
from declared import write_study
from recipes import blocks, commands, follow
from workflow_project import ROOT, Project

from grace.results.codebook import NOT_DESCRIBED
from grace.results.tables import probability_columns, raw_columns, structured_columns

SMALL = ("--config", "limit=6", "replications=2", "on_invalid=warn")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project in which six trials of each study have run through the whole chain."""
    project = Project.copied_to(tmp_path_factory.mktemp("workflow") / "project")
    project.run(*SMALL)
    return project


def columns(path: Path) -> tuple[str, ...]:
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(next(csv.reader(file)))


def test_every_named_output_is_there(project):
    results = project.folder / "results"
    for replication in ("replication-0", "replication-1"):
        folder = results / "pico" / replication
        for study in ("study1", "study2"):
            for name in (
                "exp1.json", "exp2.json", "raw_responses.csv", "structured.csv",
                "probabilities.csv", "scoring_methods.csv",
            ):  # fmt: skip
                assert (folder / f"{study}_{name}").stat().st_size > 0
        for name in ("plan.json", "metadata.json", "validation.json"):
            json.loads((folder / name).read_text())
    for name in ("study1.csv", "study1.parquet", "study2.csv", "study2.parquet"):
        assert (results / "analysis-ready" / name).stat().st_size > 0
    assert len(list((results / "analysis" / "figures").glob("*.png"))) >= 4
    report = (results / "report.html").read_text(encoding="utf-8")
    assert "</html>" in report
    assert report.count('id="which-conclusions-depend-on-the-way-of-scoring') == 2


@pytest.mark.parametrize("study", ["study1", "study2"])
def test_tables_have_the_promised_columns(project, study):
    folder = project.folder / "results/pico/replication-0"
    assert columns(folder / f"{study}_raw_responses.csv") == raw_columns(STUDIES[study])
    assert columns(folder / f"{study}_structured.csv") == structured_columns(STUDIES[study])
    assert columns(folder / f"{study}_probabilities.csv") == probability_columns(STUDIES[study])


def test_records_tell_their_prompt_seeds_and_place(project):
    for replication in (0, 1):
        path = project.folder / f"results/pico/replication-{replication}/study1_exp1.json"
        records = json.loads(path.read_text(encoding="utf-8"))
        assert [record["trial_order_in_replication"] for record in records] == list(range(6))
        assert {record["replication_seed"] for record in records} == {1000 + replication}
        assert {record["experiment_seed"] for record in records} == {1000 + replication}
        assert len({record["request_seed"] for record in records}) == 6
        for record in records:
            assert (
                record["trial"]["story_setup"].split("<br>")[0] in record["messages"][0]["content"]
            )
            assert len(record["prompt_token_ids"]) == record["usage"]["prompt_tokens"]


def test_logprobs_are_sums_over_tokens_and_masses_add_up(project):
    path = project.folder / "results/pico/replication-0/study2_exp2.json"
    for record in json.loads(path.read_text(encoding="utf-8")):
        (query,) = record["queries"]
        assert query["status"] == "ok"
        assert len(query["options"]) == 8
        for option in query["options"]:
            assert option["logprob"] == pytest.approx(sum(option["token_logprobs"]))
            assert option["logprob_terminated"] <= option["logprob"]
            assert len(option["token_ids"]) == len(option["token_logprobs"])
        assert query["option_mass"] + query["residual"] == pytest.approx(1)


def test_metadata_and_validation_say_what_ran(project):
    folder = project.folder / "results/pico/replication-1"
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["seeds"] == {
        "base_seed": 1001,
        "study1_exp1_seed": 1001,
        "study2_exp1_seed": 2001,
        "study1_exp2_seed": 3001,
        "study2_exp2_seed": 4001,
    }
    assert set(metadata["timestamps"]) == {
        "start", "end", "study1_exp1_complete", "study1_exp2_complete", "study2_exp1_complete",
        "study2_exp2_complete",
    }  # fmt: skip
    assert set(metadata["configuration"]["trials"].values()) == {6}
    assert metadata["configuration"]["temperatures"] == {"exp1": 0.7, "exp2": 1.0}
    for run in metadata["runs"].values():
        assert all(source["versions"]["torch"] for source in run["answered_by"])
    validation = json.loads((folder / "validation.json").read_text())
    schema = json.loads((ROOT / "workflow/schemas/validation.schema.json").read_text())
    jsonschema.validate(validation, schema)
    rows = [check for check in validation["checks"] if check["name"] == "rows"]
    assert [check["value"] for check in rows] == [6, 6, 6, 6]


def test_a_second_run_has_nothing_to_do(project):
    assert "Nothing to be done" in project.run(*SMALL)


def test_snakemakes_own_report_holds_the_figures(project):
    project.run(*SMALL, "--report", "snakemake-report.zip")
    assert (project.folder / "snakemake-report.zip").stat().st_size > 100_000


def test_one_file_can_be_asked_for(project):
    target = "results/pico/replication-0/study1_exp1.json"
    (project.folder / target).unlink()
    # Its sibling output goes and comes with it.
    shown = project.run(target, *SMALL)
    assert (project.folder / target).exists()
    assert "done: generate study1 of pico, replication 0" in shown
    assert "generate study2" not in shown


def test_studies_that_are_not_in_the_default_run_reach_the_report(project):
    """Options that differ by trial, fitted theory; and texts without a question."""
    project.run(
        *("--cores", "2", "--config", "studies=[refgame, minimal_pairs]", "limit=6"),
        *("replications=1", "results=others", "on_invalid=warn"),
    )
    others = project.folder / "others"
    fitted = pd.read_csv(others / "analysis/refgame_theory.csv")
    assert fitted.loc[fitted["parameter"] == "alpha", "estimate"].tolist() == pytest.approx(
        [3.2, 0.66], abs=0.1
    )
    quality = pd.read_csv(others / "analysis/refgame_quality.csv").set_index("experiment")
    assert quality.loc["exp2", "flagged"] == quality.loc["exp2", "trials"] == 6  # low option mass
    cells = pd.read_csv(others / "analysis/minimal_pairs_cells.csv")
    assert set(cells["response"]) == {
        "the acceptable sentence is more probable", "difference in log-probability"
    }  # fmt: skip
    assert not list(others.glob("pico/**/minimal_pairs_exp1*"))
    page = html.unescape((others / "report.html").read_text(encoding="utf-8"))
    assert "0.678 [0.268,\N{NO-BREAK SPACE}1.13]" in page
    assert "leave more than half of the probability outside the answer options" in page


#: What `snakedeploy deploy-workflow` writes, and a handler and a model of the user's own.
DEPLOYED = """
configfile: "config/config.yaml"


module grace:
    snakefile:
        github("owner/grace", path="workflow/Snakefile", tag="v1")
    config:
        config


use rule * from grace as grace_*


onstart:
    print("the user's own handler")
"""
OWN_MODEL = "mine: {name: resources/models/pico, engine: transformers, dtype: float32, gpus: 0}\n"


@pytest.fixture
def hosted(tmp_path, monkeypatch) -> Path:
    """Where a hosting provider's copy of the workflow is fetched to, without a network."""
    git = ["git", "-c", "user.name=A. Person", "-c", "user.email=person@example.org"]
    repository = Project.copied_to(tmp_path / "hosting" / "grace").folder
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "Grace"), ("tag", "v1")):
        subprocess.run([*git, *words], cwd=repository, check=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{repository.parent}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/owner/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_deployed_workflow_runs_to_the_report_with_a_study_of_the_users_own(hosted, tmp_path):
    """In a folder with nothing of Grace's but the study's folder, which the config names."""
    user = Project(tmp_path / "user")
    toy = write_study(user.folder / "toy")
    (toy / "prompts/seed").rename(toy / "prompts/mine")
    shutil.copytree(ROOT / "config" / "prompts" / "seed", user.folder / "config/prompts/mine")
    (user.folder / "config/config.yaml").write_text(
        "models: [mine]\nvariants: [mine]\nlimit: 3\nreplications: 1\n"
        "studies: [study2, ./toy]\non_invalid: warn\n"
    )
    (user.folder / "config/models.yaml").write_text(OWN_MODEL)
    (user.folder / "workflow").mkdir()
    (user.folder / "workflow/Snakefile").write_text(DEPLOYED)
    said = user.run("--cores", "2")
    assert "the user's own handler" in said
    assert "done: report" in said
    results = user.folder / "results"
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "toy" in page
    assert "Which word?" in page
    assert not list(results.glob("mine/**/study1*"))
    folder = results / "mine/replication-0"
    for name in ("exp1.json", "exp2.json", "structured.csv", "probabilities.csv"):
        assert (folder / f"toy_{name}").stat().st_size > 0
    assert {"toy_exp1_seed", "toy_exp2_seed"} <= json.loads((folder / "metadata.json").read_text())[
        "seeds"
    ].keys()
    described = pd.read_csv(results / "analysis-ready/codebook_toy.csv", keep_default_na=False)
    assert tuple(described["column"]) == columns(results / "analysis-ready/toy.csv")
    assert NOT_DESCRIBED not in set(described["meaning"])
    assert {"big", "small"} & set(
        pd.read_csv(results / "analysis/toy_cells.csv")["outcome"].astype(str)
    )
    assert len(list((results / "analysis/figures").glob("toy_*.png"))) == 6
    record = json.loads((results / "mine/replication-0/provenance/study2_exp1.json").read_text())
    assert {"config/prompts/mine/study2_exp1.j2", "resources/models/pico/model.safetensors"} <= set(
        record["files"]
    )
    (checkout,) = hosted.glob("**/github.com/owner/grace-*")
    library = {**os.environ, "PYTHONPATH": str(checkout / "workflow" / "lib")}
    verified = subprocess.run(
        [sys.executable, "-m", "grace.provenance.verify", "--root", checkout],
        cwd=user.folder, env=library, text=True, check=False, capture_output=True,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stdout


def test_a_study_is_begun_checked_and_asked_as_contributing_and_the_tutorial_write_it(tmp_path):
    project = Project.copied_to(tmp_path / "project")
    written, checked, _ = follow("Adding a study", project)
    assert "wrote my-study/study.yaml" in written
    declared = yaml.safe_load((project.folder / "my-study/study.yaml").read_text())
    assert [one["name"] for one in declared["contrasts"]] == ["all above some", "most above some"]
    assert "'Answer: yes' is read as answer yes" in checked
    folder = project.folder / "results/pico/replication-0"
    assert len(json.loads((folder / "my-study_exp1.json").read_text())) == 3
    checks = json.loads((folder / "validation.json").read_text())["checks"]
    assert {check["experiment"] for check in checks} == {"exp1", "exp2"}
    # The tutorial's commands are the same, but that the last goes on to the report.
    bash = [text for language, text in blocks("Adding a study") if language == "bash"]
    *begun, (file, *rest) = [one for text in bash for one in commands(text)]
    ((_, text),) = blocks("Begin", "docs/studies.md")
    assert file == "results/pico/replication-0/validation.json"
    assert list(commands(text)) == [*begun, [*rest, "on_invalid=warn"]]


def used_from(folder: Path, module: str) -> Project:
    """A folder with nothing but a Snakefile that uses the workflow by its path."""
    folder.mkdir()
    text = f"module grace:\n    snakefile: {str(ROOT / 'workflow/Snakefile')!r}\n    {module}\n"
    (folder / "Snakefile").write_text(f"{text}\nuse rule * from grace\n")
    return Project(folder)


def test_the_workflow_is_a_module_in_an_empty_folder_with_its_own_defaults(tmp_path):
    user = used_from(tmp_path / "user", "config: config")
    shown = user.run("-n", "--cores", "2", "--config", "limit=2", "replications=1")
    assert "study2_exp2: 1 run of 3 distributions, for 2 queries and 1 null context\n" in shown
    assert [path.name for path in user.folder.iterdir() if path.name[0] != "."] == ["Snakefile"]


def test_a_prefix_of_a_module_is_refused_with_what_to_set(tmp_path):
    user = used_from(tmp_path / "user", "prefix: 'there'")
    done = user.snakemake("-n", "--cores", "2")
    assert done.returncode == 1
    assert "set `results` in the module's config" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_rule_without_a_step_is_refused_when_the_workflow_is_read(project):
    rules = project.folder / "workflow/rules/verify.smk"
    before = rules.read_text(encoding="utf-8")
    rules.write_text(before + '\n\nrule weigh:\n    shell:\n        "true"\n')
    try:
        done = project.snakemake("-n", *SMALL)
    finally:
        rules.write_text(before)
    assert done.returncode == 1
    assert "rule 'weigh' is no step: add a row for it to `STEPS`" in done.stdout
    assert "Traceback" not in done.stdout


def test_failed_thresholds_stop_the_analysis_with_a_readable_summary(project):
    done = project.snakemake(
        "--config", "limit=3", "replications=1", "studies=[study2]", "results=strict",
        "thresholds={min_option_mass: 1.0, max_low_mass_rate: 0}",
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert "validation failed" in done.stdout
    assert "pico, replication 0, study2_exp2: share of trials with an option mass below 1" in (
        done.stdout
    )
    assert "on_invalid=warn" in done.stdout
    # What was computed is there, to be looked at.
    assert (project.folder / "strict/pico/replication-0/validation.json").exists()
    assert not (project.folder / "strict/report.html").exists()


def test_the_benchmark_of_the_steps_without_a_model_runs(project):
    like = project.folder / "results" / "pico" / "replication-0"
    command = [sys.executable, "-m", "bench.limits", "--trials", "20", "--like", like]
    library = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(command, env=library, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        *("exp1", "exp2"),
        *("tabulate", "structure", "probabilities", "validate", "merge"),
    ]


def test_a_run_without_a_usable_answer_has_its_report_and_fails_each_time(project):
    # Jobs in R have paths that R would misread if all stood in one line.
    results = f"静か/{'何も言わない' * 6}"
    arguments = (
        "--config", "limit=2", "replications=1", "studies=[study2]", "experiments=[exp1]",
        "generation={max_tokens: 1}", f"results={results}", "on_invalid=warn",
    )  # fmt: skip
    done = project.snakemake(*arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert "no model of this run (pico) has a usable answer or measurement" in done.stdout
    report = (project.folder / results / "report.html").read_text(encoding="utf-8")
    assert "No model of this run has a usable answer" in report
    again = project.snakemake(*arguments)
    assert "Nothing to be done" in again.stdout
    assert again.returncode != 0
    assert "no model of this run (pico) has a usable answer or measurement" in again.stdout
    assert "Traceback" not in again.stdout
