"""What a run shows on the terminal, by the records that Snakemake logs of it."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.iocontainers import Namedlist
from snakemake.jobs import Reason
from snakemake.logging import LoggerManager
from snakemake.persistence import ParamsChange
from snakemake.settings.enums import Quietness
from snakemake.settings.types import OutputSettings
from snakemake_interface_logger_plugins.common import LogEvent

from grace.errors import ConfigError
from grace.progress import progress as reported
from grace.runs.scripting import JOB_LOGS, logged
from grace.terminal import job_log
from grace.terminal.handler import TerminalLog
from grace.terminal.place import VARIABLE, take_place
from grace.terminal.plan import OF_ALL, PlannedJob, counted, in_order, ranges, why
from grace.terminal.progress import Progress, TimeLeft, duration, left_in_words
from grace.terminal.reasons import of_params, words

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
TABLES = ("tabulate", "structure", "probabilities")


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plan(models: int = 2, replications: int = 2) -> list[PlannedJob]:
    """A plan, both experiments and tables of one study, then a report."""
    steps = ("plan", "generate", "score", *TABLES)
    jobs = [
        (step, f"model-{model}", str(replication), None if step == "plan" else "study1")
        for model in range(models)
        for replication in range(replications)
        for step in steps
    ]
    found = [
        PlannedJob(number, step, of, which, study, reason="no output yet")
        for number, (step, of, which, study) in enumerate(jobs, 1)
    ]
    return [*found, PlannedJob(len(found) + 1, "report")]


class Run:
    """A handler, and what Snakemake logs of a run's events."""

    def __init__(self, jobs: list[PlannedJob], stream: io.StringIO, **settings: Any) -> None:
        self.stream, self.clock, self.environment = stream, Clock(), dict[str, str]()
        follow = settings.pop("follow", stream.isatty())
        self.settings = OutputSettings(**{"show_failed_logs": True, **settings})
        self.handler = TerminalLog(
            self.settings, lambda: jobs, stream, follow=follow, clock=self.clock,
            environment=self.environment,
        )  # fmt: skip
        manager = SimpleNamespace(settings=self.settings)
        self.handler.addFilter(LoggerManager._default_filter(manager))

    def log(self, text: str | None = None, level: int = logging.INFO, **extra: Any) -> None:
        record = logging.LogRecord("snakemake", level, "", 0, text, None, None)
        vars(record).update(extra)
        self.handler.handle(record)

    def begin(self) -> None:
        self.log("Job stats:\n...", event=LogEvent.RUN_INFO, stats={})

    def start(self, jobid: int, log: str = "none.log") -> None:
        self.log(event=LogEvent.JOB_INFO, jobid=jobid, log=[log])

    def finish(self, jobid: int) -> None:
        self.log(event=LogEvent.JOB_FINISHED, job_id=jobid)

    def fail(self, jobid: int, log: str, *, indent: bool = False) -> None:
        self.log(
            level=logging.ERROR, event=LogEvent.JOB_ERROR, jobid=jobid, log=[log],
            rule_name="x", rule_msg=None, shellcmd=None, indent=indent,
        )  # fmt: skip

    @property
    def text(self) -> str:
        return self.stream.getvalue()


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_without_a_terminal_there_is_a_line_for_each_finished_job_and_no_control_code():
    run = Run(plan(1, 1), io.StringIO())
    run.log("Building DAG of jobs...")
    run.begin()
    for jobid in (1, 2, 3):
        run.log("Select jobs to execute...")
        run.log("Execute 1 jobs...", event=LogEvent.JOB_STARTED, jobs=[jobid])
        run.start(jobid)
        run.clock.now += 10
        run.finish(jobid)
        run.log(event=LogEvent.PROGRESS, done=jobid, total=7)
    head, _, lines = run.text.partition("\n\nWhy:\n  no output yet: 6 jobs")
    assert head.startswith("7 jobs to run\n\n  model       replication  plan  experiment 1")
    assert lines.splitlines()[-3:] == [
        "1 of 7 steps (14%) done: plan of model-0, replication 0, in 10 s",
        "2 of 7 steps (28%) done: generate study1 of model-0, replication 0, in 10 s",
        "3 of 7 steps (42%) done: score study1 of model-0, replication 0, in 10 s",
    ]
    assert not CONTROL.search(run.text)
    assert "Select jobs" not in run.text


def test_on_a_terminal_the_table_follows_the_run_and_stays_when_it_ends():
    run = Run(plan(), Tty())
    run.begin()
    for jobid in (1, 13):
        run.start(jobid)
        run.clock.now += 5
        run.finish(jobid)
    run.start(2)
    run.clock.now += 60
    run.log("Complete log(s): here.log")
    run.log("Elapsed time: 0:01:10")
    text = re.sub(r"\x1b\[[\d;]*m", "", run.text)
    last = text[text.rindex("model  ") :]
    assert re.search(r"model-0 +0 +done +0/1 …", last)
    assert re.search(r"model-1 +0 +done +0/1", last)
    assert "generate study1 of model-0, replication 0: 1:00" in last
    assert "2 of 25 jobs done, 1:10" in last
    assert last.endswith("Snakemake's log: here.log\n")
    assert "\x1b[?25h" in last, "the cursor is shown again"
    run.handler.close()


def test_names_that_look_like_markup_are_shown_as_they_are():
    jobs = [
        PlannedJob(n, step, "[red]m[/red]", "0", "study1")
        for n, step in enumerate(("plan", "generate", "score", "structure"), 1)
    ]
    run = Run(jobs, Tty(), nocolor=True)
    run.begin()
    run.start(2)
    run.fail(2, "none.log")
    run.handler.close()
    assert "Failed: generate study1 of [red]m[/red], replication 0" in run.text
    assert "[red]m[/red]  " in run.text


def test_a_terminal_is_commanded_by_no_log_and_no_message(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("10:00:00 ERROR the server said \x1b[2J\x07 that\n")
    for stream in (io.StringIO(), Tty()):
        run = Run(plan(1, 1), stream)
        run.begin()
        run.fail(1, str(log))
        run.log("odd \x1b[2J text", logging.WARNING)
        run.handler.close()
        assert "the server said" in run.text
        assert "\x1b[2J" not in run.text


def test_a_failed_jobs_log_is_shown_once_and_only_its_end(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("".join(f"10:00:00 INFO line {n}\n" for n in range(100)) + "the end\n")
    run = Run(plan(1, 1), io.StringIO())
    run.begin()
    run.start(2, str(log))
    run.fail(2, f"{log} (check log file(s) for error details)")
    run.fail(2, str(log))
    run.log(
        "RuleException:\nCalledProcessError in file x.smk:\n"
        "Command 'a' returned non-zero exit status 1.",
        logging.ERROR, event=LogEvent.ERROR,
    )  # fmt: skip
    run.log("WorkflowError:\nDisk full.", logging.ERROR, event=LogEvent.ERROR)
    assert "non-zero" not in run.text
    assert "Disk full." in run.text
    assert run.text.count("the end") == 1
    assert run.text.count(" INFO line ") == job_log.MOST_LINES - 1
    assert f"Its log: {log}" in run.text
    quiet = Run(plan(1, 1), io.StringIO(), show_failed_logs=False)
    quiet.begin()
    quiet.fail(2, str(log))
    assert "the end" not in quiet.text
    assert f"Its log: {log}" in quiet.text


def test_of_a_failed_pod_its_log_is_shown_and_not_every_job(tmp_path):
    log, own = tmp_path / "pod.log", tmp_path / "generate.log"
    log.write_text("10:00:00 ERROR out of memory\n")
    own.write_text("10:00:00 INFO 3 answers\n")
    run = Run(plan(1, 1), io.StringIO())
    run.begin()
    run.log(
        level=logging.ERROR, event=LogEvent.GROUP_ERROR, groupid="g", aux_logs=[str(log)],
        job_error_info=[{"jobid": jobid} for jobid in (1, 2, 3)],
    )  # fmt: skip
    run.fail(1, "none.log", indent=True)
    run.fail(2, str(own), indent=True)
    run.fail(3, "none.log", indent=True)
    failed = [line for line in run.text.splitlines() if line.startswith("Failed: ")]
    assert failed == [
        "Failed: plan of model-0, replication 0 and 2 more jobs of its pod",
        "Failed: generate study1 of model-0, replication 0",
    ]
    assert run.text.count("out of memory") == 1


def test_a_job_of_a_recipe_is_named_with_seed_and_round():
    job = PlannedJob(1, "online_dpo", "demo", "2", round="3", recipe=True)
    assert job.what == "online_dpo of demo, seed 2, round 3"
    assert job.stage == "training"


def test_who_asks_for_a_check_sees_what_it_logs():
    jobs = [PlannedJob(1, "verify", speaks=True), *plan(1, 1)[1:]]
    run = Run(jobs, Tty())
    run.begin()
    run.start(1)
    assert run.environment == {}
    assert "\x1b[?25l" not in run.text, "no table is drawn over it"
    results = Run(plan(1, 1), io.StringIO())
    results.begin()
    assert results.environment == {JOB_LOGS: "file"}


def test_warnings_of_jobs_and_of_snakemake_are_shown_once(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("10:00:00 INFO fine\n10:00:01 WARNING answers were cut off\nwarning: from R\n")
    run = Run(plan(1, 1), io.StringIO())
    run.begin()
    for jobid in (2, 3):
        run.start(jobid, str(log))
        run.finish(jobid)
        run.log("disk is nearly full", logging.WARNING)
    shown = "Warning: answers were cut off (generate study1 of model-0, replication 0)\n"
    assert run.text.count("answers were cut off") == 1
    assert shown in run.text
    assert run.text.count("from R") == 1
    assert run.text.count("disk is nearly full") == 1


def test_a_dry_run_counts_by_model_replication_and_stage_and_says_why():
    run = Run(plan(2, 3), io.StringIO(), dryrun=True)
    run.begin()
    run.start(1)
    run.begin()  # Snakemake counts before and after the jobs
    run.log("Reasons:\n    (check individual jobs above for details)")
    run.log("This was a dry-run (flag -n).")
    lines = run.text.splitlines()
    assert lines[0] == "37 jobs would run"
    assert lines[2].split() == [
        "model",
        "replication",
        "plan",
        "experiment",
        "1",
        "experiment",
        "2",
        "tables",
    ]
    assert lines[3].split() == ["model-0", "0-2", "3", "3", "3", "9"]
    assert lines[5].split() == ["all", "models", "1"]
    assert run.text.count("Why:") == 1
    assert lines[-1] == "This was a dry-run (flag -n)."


@pytest.mark.parametrize(
    ("quiet", "shown"),
    [
        ({Quietness.PROGRESS, Quietness.RULES}, ["careful"]),
        ({Quietness.ALL}, []),
    ],
)
def test_quiet_is_as_quiet_as_snakemakes_own(quiet, shown):
    run = Run(plan(), Tty(), quiet=quiet)
    run.begin()
    run.start(1)
    run.finish(1)
    run.log("careful", logging.WARNING)
    run.handler.close()
    assert CONTROL.sub("", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", run.text)).split() == shown


def test_no_color_has_no_colour():
    run = Run(plan(), Tty(), nocolor=True)
    run.begin()
    run.start(1)
    run.handler.close()
    assert not re.search(r"\x1b\[[\d;]*3\d[\d;]*m", run.text)


def test_the_table_fits_the_terminal_however_many_models_there_are(monkeypatch):
    from rich.console import Console

    from grace.terminal.table import table

    for models, replications in ((3, 40), (60, 5)):
        progress = Progress(plan(models, replications))
        progress.start(6 * replications + 1, 0)  # of the second model
        console = Console(file=io.StringIO(), width=80, height=24)
        console.print(table(progress, 5, 24, {}, TimeLeft(90, at_least=False)))
        lines = console.file.getvalue().splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
        text = "\n".join(lines)
        assert "model-1" in text, "what is at work is among those that are shown"
        assert f"0 of {replications}" in text
        assert "about 2 min left" in text
        assert ("more models" in text) == (models == 60)


def test_the_cost_of_a_run_grows_with_its_jobs_and_not_faster():
    def seconds(models: int) -> float:
        jobs = plan(models, 10)
        run = Run(jobs, io.StringIO())
        began = time.process_time()
        run.begin()
        for job in jobs:
            run.start(job.jobid)
            run.clock.now += 0.01
            run.finish(job.jobid)
        return time.process_time() - began

    seconds(5)
    few, many = seconds(10), seconds(80)
    assert many < 24 * max(few, 0.01)


def test_time_left_is_by_what_jobs_of_the_same_stage_took():
    progress = Progress(plan(2, 2)[:-1])  # without the report
    assert progress.seconds_left(0) is None
    for jobid, step in enumerate(("plan", "generate", "score", *TABLES), 1):
        progress.start(jobid, 10.0 * jobid)
        progress.finish(jobid, 10.0 * jobid + {"generate": 8, "score": 4}.get(step, 1))
    left = progress.seconds_left(70)
    assert left is not None
    assert not left.at_least
    assert left.seconds == pytest.approx(3 * (8 + 4 + 4))
    progress.start(8, 70)  # generate of the second replication says 30 s, though the first took 8
    left = progress.seconds_left(71, {8: 30})
    assert left is not None
    assert left.seconds == pytest.approx(3 * (8 + 4 + 4) - 8 + 30)


def test_time_left_counts_jobs_that_ran_side_by_side_and_says_what_it_does_not_know():
    jobs = [PlannedJob(n, "tabulate", "m", str(n), "study1") for n in range(8)]
    progress = Progress(jobs)
    for jobid in range(4):
        progress.start(jobid, 0)
    for jobid in range(4):
        progress.finish(jobid, 10)
    assert progress.seconds_left(10) == TimeLeft(pytest.approx(10.0), at_least=False)
    other = Progress([*jobs, PlannedJob(9, "report")])
    other.start(0, 0)
    other.finish(0, 10)
    assert other.seconds_left(10) == TimeLeft(pytest.approx(70.0), at_least=True)
    most = Progress([*jobs[:2], *(PlannedJob(n, "merge") for n in (10, 11, 12))])
    most.start(0, 0)
    most.finish(0, 10)
    assert most.seconds_left(10) is None, "one job of four is of a kind that was measured"
    assert left_in_words(TimeLeft(70, at_least=True)) == "at least 1 min left"
    assert left_in_words(TimeLeft(0, at_least=True)) == ""
    assert [duration(one) for one in (0, 59, 60, 3600, 7500)] == [
        "0 s", "59 s", "1 min", "1 h 00 min", "2 h 05 min",
    ]  # fmt: skip


def test_a_job_that_is_tried_again_is_not_counted_as_failed():
    progress = Progress(plan(1, 1))
    progress.start(2, 0)
    progress.fail(2, 1)
    progress.fail(2, 1)
    assert progress.failed == 1
    progress.start(2, 2)
    progress.finish(2, 3)
    assert (progress.failed, progress.done) == (0, 1)
    (cell,) = [cells["experiment 1"] for cells in progress.cells.values() if "plan" in cells]
    assert (cell.failed, cell.done, cell.total, cell.running) == (0, 1, 1, set())


def test_how_far_a_job_is_is_read_from_what_it_logs_of_its_progress(tmp_path, monkeypatch):
    monkeypatch.setenv(JOB_LOGS, "file")
    log = tmp_path / "job.log"
    with logged(str(log)):
        for item in reported(range(4), 4, "study1_exp1", "answer"):
            if item == 2:
                break
            assert item is not None
    assert job_log.how_far(log) is not None
    log.write_text(
        "10:00:00 INFO study1_exp1:  45%|#####     | 54/120 [01:00<1:01:20,  1.13answer/s]\n"
        "10:00:00 INFO something else\n"
    )
    assert job_log.how_far(log) == (45, 3680)
    assert job_log.how_far(tmp_path / "none.log") is None


def test_a_jobs_log_goes_to_its_file_alone_where_the_run_shows_it(tmp_path, monkeypatch, capfd):
    for value, lines in (("file", 0), ("", 1)):
        monkeypatch.setenv(JOB_LOGS, value)
        with logged(str(tmp_path / "job.log")):
            logging.getLogger("grace").warning("said")
        assert (tmp_path / "job.log").read_text().endswith("WARNING said\n")
        assert capfd.readouterr().err.count("said") == lines


def test_ctrl_c_is_no_failure_of_the_jobs_that_it_ends():
    run = Run(plan(1, 1), Tty(), nocolor=True)
    run.begin()
    run.start(2)
    run.log("Terminating processes on user request, this might take some time.")
    run.log(
        "RuleException:\nCalledProcessError in file x.smk:\n"
        "Command 'a' died with <Signals.SIGINT: 2>.",
        logging.ERROR, event=LogEvent.ERROR,
    )  # fmt: skip
    run.fail(2, "none.log")
    run.handler.close()
    assert "Terminating" in run.text
    assert "ailed" not in run.text
    assert "SIGINT" not in run.text


@pytest.mark.parametrize("error", ["KeyboardInterrupt()", "ValueError('what')"])
@pytest.mark.parametrize("value", ["file", ""])
def test_a_job_that_ends_badly_says_so_in_its_log_and_not_twice(tmp_path, error, value):
    log = tmp_path / "job.log"
    code = f"from grace.runs.scripting import logged\nwith logged({str(log)!r}):\n    raise {error}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, JOB_LOGS: value},
    )  # fmt: skip
    assert done.returncode != 0
    assert ("Traceback" in done.stderr) == (value == "")
    assert ("ValueError: what" in log.read_text()) == error.startswith("Value")


def changed(**slots: Any) -> Reason:
    reason = Reason()
    for name, value in slots.items():
        setattr(reason, name, value)
    return reason


OLD = {
    "model": {"key": "pico", "dtype": "float32"}, "limit": 2, "prompts": {"seed": "a" * 64},
    "decoding": {"temperature": 0.7}, "stimuli": "1" * 64,
}  # fmt: skip
CODE = {"scripts": ["a.py"], "modules": ["b.py"], "digest": "1"}


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (OLD | {"prompts": {"seed": "b" * 64}}, ["prompts of variant 'seed' were edited"]),
        (OLD | {"decoding": {"temperature": 0.8}}, ["decoding.temperature was 0.7, is 0.8"]),
        (OLD | {"limit": 24, "stimuli": "2"}, ["limit was 2, is 24", "the stimuli were edited"]),
        (OLD | {"prompts": {"seed": "a" * 64, "x": "b"}}, ["prompts.x is new"]),
        (OLD | {"model": {"key": "pico"}}, ["model.dtype is gone"]),
        (OLD | {"model": {"key": "p" * 99, "dtype": "float32"}}, ["model.key has changed"]),
    ],
)
def test_changed_settings_are_named(new, said):
    assert of_params({repr(OLD)}, {repr(new)}) == said


def test_changed_code_is_no_setting_and_what_is_no_dict_is_only_said_to_differ():
    assert of_params({repr(CODE)}, {repr(CODE | {"digest": "2"})}) == ["Grace's code has changed"]
    assert of_params({"list(a = 1)"}, {"list(a = 2)"}) == ["its settings have changed"]
    now = {repr(CODE | {"digest": "2"}), repr(OLD | {"limit": 3})}
    both = of_params({repr(OLD), repr(CODE)}, now)
    assert sorted(both) == ["Grace's code has changed", "limit was 2, is 3"]


def test_reasons_are_snakemakes_in_words():
    made = Namedlist(["results/a.json"])
    assert words(changed(forced=True)) == "asked for on the command line (forced)"
    assert words(changed(_missing_output={"a", "b"})) == "no output yet"
    assert words(changed(_updated_input_run=set(made), _updated_input=set(made))) == ""
    edited = changed(_updated_input={"my.csv", "b", "c"}, _updated_input_run=set())
    assert words(edited) == "edited since: b, c and 1 more"
    params = ParamsChange({repr(OLD)}, {repr(OLD | {"limit": 3})}, {"a"})
    assert words(changed(params_changed=params)) == "limit was 2, is 3"
    assert "{" not in words(changed(params_changed=params, _missing_output={"a"}))


def test_reasons_of_many_jobs_are_said_once_and_fit_the_terminal():
    jobs = plan(30, 5) + [
        PlannedJob(9000 + n, "merge", reason=f"limit was {n}, is {n + 1}") for n in range(20)
    ]
    lines = why(jobs, 60)
    assert len(lines) < 40
    assert max(map(len, lines)) <= 60
    assert "9 further reasons: 9 jobs" in "\n".join(lines)


def test_replications_with_the_same_jobs_share_a_line():
    jobs = [job for job in plan(1, 4) if (job.which, job.step) != ("2", "plan")]
    table = [line.split() for line in counted(jobs)]
    assert table[1][:3] == ["model-0", "0-1,", "3"]
    assert table[2][:3] == ["model-0", "2", "1"]
    rows = [("m10", "0"), (OF_ALL, ""), ("m2", "10"), ("m2", "9"), ("a", "base")]
    assert in_order(rows) == [("a", "base"), ("m2", "9"), ("m2", "10"), ("m10", "0"), (OF_ALL, "")]
    assert ranges(["0", "1", "2", "5", "base"]) == "0-2, 5, base"


def manager(**settings: Any) -> Any:
    """Snakemake's own, for a logger of the test."""
    return LoggerManager(logging.Logger("test"), OutputSettings(**settings))


def test_ours_takes_the_place_of_snakemakes_own_and_of_nothing_else():
    environment = {JOB_LOGS: "file"}
    found = manager()
    log_file = logging.NullHandler()
    found.logger.addHandler(log_file)
    ours = take_place(found, list, environment)
    assert found.logger.handlers == [log_file, ours]
    assert environment == {}, "until it is known what runs"
    assert take_place(found, list, environment) is None, "it is there already"


@pytest.mark.parametrize("settings", [{"verbose": True}, {"printshellcmds": True}])
def test_who_asks_for_what_snakemake_shows_gets_it(settings):
    environment = {JOB_LOGS: "file"}
    found = manager(**settings)
    assert take_place(found, list, environment) is None
    assert [one.name for one in found.logger.handlers] == ["DefaultStreamHandler"]
    assert environment == {}


def test_the_environment_decides_how_a_run_shows_itself(monkeypatch):
    monkeypatch.setattr("sys.stderr", Tty())
    shown = take_place(manager(), list, {})
    assert shown is not None
    assert shown._follow
    plain = take_place(manager(), list, {VARIABLE: "plain"})
    assert plain is not None
    assert not plain._follow
    assert take_place(manager(), list, {VARIABLE: "snakemake"}) is None
    with pytest.raises(ConfigError, match="must be one of table, plain, snakemake"):
        take_place(manager(), list, {VARIABLE: "nice"})
    monkeypatch.setenv("TERM", "dumb")
    dumb = take_place(manager(), list, {})
    assert dumb is not None
    assert not dumb._follow


@pytest.mark.parametrize("status", [0, 3])
def test_set_up_shows_of_a_noisy_command_only_why_it_failed(tmp_path, status):
    log = tmp_path / "logs" / "pip.log"
    shell = Path(__file__).parents[2] / "scripts/lib/shell.sh"
    code = f'source "$1"; quietly "$2" bash -c "echo noise; exit {status}"; say done'
    done = subprocess.run(
        ["bash", "-euc", code, "bash", shell, log], capture_output=True, text=True, check=False
    )
    assert log.read_text() == "noise\n"
    assert done.stdout == ("" if status else ">> done\n")
    assert ("noise" in done.stderr) == (status != 0)
    assert done.returncode == (1 if status else 0)


def test_set_up_shows_on_a_terminal_what_a_noisy_command_is_at(tmp_path):
    shell = Path(__file__).parents[2] / "scripts/lib/shell.sh"
    ours, theirs = pty.openpty()
    code = 'source "$1"; quietly "$2" bash -c "echo Collecting torch; sleep 1.5"; say done'
    process = subprocess.Popen(
        ["bash", "-euc", code, "bash", shell, tmp_path / "pip.log"],
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    assert process.wait() == 0
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "0:01  Collecting torch" in shown or "0:02  Collecting torch" in shown
    assert shown.endswith("\r\x1b[K>> done\r\n"), "the line is gone when it is done"
