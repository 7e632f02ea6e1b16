"""Show the logs of jobs that failed and were not made since or, where none did, the last logs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LINES = 40
"""Last lines of a log that are shown."""
LATEST = 3
"""Logs that are shown where nothing failed."""
STAMP = re.compile(r"^ *\[\w{3} \w{3} [\d :]+\]")
RULE = re.compile(r"^ *(?:Error in )?rule (\w+):$")
GROUP = re.compile(r"^ +message: Error in group ")
FACT = re.compile(
    r"^ +(?:(jobid|output): (.+)|(log): (.+) \(check log file\(s\) for error details\))$"
)
FINISHED = re.compile(r"^Finished jobid: (\d+) \(Rule: (\w+)\)$")
FAILED = "Exiting because a job execution failed"
OWN = re.compile(r"(?m)^(?:job|inspect)_logs +1$|^  Command: .*\b(?:job|inspect)_logs\b")
OWN_LOGS = {"job_logs.log", "inspect_logs.log"}


@dataclass
class Failure:
    """A job that failed in a run, as Snakemake's record of that run has it."""

    rule: str
    jobid: str = ""
    outputs: list[str] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)

    def stands(self, finished_since: set[str]) -> bool:
        """Whether it was not made since; Snakemake removes the outputs of a job that fails.

        Where it has no output on this machine, a job of its rule in a later run has to do.
        """
        if self.outputs and not any("://" in name for name in self.outputs):
            return not all(Path(name).exists() for name in self.outputs)
        return self.rule not in finished_since


@dataclass
class Run:
    """What Snakemake's record of a run says of its jobs."""

    record: Path
    failures: list[Failure] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)
    """Rules of which a job finished."""
    failed: bool = False
    """Whether a job failed at last; with `--quiet` the record does not name it."""


def runs(state: Path) -> list[Run]:
    """The runs that Snakemake keeps records of, this kind left out, the latest first."""
    found = []
    for path in sorted((state / "log").glob("*.snakemake.log"), reverse=True):
        text = path.read_text(encoding="utf-8", errors="replace")
        if not OWN.search(text) and ("Job stats:" in text or FAILED in text):
            found.append(read_run(path, text, state))
    return found


def read_run(path: Path, text: str, state: Path) -> Run:
    """A run from the text of its record; a job that was tried again and finished did not fail."""
    run = Run(path, failed=FAILED in text)
    job: Failure | None = None
    of_the_group: list[Path] = []
    in_error = False
    for line in _without_logs(text.splitlines()):
        if finished := FINISHED.match(line):
            run.finished.add(finished[2])
            made = (finished[2], finished[1])
            run.failures = [one for one in run.failures if (one.rule, one.jobid) != made]
        elif STAMP.match(line) or not line.startswith(" "):
            job, of_the_group, in_error = None, [], False
        if rule := RULE.match(line):
            job, in_error = Failure(rule[1], logs=list(of_the_group)), True
            run.failures.append(job)
        elif GROUP.match(line):
            in_error = True
        elif in_error and (fact := FACT.match(line)):
            if fact[3]:
                logs = [here(Path(name), state) for name in fact[4].split(", ")]
                (of_the_group if job is None else job.logs).extend(logs)
            elif job is not None and fact[1] == "output":
                job.outputs += fact[2].split(", ")
            elif job is not None:
                job.jobid = fact[2]
    run.failures = [one for one in run.failures if one.logs]
    return run


def _without_logs(lines: list[str]) -> Iterator[str]:
    """The record's own lines: Snakemake copies failed jobs' logs into it, a pod's records too."""
    rule = ""
    before = ""
    for line in lines:
        if rule:
            rule = "" if line == rule else rule
        elif before.startswith("Logfile ") and line and not line.strip("="):
            rule = line
        else:
            yield line
        before = line


def standing(found: list[Run]) -> Iterator[tuple[Run, list[Path]]]:
    """Runs, the latest first, with the logs of those of their jobs that were not made since.

    Of an earlier run only logs that are still there.
    """
    finished: set[str] = set()
    listed: set[Path] = set()
    for run in found:
        logs = [
            log
            for failure in run.failures
            if failure.stands(finished)
            for log in failure.logs
            if run is found[0] or log.is_file()
        ]
        new = [log for log in dict.fromkeys(logs) if log not in listed]
        listed.update(new)
        finished |= run.finished
        if new:
            yield run, new


def latest_logs(logs: Path) -> list[Path]:
    """The log files that were written last, the oldest of them first."""
    found = [path for path in logs.rglob("*.log") if path.name not in OWN_LOGS]
    return sorted(found, key=lambda path: path.stat().st_mtime)[-LATEST:]


def here(path: Path, state: Path) -> Path:
    """Where a file of Snakemake's own lies that a run on a cluster names by its place there."""
    if state.name not in path.parts:
        return path
    return state.joinpath(*path.parts[path.parts.index(state.name) + 1 :])


def shown(path: Path) -> str:
    """The end of a log under its name."""
    if not path.is_file():
        return f"{path}: no such file here; the job ended before it wrote one"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"== {path}", *lines[-LINES:]])


def inspect(logs: Path, state: Path) -> Iterator[str]:
    """Parts of what is shown."""
    found = runs(state)
    if not found:
        yield (
            f"There is no record of a run in this folder ({state / 'log'}), so that no one knows"
            " whether a job failed. `make cluster-fetch` brings that of a run on a cluster."
        )
        yield "The last logs:"
        yield from map(shown, latest_logs(logs))
        return
    last = found[0]
    yield f"The last run, by {last.record}:"
    failures = list(standing(found))
    for run, failed in failures:
        earlier = f" in an earlier run, by {run.record}, and were not made since"
        yield f"{len(failed)} logs of jobs that failed{'' if run is last else earlier}:"
        yield from map(shown, failed)
    if last.failed and not last.failures:
        yield (
            "A job failed in it, but its record does not name a log of it, as after `--quiet`."
            " The last logs:"
        )
        yield from map(shown, latest_logs(logs))
    elif not failures:
        made = "What failed in it was made since." if last.failures else "No job failed."
        yield f"{made} The last logs:"
        yield from map(shown, latest_logs(logs))


if __name__ == "__main__":
    text = "\n\n".join(inspect(Path(snakemake.params.logs), Path(".snakemake")))
    Path(snakemake.log[0]).write_text(f"{text}\n", encoding="utf-8")
    print(text)
