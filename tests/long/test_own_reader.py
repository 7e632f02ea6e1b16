"""Answers read by a model of the run's own, through whole runs (`make test-long`).

The reader has random weights: what it reads means nothing, but each of its replies is held to the
study's schema. Pico answers. Once it is loaded by the jobs, to the report, and once vLLM serves it.
"""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kills import journaled
from tiny_model import build_tiny_model
from workflow_project import ROOT, Project

pytestmark = pytest.mark.long

STUDIES = ("study1", "study2")
LIMIT = 4
#: At temperature 2 pico's answers have many a form that rules do not read.
COMMON = (
    f"limit={LIMIT}", "replications=1", "on_invalid=warn", "studies=[study1,study2]",
    "generation={temperature: 2, max_tokens: 64}",
)  # fmt: skip
READER = {"name": "models/reader", "dtype": "float32", "gpus": 0, "max_model_len": 8192}
SERVED = f"serving={{environment: '{ROOT / '.venv-serve'}', idle_s: 60, start_timeout_s: 900}}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    found = Project.copied_to(tmp_path_factory.mktemp("reader") / "project")
    build_tiny_model(found.folder / "models/reader", positions=8192)
    path = found.folder / "config/models.yaml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    entries |= {name: {**READER, "engine": name} for name in ("transformers", "vllm")}
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    found.tells_jobs()
    return found


def settings(method: str, engine: str, *more: str) -> tuple[str, ...]:
    reader = f"extraction={{method: {method}, model: {engine}, max_tokens: 128}}"
    return "--config", reader, *COMMON, *more


def files_of(project: Project, results: str) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Of each study the summary of its reading, and the rows of its structured table."""
    folder = project.folder / results / "pico/replication-0"
    summaries = {
        study: json.loads((folder / f"{study}_extraction.json").read_text()) for study in STUDIES
    }
    tables = {}
    for study in STUDIES:
        with (folder / f"{study}_structured.csv").open(encoding="utf-8", newline="") as file:
            tables[study] = list(csv.DictReader(file))
    return summaries, tables


def page_of(project: Project, results: str) -> str:
    page = html.unescape((project.folder / results / "report.html").read_text(encoding="utf-8"))
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def by_vllm(value: dict[str, Any]) -> bool:
    """Whether something in the journal is a reply of the reader behind vLLM."""
    return value.get("kind") == "extraction" and value["answer"]["reported_model"] == "vllm"


def check_readings(project: Project, results: str) -> None:
    """Every answer was read, by replies that the schema held."""
    summaries, tables = files_of(project, results)
    for study in STUDIES:
        found = summaries[study]
        assert (found["asked"], found["failed"]) == (LIMIT, 0)
        assert found["extractor"]["reply_formats"] == {"json_schema": found["requests"]}
        assert found["prompt_tokens"] > 100 * found["requests"]
        assert {row["extraction_method"] for row in tables[study]} == {"model"}
        assert {row["extraction_rules"] for row in tables[study]} <= {
            "same", "different", "left open",
        }  # fmt: skip


@pytest.fixture(scope="module")
def loaded(project: Project) -> Path:
    """A run to the report whose reader the jobs load."""
    project.run(*settings("model", "transformers", "results=loaded"), timeout_s=3600)
    return project.folder / "loaded"


def test_a_reader_that_the_jobs_load_goes_through_to_the_report(
    project: Project, loaded: Path
) -> None:
    check_readings(project, "loaded")
    said = page_of(project, "loaded")
    assert "How written answers were read" in said
    assert "models/reader" in said
    checks = json.loads((loaded / "pico/replication-0/validation.json").read_text())["checks"]
    failures = [check for check in checks if check["name"] == "extraction_failures"]
    assert [check["passed"] for check in failures] == [True, True]
    again = project.run("-n", *settings("model", "transformers", "results=loaded"))
    assert "Nothing to be done" in again


def test_after_the_rules_a_reader_gets_what_they_leave_open(project: Project, loaded: Path) -> None:
    """Reading otherwise asks the studied model nothing, and the reader what is not known yet."""
    run = settings("rules-then-model", "transformers", "results=loaded")
    planned = {job.split()[0] for job in project.jobs(*run)}
    assert {"extract", "structure", "report"} <= planned
    assert not {"plan", "generate", "score", "tabulate"} & planned
    project.run(*run, timeout_s=3600)
    summaries, tables = files_of(project, "loaded")
    assert sum(found["asked"] for found in summaries.values())
    for study in STUDIES:
        found, rows = summaries[study], tables[study]
        assert found["asked"] == LIMIT - found["read_by_rules"]
        asked = [row for row in rows if row["extraction_method"] == "model"]
        assert len(asked) == found["asked"]
        assert all(row["extraction_rules"] for row in asked)
        assert not [row for row in rows if row not in asked and row["extraction_rules"]]


@pytest.mark.vllm
def test_a_reader_behind_vllm_goes_through_to_the_report(project: Project) -> None:
    """One server for both studies' jobs; its replies hold no white space to run out in."""
    project.run(*settings("model", "vllm", "results=served", SERVED), timeout_s=3600)
    check_readings(project, "served")
    kept = [value["answer"]["text"] for value in journaled(project).values() if by_vllm(value)]
    assert kept
    assert not [reply for reply in kept if re.search(r"\s", reply)]
    starts = re.findall(
        "starting the server",
        "".join(
            path.read_text() for path in (project.folder / "served/logs").rglob("server-*.log")
        ),
    )
    assert len(starts) == 1
    assert "models/reader" in page_of(project, "served")
