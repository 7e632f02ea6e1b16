"""Models that fail, each in its way, do not keep another from its report, which says so."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from fake_openai import Asked, FakeOpenAI, Reply, chat_answer
from workflow_project import Project

from grace.engines.sampling_check import PROMPT

SMALL = ("studies=[study2]", "experiments=[exp1]", "limit=3", "replications=2")
MODELS = ("absent", "good", "refused", "rambling")


class Server:
    """Answers to `good`, nothing readable to `rambling`, and nothing to `refused` until it may."""

    def __init__(self) -> None:
        self.refuses = True

    def __call__(self, asked: Asked) -> Reply:
        if asked.path.endswith("/models"):
            return Reply({"data": [{"id": name} for name in MODELS]})
        if asked.body["model"] == "refused" and self.refuses:
            return Reply({"error": {"message": "out of order"}}, 400)
        return chat_answer("Well." if asked.body["model"] == "rambling" else "It was good")


def with_models(project: Project, url: str) -> None:
    path = project.folder / "config/models.yaml"
    models = yaml.safe_load(path.read_text(encoding="utf-8"))
    remote = {"engine": "endpoint", "base_url": url, "gpus": 0}
    models |= {name: {"name": name, **remote} for name in MODELS}
    models["absent"] = {"name": "resources/models/absent", "engine": "transformers", "gpus": 0}
    path.write_text(yaml.safe_dump(models), encoding="utf-8")


def chats(requests: list[Asked]) -> SimpleNamespace:
    """What was posted, by what it is for: `trials` as pairs of model and body, and how often each
    model was asked how it draws, in `looks`. Nothing that was posted is left out."""
    trials, looks = [], Counter()
    for asked in requests:
        if asked.path.endswith("/models"):
            continue
        body = json.dumps(asked.body, sort_keys=True)
        if PROMPT in body:
            looks[asked.body["model"]] += 1
        else:
            trials.append((asked.body["model"], body))
    return SimpleNamespace(trials=trials, looks=looks)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A run in which three of four models fail, and one after two of them were fixed."""
    project = Project.copied_to(tmp_path_factory.mktemp("failed") / "project")
    answers = Server()
    report = project.folder / "results/report.html"
    with closing(FakeOpenAI(answers)) as server:
        with_models(project, server.url)
        config = ("--config", f"models=[{', '.join(MODELS)}]", *SMALL)
        first = project.snakemake(*config)
        reported = report.read_text(encoding="utf-8") if report.exists() else ""
        tables = models_in(project)
        asked, again = chats(server.asked), len(server.asked)
        single = project.snakemake("results/absent/replication-0/plan.json", *config)
        answers.refuses = False
        second = project.snakemake(
            "--config", "models=[good, refused, rambling]", *SMALL, "on_invalid=warn"
        )
        yield SimpleNamespace(
            project=project, first=first, reported=reported, tables=tables, asked=asked,
            single=single, second=second, asked_later=chats(server.asked[again:]),
            report=report,
        )  # fmt: skip


def models_in(project: Project) -> set[str]:
    path: Path = project.folder / "results/analysis-ready/study2.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return {row["model_key"] for row in csv.DictReader(file)}


def test_the_good_models_report_is_written_and_names_what_is_not_in_it(runs):
    assert runs.tables == {"good"}, runs.first.stdout
    assert "Not in this report" in runs.reported
    for model in ("absent", "refused", "rambling"):
        assert f">{model}<" in runs.reported.replace(" ", "").replace("\n", ""), model
    assert "out of order" in runs.reported
    assert "validation failed" in runs.reported


def test_the_run_ends_as_failed_and_its_last_lines_say_what_and_why(runs):
    assert runs.first.returncode == 1
    _, _, message = runs.first.stdout.rpartition("\nWhat could be made without these is made")
    # Plans of two replications may run side by side, and then both fail.
    _, *absents, refused, first, second = message.rstrip().splitlines()
    assert absents
    for absent in absents:
        assert absent.startswith("model 'absent', replication ")
        assert ("so that" in absent) == (len(absents) == 1)
        assert "there is no folder" in absent
    assert refused.startswith("model 'refused', replication ")
    assert "generate study2: " in refused
    assert "all 3 requests failed" in refused
    for line in (first, second):
        assert line.startswith("model 'rambling', replication ")
        assert "validate study2: validation failed" in line


def test_models_are_asked_one_after_the_other_in_their_order(runs):
    """So that each is loaded once; both replications of one come before the next."""
    blocks = [model for model, _ in groupby(model for model, _ in runs.asked.trials)]
    assert blocks == [model for model in MODELS if model in blocks]
    assert len(blocks) >= 3


def test_what_is_known_beforehand_is_reported_before_the_first_request(runs):
    message, _, rest = runs.first.stdout.partition(" steps (")
    assert "Before the first request: model 'absent'" in message
    assert rest


def test_no_answer_is_asked_twice_in_the_runs_that_go_on(runs):
    """`refused` is asked in one of its replications, the others in both.

    Before a model's first trial two requests see how it draws, in one of its replications.
    """
    trials = runs.asked.trials
    assert Counter(model for model, _ in trials) == {"good": 6, "refused": 3, "rambling": 6}
    assert len(set(trials)) == len(trials)
    assert runs.asked.looks == {"good": 2, "refused": 2, "rambling": 2}


def test_a_single_file_of_a_failed_model_gives_the_error_directly(runs):
    assert runs.single.returncode == 1
    assert "goes on" not in runs.single.stdout
    last = runs.single.stdout.rstrip().splitlines()[-1]
    assert last.startswith("model 'absent', replication 0: plan: ")


def test_the_next_run_tries_what_failed_and_asks_nothing_else(runs):
    assert runs.second.returncode == 0, runs.second.stdout
    trials = runs.asked_later.trials
    assert Counter(model for model, _ in trials) == {"refused": 6}
    assert len(set(trials)) == len(trials)
    # How it draws could not be seen while it refused.
    assert runs.asked_later.looks == {"refused": 2}
    assert models_in(runs.project) == {"good", "refused", "rambling"}
    assert "Not in this report" not in runs.report.read_text(encoding="utf-8")
    assert "generate study2 of good" not in runs.second.stdout
