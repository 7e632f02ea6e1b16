"""The engines `endpoint` and `vllm`, and one of CONTRIBUTING.md, through the whole workflow."""

from __future__ import annotations

import csv
import json
import math
import os
import runpy
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from fake_openai import Asked, FakeOpenAI, Reply
from recipes import follow
from workflow_project import PARTS, ROOT, Project

from grace.engines.sampling_check import PROMPT
from grace.studies.catalogue import bundled

KEY = "canary-5f0c1e"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project.copied_to(tmp_path_factory.mktemp("engines") / "project")


def remote_model(project: Project, url: str) -> None:
    """A model of someone else's API in models.yaml."""
    models = yaml.safe_load((project.folder / "config/models.yaml").read_text())
    models["remote"] = {
        "name": "somebodys-model",
        "engine": "endpoint",
        "base_url": url,
        "api_key_env": "REMOTE_KEY",
        "gpus": 0,
    }
    (project.folder / "config/models.yaml").write_text(yaml.safe_dump(models))


def chat_api(asked: Asked) -> Reply:
    """A remote chat API that knows one key."""
    if asked.headers.get("Authorization") != f"Bearer {KEY}":
        return Reply({"error": {"message": f"bad key {asked.headers.get('Authorization')}"}}, 401)
    if asked.path.endswith("/models"):
        return Reply({"data": [{"id": "somebodys-model"}]})
    return Reply(
        {
            "choices": [{"message": {"content": "It was good"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 4},
        }
    )


ENDPOINT = (
    "--config", "models=[remote]", "studies=[study2]", "experiments=[exp1]", "limit=5",
    "replications=1",
)  # fmt: skip


def test_an_endpoint_answers_and_its_key_is_nowhere(project, monkeypatch):
    with closing(FakeOpenAI(chat_api)) as server:
        remote_model(project, server.url)
        monkeypatch.setenv("REMOTE_KEY", KEY)
        shown = project.run(*ENDPOINT)
    path = project.folder / "results/remote/replication-0/study2_exp1.json"
    records = json.loads(path.read_text())
    assert [record["response"] for record in records] == ["It was good"] * 5
    assert all(record["prompt_token_ids"] is None for record in records)
    chats = [asked for asked in server.asked if asked.path.endswith("/chat/completions")]
    # Before the first trial, two requests that look at how the server draws.
    assert [PROMPT in str(asked.body) for asked in chats] == [True] * 2 + [False] * 5
    del chats[:2]
    assert sorted(a.body["seed"] for a in chats) == sorted(r["request_seed"] for r in records)
    assert KEY not in shown
    for file in project.folder.rglob("*"):
        if file.is_file() and file.stat().st_size < 10**7:
            assert KEY.encode() not in file.read_bytes(), file


def test_a_refused_or_missing_key_stops_the_run_in_plain_words(project, monkeypatch):
    with closing(FakeOpenAI(chat_api)) as server:
        remote_model(project, server.url)
        monkeypatch.setenv("REMOTE_KEY", "wrong-key-77")
        refused = project.snakemake(*ENDPOINT, "results=refused")
        monkeypatch.delenv("REMOTE_KEY")
        missing = project.snakemake(*ENDPOINT, "results=missing")
    for done in (refused, missing):
        assert done.returncode != 0
        assert "REMOTE_KEY" in done.stdout
        assert "Traceback" not in done.stdout
        assert "wrong-key-77" not in done.stdout


def test_experiment_2_needs_the_endpoints_tokeniser_before_experiment_1_is_asked(
    project, monkeypatch
):
    with closing(FakeOpenAI(chat_api)) as server:
        remote_model(project, server.url)
        monkeypatch.setenv("REMOTE_KEY", KEY)
        done = project.snakemake("--config", "models=[remote]", "limit=5", "results=unpaid")
        assert server.asked == []
    assert done.returncode != 0, done.stdout
    assert "config/models.yaml: model 'remote'" in done.stdout
    assert "names no `tokenizer`" in done.stdout
    assert "--config experiments=exp1" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (project.folder / "unpaid").exists()


def chat_api_with_top_logprobs(asked: Asked) -> Reply:
    """It shows the two likeliest first tokens, has no completions, and reads answers."""
    answer = chat_api(asked)
    if asked.body.get("model") == "reader" and answer.status == 200:
        return as_read(asked)
    if asked.path.endswith("/completions") and "/chat/" not in asked.path:
        return Reply({"error": "no such path"}, 404)
    if "top_logprobs" in asked.body:
        top = [{"token": name, "logprob": math.log(p)} for name, p in (("It", 0.6), ("1", 0.3))]
        answer.body["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return answer


def as_read(asked: Asked) -> Reply:
    """Every utterance is read as "It was good", and of study 1 nothing is."""
    schema = asked.body["response_format"]["json_schema"]["schema"]
    said = {"Was_Wasnt": "was", "Assessment": "good", "ready": True}
    reply = {name: said.get(name) for name in schema["properties"]}
    return Reply(
        {
            "choices": [{"message": {"content": json.dumps(reply)}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 300, "completion_tokens": 12},
        }
    )


def test_an_endpoint_that_gives_only_bounds_still_ends_in_a_report(project, monkeypatch):
    """And a model at it reads all answers."""
    with closing(FakeOpenAI(chat_api_with_top_logprobs)) as server:
        remote_model(project, server.url)
        project.edit(
            "config/models.yaml",
            "engine: endpoint",
            "engine: endpoint\n  tokenizer: resources/models/pico",
        )
        monkeypatch.setenv("REMOTE_KEY", KEY)
        project.run(
            "--config", "models=[remote, pico]", "limit=5", "replications=1", "results=bounds",
            "on_invalid=warn",
            f"extraction={{method: model, base_url: '{server.url}', model: reader, api_key_env:"
            " REMOTE_KEY}",
        )  # fmt: skip
    folder = project.folder / "bounds/remote/replication-0"
    with (folder / "study2_structured.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["extraction_method"], row["Assessment"]) for row in rows} == {("model", "good")}
    summary = json.loads((folder / "study1_extraction.json").read_text())
    assert (summary["asked"], summary["no_answer"], summary["read_by_rules"]) == (5, 5, 0)
    record = json.loads((folder / ".provenance/study2_extracted.json.json").read_text())
    assert record["engine"]["extractor"]["model"] == "reader"
    assert record["settings"]["output_config"]["extraction"]["method"] == "model"
    with (project.folder / "bounds/analysis-ready/study2.csv").open(encoding="utf-8") as file:
        assert "extraction_rules" in next(csv.reader(file))
    assert "How written answers were read" in (project.folder / "bounds/report.html").read_text()
    shown = project.run(
        "review_sheet", "--config", "models=[remote, pico]", "limit=5", "replications=1",
        "results=bounds", "review={answers: 8}",
    )  # fmt: skip
    assert "wrote bounds/review/study1.csv, 4 answers" in shown
    sheet = project.folder / "bounds/review/study2.csv"
    with sheet.open(encoding="utf-8", newline="") as file:
        reviewed = list(csv.DictReader(file))
    assert {row["model_key"] for row in reviewed} == {"remote", "pico"}
    assert all("be most likely to say?" in row["prompt"] for row in reviewed)
    for row in reviewed:
        row["checked"] = "me"
    reviewed[0]["right_Assessment"] = "bad"
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, reviewed[0])
        writer.writeheader()
        writer.writerows(reviewed)
    monkeypatch.chdir(project.folder)
    studies = bundled(ROOT, "study1", "study2")
    jobs = {
        name: {"folder": str(study.folder), "digest": study.digest, "root": str(ROOT)}
        for name, study in studies.items()
    }
    runs = [("remote", 0), ("pico", 0)]
    text = runpy.run_path(str(ROOT / "scripts/review.py"))["agreements"](Path("bounds"), runs, jobs)
    assert (
        f"{reviewed[0]['model_key']}, all fields: 1 of 2 read rightly, 50.0% [9.5%, 90.5%]" in text
    )
    for file in (project.folder / "bounds").rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    for study in ("study1", "study2"):
        for record in json.loads((folder / f"{study}_exp2.json").read_text()):
            assert record["status"] == "bounds"
            for query in record["queries"]:
                assert query["option_mass"] is None
                assert 0 <= query["option_mass_lower"] <= query["option_mass_upper"] <= 1
        with (folder / f"{study}_probabilities.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["status"] for row in rows] == ["bounds"] * 5
    checks = json.loads((folder / "validation.json").read_text())["checks"]
    found = {(c["study"], c["name"]): c for c in checks if c["experiment"] == "exp2"}
    assert found["study1", "bounds"]["value"] == found["study2", "bounds"]["value"] == 1
    assert all(check["passed"] for check in found.values())
    provenance = json.loads((folder / "provenance/study1_exp2.json").read_text())
    assert provenance["engine"]["scoring"]["path"].startswith("bounds")
    assert "</html>" in (project.folder / "bounds/report.html").read_text(encoding="utf-8")
    with (project.folder / "bounds/analysis/study2_quality.csv").open(encoding="utf-8") as file:
        quality = [row for row in csv.DictReader(file) if row["model_key"] == "remote"]
    assert {row["experiment"]: row["usable"] for row in quality} == {"exp1": "5", "exp2": "0"}


def options(path: Path) -> dict[tuple[str, str, str], float]:
    """Log-probability of every option, by prompt, query and text."""
    return {
        (record["prompt_id"], query["name"], option["text"]): option["logprob_terminated"]
        for record in json.loads(path.read_text())
        for query in record["queries"]
        for option in query["options"]
    }


@pytest.mark.vllm
def test_pico_on_vllm_agrees_with_pico_in_process_over_one_server(project):
    common = ("limit=4", "replications=1", "on_invalid=warn")
    scored = [f"in-process/pico/replication-0/{study}_exp2.json" for study in ("study1", "study2")]
    project.run(*scored, "--config", *common, "results=in-process")
    environment = ROOT / ".venv-serve"
    project.run(
        "served/pico/replication-0/validation.json",
        "--config", *common, "results=served", "engine=vllm",
        f"serving={{environment: '{environment}', idle_s: 60}}",
    )  # fmt: skip
    folder = project.folder / "served/pico/replication-0"
    runs = [json.loads(path.read_text()) for path in (folder / "provenance").glob("*.json")]
    assert {run["engine"]["engine"] for run in runs} == {"vllm"}
    # All four jobs had the same server.
    assert len({run["engine"]["base_url"] for run in runs}) == 1
    logs = (path.read_text("utf-8") for path in (project.folder / "served/logs").rglob("*.log"))
    assert sum(log.count("starting its server") for log in logs) == 1
    for study in ("study1", "study2"):
        ours = options(project.folder / f"in-process/pico/replication-0/{study}_exp2.json")
        served = options(folder / f"{study}_exp2.json")
        assert ours.keys() == served.keys()
        for key, value in ours.items():
            assert math.isclose(value, served[key], abs_tol=1e-4), key


def files(folder: Path) -> dict[Path, bytes]:
    """A project's own files, without what Python keeps beside them."""
    return {
        path.relative_to(folder): path.read_bytes()
        for part in PARTS
        for path in [folder / part, *(folder / part).rglob("*")]
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_an_engine_is_one_folder_as_contributing_writes_it(tmp_path, monkeypatch):
    project = Project.copied_to(tmp_path / "project")
    before = files(project.folder)
    # Jobs import the library of the project that they are of, as in a checkout with its own .venv.
    library = str(project.folder / "workflow/lib")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([library, os.environ.get("PYTHONPATH", "")]))
    follow("Adding an engine", project)
    after = files(project.folder)
    assert {path.as_posix() for path in after if after[path] != before.get(path)} == {
        "config/models.yaml", "workflow/lib/grace/engines/toy/engine.py",
    }  # fmt: skip
    folder = project.folder / "toy/toy/replication-0"
    (sampled,) = json.loads((folder / "study2_exp1.json").read_text())
    assert sampled["response"] == "It was good"
    (scored,) = json.loads((folder / "study2_exp2.json").read_text())
    for option in (option for query in scored["queries"] for option in query["options"]):
        number = len(option["token_ids"])
        assert math.isclose(option["logprob"], -number * math.log(1000)), option
    for label in ("study2_exp1", "study2_exp2"):
        provenance = json.loads((folder / f"provenance/{label}.json").read_text())
        assert provenance["engine"] == {"engine": "toy", "version": "1", "device": "cpu"}
    checks = json.loads((folder / "validation.json").read_text())["checks"]
    assert {check["experiment"] for check in checks} == {"exp1", "exp2"}
