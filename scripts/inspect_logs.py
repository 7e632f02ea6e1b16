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


def last_run(state: Path) -> str:
    """What Snakemake wrote in the last run that had jobs, this one left out; empty for none."""
    for path in sorted((state / "log").glob("*.snakemake.log"), reverse=True):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "Job stats:" in text and not OWN.search(text):
            return text
    return ""


def failed_logs(text: str) -> list[Path]:
    """Log files of the jobs that failed in a run, in order."""
    named = (name for line in FAILED.findall(text) for name in line.split(", "))
    return [Path(name) for name in dict.fromkeys(named)]


def latest_logs(logs: Path) -> list[Path]:
    """The log files that were written last, the oldest of them first."""
    found = [path for path in logs.rglob("*.log") if path.name != "inspect_logs.log"]
    return sorted(found, key=lambda path: path.stat().st_mtime)[-LATEST:]


def shown(path: Path) -> str:
    """The end of a log under its name."""
    if not path.is_file():
        return f"{path}: no such file; the job ended before it wrote one"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"== {path}", *lines[-LINES:]])


def inspect(logs: Path, state: Path) -> Iterator[str]:
    """Parts of what is shown."""
    failed = failed_logs(last_run(state))
    yield f"{len(failed)} logs of jobs that failed:" if failed else "No job failed. The last logs:"
    yield from map(shown, failed or latest_logs(logs))


if __name__ == "__main__":
    told = "\n\n".join(inspect(Path(snakemake.params.logs), Path(".snakemake")))
    Path(snakemake.log[0]).write_text(f"{told}\n", encoding="utf-8")
    print(told)
