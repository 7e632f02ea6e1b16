"""What a run shows: a table that follows it on a terminal, plain lines where there is none.

A handler as Snakemake's logger plug-ins are, in the place of its own that writes to the terminal.
The log file in `.snakemake/log` is another handler's and stays complete.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from grace.foreign_text import for_log
from grace.runs.scripting import JOB_LOGS
from grace.terminal import job_log
from grace.terminal.plan import PlannedJob, counted, plural, why
from grace.terminal.progress import Progress, TimeLeft, duration, left_in_words

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

#: Redraws a second, and how many running jobs' logs are looked at once a second.
_REDRAWS, _MOST_LOGS = 2, 8
#: Jobs from which on a table says more than lines do.
_FEW = 4
#: Lines of an executor's words on a failed job.
_MOST_WORDS = 5
#: Columns of lines where no terminal says how many it has.
_WIDTH = 100
#: Beginnings of what Snakemake says of its own working, which the log file keeps.
_CHATTER = (
    "Using shell: ", "Provided remote nodes: ", "Provided cores: ", "Provided resources: ",
    "Rules claiming more threads", "Group jobs: inactive", "Conda environments: ignored",
    "Singularity containers: ignored", "Building DAG of jobs", "Updating checkpoint dependencies",
    "Select jobs to execute", "Execute ", "Reasons:\n", "Some jobs were triggered by provenance",
    "Rules with provenance triggered jobs", "Removing temporary output",
    "Processed ", "Assuming unrestricted shared filesystem", "Job rate limit reached",
)  # fmt: skip
#: What it says when it is told to end.
_TOLD = "Terminating processes on user request"
#: What it says of a failed job beside the job's own error, which is shown with the end of its log.
_OF_FAILED = re.compile(
    r"(RuleException:\s+)?CalledProcessError in file .*"
    r"(returned non-zero exit status \d+|died with <Signals\.SIG(INT|TERM): \d+>)\.\s*"
    r"|Exiting because a job execution failed\..*"
    r"|WorkflowError:\s+At least one job did not complete successfully\.\s*",
    re.S,
)
#: How Snakemake names its log file.
_LOG_FILE = "Complete log(s): "
#: Events of which only the log file says anything.
_UNSHOWN = frozenset(
    {
        LogEvent.WORKFLOW_STARTED, LogEvent.SHELLCMD, LogEvent.JOB_STARTED, LogEvent.GROUP_INFO,
        LogEvent.RESOURCES_INFO, LogEvent.DEBUG_DAG, LogEvent.PROGRESS, LogEvent.RULEGRAPH,
    }
)  # fmt: skip


class TerminalLog(LogHandlerBase):
    """Shows what a person wants to know of a run.

    Args:
        settings: Snakemake's `OutputSettings`.
        plan: The jobs that the run needs; asked once, when Snakemake knows them.
        stream: Where to write.
        follow: Whether a table may be drawn again and again.
        clock: Seconds.
        environment: Of this process, which its jobs inherit.
    """

    def __init__(
        self,
        settings: Any,
        plan: Callable[[], Sequence[PlannedJob]],
        stream: TextIO,
        *,
        follow: bool,
        clock: Callable[[], float] = time.monotonic,
        environment: MutableMapping[str, str] = os.environ,
    ) -> None:
        super().__init__(settings, None)
        self._plan, self._stream, self._clock = plan, stream, clock
        self._follow, self._environment = follow, environment
        environment.pop(JOB_LOGS, None)
        self._began = clock()
        self._progress: Progress | None = None
        self._logs: dict[int, list[str]] = {}
        self._said: set[str] = set()
        self._shown_logs: set[str] = set()
        self._far: dict[int, int] = {}
        self._log_file = ""
        self._told_to_end = False
        self._left: TimeLeft | None = None
        self._counted = float("-inf")
        self._console: Console | None = None
        self._live: Live | None = None
        # Of what the table shows. Never held while anything is written: rich asks for the table
        # with a lock of its own, which it also needs to write.
        self._state = threading.Lock()

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = True
    needs_rulegraph = False

    def emit(self, record: logging.LogRecord) -> None:
        """Show what a record says, if it is for people."""
        try:
            self._show(record)
        except BrokenPipeError:
            raise
        except (KeyboardInterrupt, SystemExit):
            pass  # as Snakemake's own handler does
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Leave the table as it is now, and the terminal as it was."""
        self._stop()
        super().close()

    def _show(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        said: Mapping[str, Any] = vars(record)
        if event in _UNSHOWN:
            return
        if event == LogEvent.RUN_INFO:
            self._begin()
        elif event == LogEvent.JOB_INFO:
            self._job_begins(said)
        elif event == LogEvent.JOB_FINISHED:
            self._job_ends(int(said["job_id"]))
        elif event == LogEvent.JOB_ERROR:
            self._job_fails(said)
        elif event == LogEvent.GROUP_ERROR:
            self._group_fails(said)
        else:
            self._words(record)

    def _words(self, record: logging.LogRecord) -> None:
        """What Snakemake says in words, but of its own working; warnings once."""
        text = "" if record.msg is None else record.getMessage().rstrip()
        if text.startswith(_LOG_FILE):
            self._log_file = text.removeprefix(_LOG_FILE)
        elif text.startswith("Elapsed time: "):
            self._sum_up()
        elif not text or _OF_FAILED.fullmatch(text):
            return
        elif record.levelno > logging.INFO or not text.startswith(_CHATTER):
            self._say(record, text)

    def _say(self, record: logging.LogRecord, text: str) -> None:
        self._told_to_end |= text.startswith(_TOLD)
        if record.levelno == logging.WARNING and text in self._said:
            return
        self._said.add(text)
        styles = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}
        self._write(text, styles.get(record.levelno, ""))

    def _begin(self) -> None:
        """What is going to run, and why; said once, since a dry-run counts its jobs twice."""
        if self._progress is not None:
            return
        jobs = self._plan()
        self._progress = Progress(jobs)
        self._began = self._clock()
        if not jobs:
            return
        # Who asks for a check or an archive is waiting for what that logs.
        speaks = any(job.speaks for job in jobs)
        if not speaks:
            self._environment[JOB_LOGS] = "file"
        dry = self.common_settings.dryrun
        lines = [f"{plural(len(jobs), 'job')} {'would run' if dry else 'to run'}"]
        if len(jobs) >= _FEW:
            self._follow = self._follow and not dry and not speaks
            if not self._follow:
                lines += ["", *(f"  {line}" for line in counted(jobs)), ""]
        else:
            self._follow = False
            if dry:
                lines += [f"  {job.what}" for job in jobs]
        lines += [f"  {for_log(job.message)}" for job in jobs if job.speaks and job.message]
        if len(lines) == 1:
            lines = [f"{lines[0]}. Why:"]
        else:
            lines.append("Why:")
        self._write("\n".join([*lines, *why(jobs, self._width()), ""]))

    def _job_begins(self, said: Mapping[str, Any]) -> None:
        if self.common_settings.dryrun or self._progress is None:
            return
        jobid = int(said["jobid"])
        with self._state:
            self._logs[jobid] = [str(path) for path in said["log"]]
            self._progress.start(jobid, self._now())
        if self._follow and self._live is None:
            self._start()

    def _job_ends(self, jobid: int) -> None:
        if self._progress is None:
            return
        now = self._now()
        with self._state:
            took = self._progress.finish(jobid, now)
            logs = self._logs.pop(jobid, [])
        job = self._progress.jobs.get(jobid)
        for path in map(_plain_path, logs):
            for text in job_log.warnings(Path(path)):
                if text not in self._said:
                    self._said.add(text)
                    self._write(f"Warning: {text} ({job.what if job else path})", "yellow")
        if job is None or self._live is not None:
            return
        # The words of Snakemake's own log, which scripts may look for.
        done, total = self._progress.done, self._progress.total
        line = f"{done:,} of {total:,} steps ({100 * done // total}%) done: {job.what}"
        if took is not None:
            line += f", in {duration(took)}"
        left = left_in_words(self._time_left(now)) if done < total else ""
        self._write(f"{line}; {left}" if left else line)

    def _job_fails(self, said: Mapping[str, Any]) -> None:
        """Which job failed, and the end of its log, which is shown once."""
        jobid = int(said["jobid"])
        job = None
        if self._told_to_end:
            return  # it did not fail
        if self._progress is not None:
            with self._state:
                self._progress.fail(jobid, self._now())
                self._logs.pop(jobid, None)
            job = self._progress.jobs.get(jobid)
        logs = [_plain_path(str(path)) for path in said["log"]]
        lines = [f"  {line}" for line in str(said["rule_msg"] or "").splitlines()[:_MOST_WORDS]]
        lines += self._ends(logs)
        if said.get("shellcmd") and not logs:
            lines.append(f"  It ran: {said['shellcmd']}")
        if said.get("indent") and not lines:
            return  # one of a group, of which everything is said
        what = job.what if job is not None else f"rule {said['rule_name']}"
        self._write("\n".join([f"Failed: {what}", *lines]), "red")

    def _group_fails(self, said: Mapping[str, Any]) -> None:
        """Jobs of one pod; what each of them logged is shown with its own failure, if at all."""
        found = [int(one["jobid"]) for one in said["job_error_info"]]
        known = self._progress.jobs if self._progress is not None else {}
        first = next((known[jobid].what for jobid in found if jobid in known), said["groupid"])
        more = f" and {plural(len(found) - 1, 'more job')} of its pod" if len(found) > 1 else ""
        lines = self._ends([str(path) for path in said["aux_logs"]])
        self._write("\n".join([f"Failed: {first}{more}", *lines]), "red")

    def _ends(self, logs: Sequence[str]) -> list[str]:
        """The ends of logs that were not shown yet, and where these are."""
        lines: list[str] = []
        for path in logs:
            shown, cut = job_log.last_lines(Path(path))
            text = "\n".join(shown)
            if not shown or text in self._shown_logs:
                continue
            self._shown_logs.add(text)
            if self.common_settings.show_failed_logs:
                lines += [f"  | {line}" for line in (["..."] if cut else []) + shown]
            lines.append(f"  Its log: {path}")
        return lines

    def _sum_up(self) -> None:
        """At the end of a run; the table, which stays, has the numbers."""
        drawn = self._live is not None
        self._stop()
        if self._progress is not None and not drawn:
            done = f"{self._progress.done:,} of {plural(self._progress.total, 'job')} done"
            self._write(f"{done} in {duration(self._now())}")
        if self._log_file:
            self._write(f"Snakemake's log: {os.path.relpath(self._log_file)}")

    def _now(self) -> float:
        return self._clock() - self._began

    def _time_left(self, now: float) -> TimeLeft | None:
        """At most once a second: it looks at all kinds of jobs there are."""
        if self._progress is not None and now - self._counted >= 1:
            self._counted = now
            self._left = self._progress.seconds_left(now, self._look(now))
        return self._left

    def _look(self, now: float) -> dict[int, float]:
        """Seconds that running jobs say they still need; `_far` is how far they say they are."""
        assert self._progress is not None
        rest: dict[int, float] = {}
        self._far = {}
        for jobid in list(self._progress.began)[:_MOST_LOGS]:
            for path in self._logs.get(jobid, []):
                if found := job_log.how_far(Path(_plain_path(path))):
                    self._far[jobid] = found[0]
                    if found[1] is not None:
                        rest[jobid] = found[1]
        return rest

    def _width(self) -> int:
        return self._terminal().width if self._follow else _WIDTH

    def _terminal(self) -> Console:
        """Imports rich only for a terminal: a dry-run is no slower for it."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                file=self._stream,
                highlight=False,
                no_color=True if self.common_settings.nocolor else None,
            )
        return self._console

    def _start(self) -> None:
        from rich.live import Live

        self._live = Live(
            console=self._terminal(),
            get_renderable=self._table,
            refresh_per_second=_REDRAWS,
            redirect_stdout=False,
        )
        self._live.start()

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            self._follow = False
            live.stop()

    def _table(self) -> RenderableType:
        """What rich draws, in a thread of its own, between two records."""
        from grace.terminal.table import table

        with self._state:
            assert self._progress is not None
            now = self._now()
            left = self._time_left(now)
            shown = left if self._follow else None  # at the end none is
            return table(self._progress, now, self._terminal().height, self._far, shown)

    def _write(self, text: str, style: str = "") -> None:
        text = for_log(text)
        if self._live is not None or (style and self._stream.isatty()):
            from rich.text import Text

            self._terminal().print(Text(text, style=style), soft_wrap=True)
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def _plain_path(shown: str) -> str:
    """A log's path; Snakemake adds in brackets what is special about a file."""
    return shown.partition(" (")[0]
