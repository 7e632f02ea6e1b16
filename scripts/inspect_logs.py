"""Show the logs of jobs that failed in the last run or, if none did, of those that ended last."""

import re
from collections.abc import Iterator
from pathlib import Path

LINES = 40
"""Last lines of a log that are shown."""
LATEST = 3
"""Logs that are shown where nothing failed."""
FAILED = re.compile(r"(?m)^\s+log: (.+) \(check log file\(s\) for error details\)$")
OWN = re.compile(r"(?m)^inspect_logs +1$")


def last_run(state: Path) -> tuple[Path, str] | None:
    """Snakemake's record of the last run that had jobs, this one left out, and what it holds."""
    for path in sorted((state / "log").glob("*.snakemake.log"), reverse=True):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "Job stats:" in text and not OWN.search(text):
            return path, text
    return None


def failed_logs(text: str) -> list[Path]:
    """Log files of the jobs that failed in a run, in order."""
    named = (name for line in FAILED.findall(text) for name in line.split(", "))
    return [Path(name) for name in dict.fromkeys(named)]


def latest_logs(logs: Path) -> list[Path]:
    """The log files that were written last, the oldest of them first."""
    found = [path for path in logs.rglob("*.log") if path.name != "inspect_logs.log"]
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
    run = last_run(state)
    if run is None:
        yield (
            f"There is no record of a run in this folder ({state / 'log'}), so that nobody knows"
            " whether a job failed. `make cluster-fetch` brings that of a run on a cluster."
        )
        failed, heading = [], "The last logs:"
    else:
        path, text = run
        yield f"The last run, by {path}:"
        failed = [here(log, state) for log in failed_logs(text)]
        heading = "No job failed. The last logs:"
    yield f"{len(failed)} logs of jobs that failed:" if failed else heading
    yield from map(shown, failed or latest_logs(logs))


if __name__ == "__main__":
    told = "\n\n".join(inspect(Path(snakemake.params.logs), Path(".snakemake")))
    Path(snakemake.log[0]).write_text(f"{told}\n", encoding="utf-8")
    print(told)
