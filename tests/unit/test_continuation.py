"""What is known of a failure, and how a run goes on without it."""

from __future__ import annotations

import json
import os
import runpy
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from bundled_studies import STUDIES

from grace.errors import ConfigError
from grace.results.validation import Check, Report, report
from grace.runs import continuation
from grace.runs.continuation import NOT_ASKED, Failure
from grace.runs.scripting import logged
from grace.settings.outputs import Outputs
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]


def failure(model="bad", replication=0, stage="plan", reason="no weights", **fields) -> Failure:
    return Failure(model=model, replication=replication, stage=stage, reason=reason, **fields)


def test_failures_survive_the_environment():
    failures = [failure(study="study1", experiment="exp2", stage="score"), failure(replication=1)]
    found = continuation.from_environment({continuation.VARIABLE: continuation.encoded(failures)})
    assert found == failures
    assert continuation.from_environment({}) == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"model": "a"}]', "not JSON"])
def test_what_somebody_else_put_there_is_refused(text):
    with pytest.raises(ConfigError, match="GRACE_FAILED is set"):
        Project(ROOT, {}, {continuation.VARIABLE: text})


def test_any_number_of_failures_fits_into_an_environment():
    """The kernel takes 128 KiB a variable."""
    failures = [
        failure(replication=index, reason="\u2014 because " * 10_000) for index in range(300)
    ]
    assert len(continuation.encoded(failures).encode()) < 2**17
    assert len(continuation.encoded(failures[:1])) < 2 * continuation.MOST_REASON


def test_a_run_that_goes_on_is_of_the_other_replications():
    values = {"models": ["pico", "gemma-2b"], "replications": 2}
    failures = [failure("pico", 1), failure("gemma-2b", 0), failure("gemma-2b", 1)]
    whole = Project(ROOT, values, {})
    rest = Project(ROOT, values, {continuation.VARIABLE: continuation.encoded(failures)})
    assert whole.replications == [("pico", 0), ("pico", 1), ("gemma-2b", 0), ("gemma-2b", 1)]
    assert rest.replications == [("pico", 0)]
    assert Outputs(rest).plan("pico", 0) == Outputs(whole).plan("pico", 0)


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


def validation(model: str, replication: int, passed: bool) -> Report:
    check = Check(
        name="rows", study="study2", experiment="exp1", description="rows", value=1, threshold=2,
        comparison="==", passed=passed, rows_to_review=[], rows_to_review_total=0,
    )  # fmt: skip
    return report(model, replication, [check])


def test_replications_whose_checks_failed_are_reported_with_the_check():
    found = continuation.invalid([validation("good", 0, True), validation("bad", 1, False)])
    (one,) = found
    assert (one.model, one.replication, one.stage, one.study) == ("bad", 1, "validate", "study2")
    assert "rows: 1, must be == 2" in one.reason
    assert one.reason.endswith("; see its validation.json")


@pytest.fixture
def merge_log(tmp_path):
    """A function that merges as the job does: what that raises, and the job's log."""
    merge = runpy.run_path(str(ROOT / "scripts/merge.py"))

    def merged(reports, tables, on_invalid="fail"):
        paths = []
        for index, (model, replication, version) in enumerate(tables):
            paths.append(tmp_path / f"{index}.csv")
            paths[-1].write_text(
                "model_key,replication,study,reported_model\r\n"
                f"{model},{replication},study2,{version}\r\n"
            )
        log = tmp_path / "merge.log"
        with pytest.raises(SystemExit) if on_invalid == "fail" else nullcontext(), logged(str(log)):
            merge["refuse_invalid"](
                reports, on_invalid, list(merge["mixed_versions"](paths, [], STUDIES["study2"]))
            )
        return log

    return merged


def test_what_merge_refuses_is_known_whatever_its_words(merge_log):
    """A replication for a check of its own, and a model that shows only as a whole."""
    log = merge_log(
        [validation("invalid", 1, False), validation("good", 0, True)],
        [("good", 0, "v1"), ("mixed", 0, "v1"), ("mixed", 3, "v2"), ("invalid", 0, "v1")],
    )
    found = {one.what: one for one in continuation.refusals_in(log)}
    assert set(found) == {("invalid", 1), ("mixed", 0), ("mixed", 3)}
    assert found["invalid", 1].stage == "validate"
    assert found["mixed", 3].step == "merge study2"
    assert "versions of the model" in found["mixed", 3].reason
    reason = continuation.reason_in(log)
    assert reason.startswith("validation failed (2 checks):"), "the model's line stands there once"
    assert all(one.reason in reason for one in found.values() if one.stage == "merge")


def test_a_merge_that_only_warns_refuses_nothing(merge_log):
    log = merge_log([validation("bad", 0, False)], [("bad", 0, "v1")], on_invalid="warn")
    assert continuation.refusals_in(log) == []


def test_a_log_that_is_old_or_cut_or_of_another_failure_refuses_nothing(tmp_path):
    log = tmp_path / "merge.log"
    assert continuation.refusals_in(log) == []
    line = f"16:00:01 INFO {continuation.refusal_line([failure()])}"
    log.write_text(f"{line[:-3]}\n16:00:02 ERROR no space left\n{line[18:]}\n")
    assert continuation.refusals_in(log) == []
    log.write_text(f"{line}\n")
    assert continuation.refusals_in(log) == [failure()]
    os.utime(log, (1000, 1000))
    assert continuation.refusals_in(log, since=1001) == []


def test_the_last_line_names_the_model_and_the_reason():
    failures = [
        failure(replication=0, stage="generate", study="study1"),
        failure(replication=1, stage=NOT_ASKED, reason="replication 0 had failed"),
        failure(replication=2, stage=NOT_ASKED, reason="replication 0 had failed"),
    ]
    assert continuation.summary(failures, went_on=True).splitlines()[-1] == (
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
    forced_file = tmp_path / "forced.json"
    forced_file.write_text(json.dumps(forced))
    arguments = ["-F", "--forcerun", "generate", "--config", "limit=3", "models=[a]"]
    monkeypatch.setattr(sys, "argv", ["-c", *arguments])
    ran = []
    with pytest.raises(SystemExit) as ended:
        continuation.main(str(forced_file), lambda args, parser: ran.append(args) or True)
    assert ended.value.code == 1
    (args,) = ran
    assert (args.forceall, args.force, set(args.forcerun)) == (False, False, set(forced))
    assert set(args.config) == {"limit=3", "models=[a]"}
    assert not forced_file.exists()
