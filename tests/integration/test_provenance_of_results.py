"""A finished run: followed back, archived, and run again from the archive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import psych_ds_rules
import pytest
from pypdf import PdfReader
from warm_python import warm
from workflow_project import ROOT, Project

SMALL = ("--config", "limit=3", "replications=1", "on_invalid=warn", "studies=study1")
REPLICATION = "results/pico/replication-0"
VALIDATOR = ROOT / ".venv-crate" / "bin" / "python"
EXPORTS_VALIDATOR = ROOT / ".venv-export" / "bin" / "python"


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=A. Person", "-c", "user.email=person@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """A git checkout in which three trials have run through the whole chain."""
    project = Project.copied_to(tmp_path_factory.mktemp("provenance") / "project")
    (project.folder / ".gitignore").write_text("/results/\n/.snakemake/\n/.grace/\n__pycache__/\n")
    git(project.folder, "init", "-q")
    git(project.folder, "add", "-A")
    git(project.folder, "commit", "-qm", "As it ran")
    project.run(*SMALL)
    return project


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy that a test may edit."""
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def python(project: Project, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    library = str(project.folder / "workflow" / "lib")
    path = os.pathsep.join([library, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [warm().command, "-m", *map(str, arguments)], cwd=project.folder, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def record(project: Project, name: str) -> dict:
    path = project.folder / name
    return json.loads((path.parent / ".provenance" / f"{path.name}.json").read_text())


def test_every_result_is_recorded_and_intact(finished):
    done = python(finished, "grace.provenance.verify", "results", "--all")
    assert done.returncode == 0, done.stdout
    for name in (
        f"{REPLICATION}/plan.json", f"{REPLICATION}/study1_exp1.json",
        f"{REPLICATION}/study1_exp2.json", f"{REPLICATION}/study1_raw_responses.csv",
        f"{REPLICATION}/study1_structured.csv", f"{REPLICATION}/study1_probabilities.csv",
        f"{REPLICATION}/metadata.json", f"{REPLICATION}/validation.json",
        "results/analysis-ready/study1.csv", "results/analysis-ready/study1.parquet",
        "results/analysis/study1_cells.csv", "results/analysis/figures/study1_bets.png",
        "results/report.html",
    ):  # fmt: skip
        assert f"{name}: intact" in done.stdout
        found = record(finished, name)
        assert len(found["commit"]) == 40
        assert found["dirty"] is False
        assert found["started"] < found["completed"]
        assert found["hardware"]["node"]
        assert found["versions"].get("python") or found["versions"].get("R")
        assert any(source.startswith("scripts/") for source in found["code"])
    assert "intact" in finished.run("verify", *SMALL)


@pytest.mark.parametrize("experiment", ["exp1", "exp2"])
def test_answers_are_recorded_with_model_tokeniser_seeds_and_prompts(finished, experiment):
    found = record(finished, f"{REPLICATION}/study1_{experiment}.json")
    assert found["settings"]["output_config"]["limit"] == 3
    assert len(found["model"]["weights"]) == 64
    assert set(found["tokenizer"]) == {"tokenizer", "chat_template"}
    assert found["engine"]["engine"] == "transformers"
    assert found["seeds"] == {
        "replication": 1000,
        "experiment": {"exp1": 1000, "exp2": 3000}[experiment],
    }
    assert "resources/models/pico/model.safetensors" in found["files"]
    assert any(name.startswith("config/prompts/seed/study1_exp") for name in found["files"])
    assert "resources/stimuli/study1.csv" in found["inputs"]
    assert "gpus" in found["hardware"]


@pytest.mark.parametrize(
    ("name", "state"),
    [
        (f"{REPLICATION}/study1_exp1.json", "changed since"),
        ("resources/stimuli/study1.csv", "changed since"),
        ("config/prompts/seed/_study1_story.j2", "changed since"),
        ("resources/models/pico/tokenizer_config.json", "changed since"),
        ("scripts/lib/statistics.R", "made by other code"),
    ],
)
def test_verify_names_the_first_broken_link(project, name, state):
    with (project.folder / name).open("a") as file:
        file.write("\n")
    done = python(project, "grace.provenance.verify", "results/report.html")
    assert done.returncode == 1
    assert f"results/report.html: {state}" in done.stdout
    assert name in done.stdout.splitlines()[1]


def test_verify_names_the_module_that_differs(project):
    project.edit("workflow/lib/grace/results/tables.py", "keep all their digits", "are kept whole")
    assert python(project, "grace.provenance.verify").returncode == 0
    project.edit(
        "workflow/lib/grace/results/tables.py",
        'removesuffix("\\r\\n") + "\\n"',
        'removesuffix("\\r\\n") + "\\r"',
    )
    done = python(project, "grace.provenance.verify")
    assert "made by other code" in done.stdout
    assert "workflow/lib/grace/results/tables.py" in done.stdout
    assert f"{REPLICATION}/study1_exp1.json" not in done.stdout


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (f"{REPLICATION}/study1_exp1.json", "generate"),
        (f"{REPLICATION}/study1_exp2.json", "score"),
        (f"{REPLICATION}/study1_raw_responses.csv", "tabulate"),
        (f"{REPLICATION}/study1_structured.csv", "structure"),
        ("results/analysis-ready/study1.csv", "merge"),
        ("results/analysis/study1_cells.csv", "analysis_study1"),
    ],
)
def test_a_half_written_input_is_refused_by_the_step_that_reads_it(project, name, rule):
    path = project.folder / name
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size // 2)
    done = project.snakemake(*SMALL)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert f"{name}: changed since the rule {rule} wrote it" in done.stdout
    assert f"{size // 2} bytes of" in done.stdout


@pytest.fixture(scope="module")
def crate(finished) -> Path:
    finished.run("archive", *SMALL)
    return finished.folder / "results" / "grace-crate.zip"


def test_the_archive_is_whole(finished, crate, tmp_path):
    assert "Nothing to be done" in finished.run("archive", *SMALL)
    assert python(finished, "grace.provenance.verify", crate).returncode == 0
    with zipfile.ZipFile(crate) as bundle:
        names = set(bundle.namelist())
        bundle.extractall(tmp_path)
    assert {
        "ro-crate-metadata.json", "ro-crate-preview.html", "run-config.yaml", "Snakefile",
        "envs/main.lock", "config/config.yaml", "results/report.html", "results/trials.html",
        "resources/stimuli/study1.csv", f"{REPLICATION}/study1_exp1.json",
        f"{REPLICATION}/.provenance/study1_exp1.json.json",
    } <= names  # fmt: skip
    assert not any(name.startswith((".git/", ".grace", "results/logs")) for name in names)
    verified = python(Project(tmp_path), "grace.provenance.verify")
    assert verified.returncode == 0, verified.stdout


@pytest.mark.skipif(not VALIDATOR.exists(), reason="no .venv-crate (make crate-env)")
def test_the_archive_passes_roc_validator(crate, tmp_path):
    with zipfile.ZipFile(crate) as bundle:
        bundle.extractall(tmp_path)
    done = subprocess.run(
        [VALIDATOR, ROOT / "tests" / "support" / "validate_crate.py", tmp_path],
        capture_output=True, text=True, check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    issues = json.loads(done.stdout)
    assert [issue for issue in issues if issue["severity"] == "REQUIRED"] == []


def test_exports_pass_their_own_validators_and_are_no_results(project):
    project.run("inspect_export", "psych_ds", "figures_pdf", *SMALL)
    folder = project.folder / "results" / "export"
    assert psych_ds_rules.errors(folder / "psych-ds") == []
    shown = (project.folder / "results/report.html").read_text("utf-8").count('<figure id="figure-')
    assert len(PdfReader(folder / "figures.pdf").pages) == shown > 3
    assert "study1_exp2" in " ".join(path.name for path in folder.rglob("*.eval")).replace("-", "_")
    verified = python(project, "grace.provenance.verify", "results")
    assert verified.returncode == 0, verified.stdout
    if not EXPORTS_VALIDATOR.exists():
        pytest.skip("no .venv-export (make export-env)")
    done = subprocess.run(
        [EXPORTS_VALIDATOR, ROOT / "tests" / "support" / "validate_exports.py", folder],
        capture_output=True, text=True, check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert sorted((log["task"], log["samples"]) for log in told["inspect"]) == [
        ("grace/study1_exp1", 3), ("grace/study1_exp2", 27),
    ]  # fmt: skip
    assert [log for log in told["inspect"] if log["lost"] or log["status"] != "success"] == []
    reports = told["every_eval_ever"]
    assert len(reports) == 4
    assert [one for one in reports if one["errors"] or one["warnings"]] == []


def test_a_secret_is_not_archived(project, monkeypatch):
    monkeypatch.setenv("MY_SERVER_KEY", "canary-0123456789")
    with (project.folder / "config/models.yaml").open("a") as file:
        file.write("# canary-0123456789\n")
    done = project.snakemake("archive", *SMALL)
    assert done.returncode != 0
    assert "config/models.yaml holds the value of the environment variable" in done.stdout
    assert "canary-0123456789" not in done.stdout
    assert not (project.folder / "results/grace-crate.zip").exists()


def test_reproduce_shows_and_runs_the_recorded_run(crate, finished, tmp_path):
    shown = python(
        finished, "grace.provenance.reproduce", crate, "--into", tmp_path / "shown", "--dry-run"
    )
    assert shown.returncode == 0, shown.stdout
    assert "Python and its packages have the recorded versions." in shown.stdout
    assert "study1_exp1: 1 run of 3 answers" in shown.stdout
    assert "study2_exp" not in shown.stdout
    assert not (tmp_path / "shown" / "results").exists()
    again = python(
        finished, "grace.provenance.reproduce", crate, "--into", tmp_path / "shown", "--dry-run"
    )
    assert again.returncode == 1
    assert "is not empty" in again.stdout

    done = python(finished, "grace.provenance.reproduce", crate, "--into", tmp_path / "again")
    assert done.returncode == 0, done.stdout
    *_, compared = done.stdout.split(" results are the same to the byte.")
    for name in ("pico/replication-0/study1_probabilities.csv", "analysis/study1_cells.csv"):
        assert name not in compared


def test_a_damaged_crate_is_refused(finished, crate, tmp_path):
    cut = tmp_path / "cut.zip"
    cut.write_bytes(crate.read_bytes()[:-1000])
    done = python(finished, "grace.provenance.reproduce", cut, "--dry-run")
    assert done.returncode == 1
    assert "neither a folder nor a whole zip file" in done.stdout
