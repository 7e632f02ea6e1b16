"""What a dry-run says of the hours, money and storage of the jobs that it shows."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from grace.errors import GraceError
from grace.forecast import report
from grace.forecast.estimate import Forecaster
from grace.forecast.preview import AskingJob, preview
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]


def project(**values: Any) -> Project:
    # No past jobs: there is no such folder.
    run = {"results": "no-such-results", "limit": 24, **values}
    return Project(ROOT, run, environment={})


def jobs_of(run: Project) -> list[AskingJob]:
    """All that a run from nothing has."""
    return [
        (model, replication, study, experiment)
        for model in run.models
        for replication in run.config.replication_indices
        for study, experiments in run.asked.items()
        for experiment in experiments
    ]


def test_lines_name_experiments_and_requests() -> None:
    run = project(generation={"temperature": 0}, limit=None)
    some = [("pico", index, "study1", "exp1") for index in range(40)]
    lines = preview(run, [*some, ("pico", 0, "study1", "exp2")]).splitlines()
    assert lines[1:3] == [
        "  study1_exp1: 40 runs of 36 answers of at most 256 tokens, to 36 different prompts",
        "  study1_exp2: 1 run of 209 distributions, for 2,700 queries and 5 null contexts",
    ]


def test_a_line_for_each_model_and_one_for_all_say_what_the_forecast_says() -> None:
    run = project(models=["pico", "gemma-2b"], gpus=["a100"], replications=3)
    lines = preview(run, jobs_of(run)).splitlines()
    rows = {row.model: row for row in report.model_forecasts(run, Forecaster(run))}
    for model, found in rows.items():
        (line,) = [one for one in lines if one.startswith(f"  {model}: ")]
        assert f"3 replications in {report._hours(found.elapsed)} hours on" in line
        assert "not calibrated" in line
    assert f"{report._hours(rows['gemma-2b'].gpu_hours)} GPU-hours" in lines[-2]
    assert lines[-1].startswith("  In all ")
    assert "GB of journal" in lines[-1]


def test_later_replications_find_distributions_in_the_journal() -> None:
    run = project(models=["pico"], replications=3)
    (row,) = report.model_forecasts(run, Forecaster(run))
    first, *others = row.each
    assert row.estimate is not None
    measured = sum(job.seconds for job in row.estimate.jobs if job.experiment == "exp2")
    kept = sum(job.seconds_kept for job in row.estimate.jobs if job.experiment == "exp2")
    assert others == [pytest.approx(first - measured + kept)] * 2
    assert first > others[0] > 0
    # Where one replication has them, the one that is left measures none.
    some = preview(run, [job for job in jobs_of(run) if job[1] == 2])
    assert f"1 replication in {report._hours(others[0] / 3600)} hours" in some
    assert [job.kept for job in row.estimate.jobs] == [False, True] * 2


def test_pods_that_start_together_all_measure() -> None:
    run = project(models=["gemma-2b"], gpus=["a100"], replications=3)
    (row,) = report.model_forecasts(run, Forecaster(run))
    assert row.at_once == 2
    assert row.each[0] == row.each[1] > row.each[2]
    assert row.elapsed == pytest.approx(row.hours[0] + row.hours[2])


def test_nothing_to_ask_says_nothing_and_why_hours_are_not_known_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert preview(project(), []) == ""

    def fits_nowhere(*_: Any) -> Any:
        raise GraceError("llama-70b fits no GPU.")

    monkeypatch.setattr("grace.forecast.preview.model_forecasts", fits_nowhere)
    text = preview(project(), [("pico", 0, "study1", "exp1")])
    assert text.endswith("  Hours are not forecast. llama-70b fits no GPU.")


def test_no_tokeniser_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grace.forecast.request_counts.tokenizer_of", None)
    run = project(models=["pico", "gemma-2b"], gpus=["a100"])
    began = time.process_time()
    assert re.search(r"pico: 2 replications in \S+ hours on", preview(run, jobs_of(run)))
    assert time.process_time() - began < 5


def test_reading_by_a_model_is_counted() -> None:
    asks = {"method": "model", "queries": 2}
    run = project(studies=["study1"], replications=3, extraction=asks)
    text = report.text(run, Forecaster(run))
    # 24 answers, each read twice, in three replications of one model.
    assert "Reading answers (model): ~144 requests, ~" in text
    assert "Answers are read by a model, too" in preview(run, jobs_of(run))
    # At 1 a token read and nothing for those sampled, the cost is the number of tokens.
    priced = project(
        studies=["study1"],
        replications=3,
        extraction={**asks, "price": {"input": 1_000_000, "output": 0}},
    )
    said = report.text(priced, Forecaster(priced))
    read = re.search(r"~([\d,]+) tokens read", said)
    assert read is not None
    assert f", {read[1]}.00 at `price`" in said
    some = project(studies=["study1"], replications=3, extraction={"method": "rules-then-model"})
    assert "~6 requests" in report.text(some, Forecaster(some))
    assert "that rules leave 10% of answers open is assumed" in report.text(some, Forecaster(some))
    assert "Reading answers" not in report.text(project(), Forecaster(project()))


def test_second_readings_are_counted() -> None:
    def jobs(**values: Any) -> dict[str, Any]:
        found = Forecaster(project(limit=None, **values)).replication("pico", None)
        assert found is not None
        return {job.label: job.work for job in found.jobs}

    both, alone = jobs(), jobs(studies=["study1"])
    assert [both[f"{study}_exp2"].again for study in ("study1", "study2")] == [4, 25]
    assert alone["study1_exp2"].again == 20
    assert alone["study1_exp2"].requests == 209 + 20
    assert alone["study1_exp2"].read_tokens > both["study1_exp2"].read_tokens
    assert both["study1_exp1"].again == 0
