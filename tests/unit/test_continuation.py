"""What is known of a failure, and how a run goes on without it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from grace.errors import ConfigError
from grace.results.validation import Check, report
from grace.runs import continuation
from grace.runs.continuation import NOT_ASKED, Failure
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]


def failure(model="bad", replication=0, stage="plan", reason="no weights", **fields) -> Failure:
    return Failure(model=model, replication=replication, stage=stage, reason=reason, **fields)


def test_failures_survive_the_environment():
    told = [failure(study="study1", experiment="exp2", stage="score"), failure(replication=1)]
    found = continuation.from_environment({continuation.VARIABLE: continuation.encoded(told)})
    assert found == told
    assert continuation.from_environment({}) == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"model": "a"}]', "not JSON"])
def test_what_somebody_else_put_there_is_refused(text):
    with pytest.raises(ConfigError, match="GRACE_FAILED is set"):
        Project(ROOT, {}, {continuation.VARIABLE: text})


def test_any_number_of_failures_fits_into_an_environment():
    """The kernel takes 128 KiB a variable."""
    told = [failure(replication=index, reason="\u2014 because " * 10_000) for index in range(300)]
    assert len(continuation.encoded(told).encode()) < 2**17
    assert len(continuation.encoded(told[:1])) < 2 * continuation.MOST_REASON


def test_a_run_that_goes_on_is_of_the_other_replications():
    values = {"models": ["pico", "gemma-2b"], "replications": 2}
    told = [failure("pico", 1), failure("gemma-2b", 0), failure("gemma-2b", 1)]
    whole = Project(ROOT, values, {})
    rest = Project(ROOT, values, {continuation.VARIABLE: continuation.encoded(told)})
    assert whole.replications == [("pico", 0), ("pico", 1), ("gemma-2b", 0), ("gemma-2b", 1)]
    assert rest.replications == [("pico", 0)]
    assert rest.plan_cell("pico", 0) == whole.plan_cell("pico", 0)


LOG = """16:00:01 INFO journal: 0 answers
16:00:02 WARNING try 1 of 4 failed
16:00:03 ERROR model 'bad': first line
  second line
"""


@pytest.mark.parametrize(
    "after",
    ["", "16:00:04 INFO more\nand more\n", "RuleException:\nCalledProcessError\n", "\nText\n",
     "Traceback (most recent call last):\n  File\n", "[Sat Nov 21 16:00:04 2026]\nError\n"],
)  # fmt: skip
def test_the_reason_is_the_last_error_of_the_log(tmp_path, after):
    log = tmp_path / "job.log"
    log.write_text(f"15:59:00 ERROR an older one\n{LOG}{after}")
    assert continuation.reason_in(log) == "model 'bad': first line\n  second line"


def test_a_log_without_an_error_or_of_a_run_before_gives_no_reason(tmp_path):
    log = tmp_path / "job.log"
    assert continuation.reason_in(log) is None
    log.write_text("16:00:01 INFO all is well\n")
    assert continuation.reason_in(log) is None
    log.write_text(LOG)
    os.utime(log, (1000, 1000))
    assert continuation.reason_in(log, since=1001) is None
    log.write_bytes(b"16:00:03 ERROR broken \xff text\n")
    assert continuation.reason_in(log) == "broken \ufffd text"


def validation(folder: Path, model: str, replication: int, passed: bool) -> Path:
    check = Check(
        name="rows", study="study2", experiment="exp1", description="rows", value=1, threshold=2,
        comparison="==", passed=passed, rows_to_review=[], rows_to_review_total=0,
    )  # fmt: skip
    path = folder / f"{model}-{replication}.json"
    path.write_text(report(model, replication, [check]).model_dump_json())
    return path


def test_replications_whose_checks_failed_are_told_with_the_check(tmp_path):
    found = continuation.invalid(
        [
            validation(tmp_path, "good", 0, True),
            validation(tmp_path, "bad", 1, False),
            tmp_path / "absent.json",
        ]
    )
    (one,) = found
    assert (one.model, one.replication, one.stage, one.study) == ("bad", 1, "validate", "study2")
    assert "rows: 1, must be == 2" in one.reason
    assert one.reason.endswith("; see its validation.json")


def test_a_model_that_merge_refuses_as_a_whole_is_left_out_in_all_replications():
    text = "validation failed (1 checks):\nbad, all 2 replications, study1_exp1: the same answers"
    found = continuation.refused_models(text, [("bad", 0), ("badly", 0), ("bad", 1), ("good", 0)])
    assert [one.what for one in found] == [("bad", 0), ("bad", 1)]
    assert {one.stage for one in found} == {"merge"}
    assert "the same answers" in found[0].reason


def test_the_last_line_names_the_model_and_the_reason():
    told = [
        failure(replication=0, stage="generate", study="study1"),
        failure(replication=1, stage=NOT_ASKED, reason="replication 0 had failed"),
        failure(replication=2, stage=NOT_ASKED, reason="replication 0 had failed"),
    ]
    assert continuation.summary(told, went_on=True).splitlines()[-1] == (
        "model 'bad', replication 0 (so that 1, 2 was not asked): generate study1: no weights"
    )


def test_a_run_that_could_not_go_on_does_not_say_that_the_rest_is_made():
    assert "is made" in continuation.summary([failure()], went_on=True)
    assert "is made" not in continuation.summary([failure()], went_on=False)


@pytest.mark.parametrize(
    ("program", "is_command"),
    [
        ("/usr/bin/snakemake", True),
        ("/env/lib/python3.11/site-packages/snakemake/__main__.py", True),
        ("snakemake", True),
        ("/usr/bin/pytest", False),
        ("", False),
    ],
)
def test_only_the_command_is_run_again(program, is_command):
    assert continuation.started_by_command(program) is is_command


@pytest.mark.parametrize("forced", [[], ["results/pico/replication-0/plan.json"]])
def test_the_run_that_goes_on_forces_what_was_not_reached_and_ends_as_failed(
    tmp_path, monkeypatch, forced
):
    told = tmp_path / "forced.json"
    told.write_text(json.dumps(forced))
    arguments = ["-F", "--forcerun", "generate", "--config", "limit=3", "models=[a]"]
    monkeypatch.setattr(sys, "argv", ["-c", *arguments])
    ran = []
    with pytest.raises(SystemExit) as ended:
        continuation.main(str(told), lambda args, parser: ran.append(args) or True)
    assert ended.value.code == 1
    (args,) = ran
    assert (args.forceall, args.force, set(args.forcerun)) == (False, False, set(forced))
    assert set(args.config) == {"limit=3", "models=[a]"}
    assert not told.exists()
