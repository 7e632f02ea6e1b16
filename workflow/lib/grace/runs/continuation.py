"""A model that fails does not keep the others from their report.

Snakemake stops at a failed job, or makes nothing of it with `--keep-going`: either way the report,
which needs all models, is not written. A run in which jobs of a model failed therefore goes on, in
the same process, as a run that leaves them out: Snakemake starts again with what failed in its
environment, and plans everything but that. Nothing on disk stands for a failure, so that the next
run, or one after `kill -9`, tries all of it again. The exit status is that of a failed run.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from grace.errors import ConfigError
from grace.source_code import LIBRARY

if TYPE_CHECKING:
    from grace.results.validation import Report

#: Environment variable that says what has failed before, for the run that goes on and its pods.
VARIABLE = "GRACE_FAILED"
#: Characters of a reason that are kept, and of all reasons together: an environment is no place for
#: more, and a server may have written them.
MOST_REASON, MOST_REASONS = 1000, 12_000
#: The stage of a replication that was left alone because another of its model had failed.
NOT_ASKED = "not asked"
#: Opens the text of `refusal_line`.
REFUSED = "replications that are refused: "
#: A line of a job's log that begins an error, and what ends its text in a pod's log.
_ERROR = re.compile(r"^\d\d:\d\d:\d\d ERROR (.*)$")
_END = re.compile(r"^(\d\d:\d\d:\d\d [A-Z]+ |RuleException|Traceback|\[|Error in |\s*$)")

Replication = tuple[str, int]


class Failure(BaseModel):
    """Why a replication of a model is left out. `stage` is the rule that failed, or `NOT_ASKED`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    replication: int
    study: str | None = None
    experiment: str | None = None
    stage: str
    reason: str

    @property
    def what(self) -> tuple[str, int]:
        """The replication that is left out."""
        return self.model, self.replication

    @property
    def step(self) -> str:
        """The rule and its study."""
        return " ".join(part for part in (self.stage, self.study) if part)


_FAILURES = TypeAdapter(list[Failure])


def from_environment(environment: Mapping[str, str]) -> list[Failure]:
    """What failed before this run went on; nothing in a run of its own. Raises `ConfigError`."""
    try:
        return _FAILURES.validate_json(environment.get(VARIABLE, "[]"))
    except ValidationError:
        raise ConfigError(
            f"{VARIABLE} is set in the environment, but not by a run of Grace. Unset it."
        ) from None


def encoded(failures: Sequence[Failure]) -> str:
    """For the environment; reasons are cut so that it has room for any number of failures."""
    asked = sum(one.stage != NOT_ASKED for one in failures)
    most = min(MOST_REASON, MOST_REASONS // max(1, asked))
    values = [{**one.model_dump(), "reason": _cut(one.reason, most)} for one in failures]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def reason_in(log: Path, since: float = 0) -> str | None:
    """The last error in a job's log or its pod's; None where it has none, or is of before `since`.

    `since` is in seconds since 1970.
    """
    found: list[str] | None = None
    open_ = False
    for line in _lines_of(log, since):
        begins = _ERROR.match(line)
        if begins:
            found, open_ = [begins[1]], True
        elif open_ and found is not None and not _END.match(line):
            found.append(line)
        else:
            open_ = False
    return "\n".join(found) if found else None


def _lines_of(log: Path, since: float) -> list[str]:
    """A log's lines; none where it is not there, or is of before `since`."""
    try:
        if log.stat().st_mtime < since:
            return []
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def invalid(validations: Iterable[Report]) -> list[Failure]:
    """The replications whose checks failed, with the first of these."""
    found = []
    for report in validations:
        failed = [check for check in report.checks if not check.passed]
        if failed:
            more = f" (and {len(failed) - 1} more checks)" if len(failed) > 1 else ""
            first = f"{report.failures()[0]}{more}"
            found.append(
                Failure(
                    model=report.model_key,
                    replication=report.replication,
                    study=failed[0].study,
                    experiment=failed[0].experiment,
                    stage="validate",
                    reason=f"validation failed: {first}; see its validation.json",
                )
            )
    return found


def refusal_line(failures: Sequence[Failure]) -> str:
    """What `merge` logs of the replications that it refuses, for the run that goes on without.

    A log is what comes back from a pod, too, where another file would not.
    """
    return REFUSED + encoded(failures)


def refusals_in(log: Path, since: float = 0) -> list[Failure]:
    """The replications that a `merge` refused, from its log or its pod's; none in older logs.

    `since` is in seconds since 1970.
    """
    found: list[Failure] = []
    for line in _lines_of(log, since):
        _, mark, values = line.partition(f" INFO {REFUSED}")
        if mark:
            with suppress(ValidationError):  # a line that was cut tells as much as none
                found += _FAILURES.validate_json(values)
    return found


def lines(failures: Sequence[Failure]) -> list[str]:
    """A line for what failed with its reason; replications that went with it are only named."""
    after: dict[str, list[Failure]] = {}
    for one in failures:
        after.setdefault(one.model, [])
        if one.stage == NOT_ASKED:
            after[one.model].append(one)
    found = []
    for one in failures:
        if one.stage == NOT_ASKED:
            continue
        others = after.pop(one.model, [])
        skipped = ", ".join(str(other.replication) for other in others)
        found.append(
            f"model '{one.model}', replication {one.replication}"
            + (f" (so that {skipped} was not asked)" if skipped else "")
            + f": {one.step}: {one.reason}"
        )
    return found


def summary(failures: Sequence[Failure], *, went_on: bool) -> str:
    """The last words of a run: what failed, each with its reason."""
    made = "What could be made without these is made" if went_on else "These failed"
    return "\n".join([f"{made}; the same command tries them again:", *lines(failures)])


#: The process that goes on: this library's, whatever another environment has under its name.
_GOES_ON = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from grace.runs.continuation import main; main(sys.argv.pop(1))"
)


def go_on(
    failures: Sequence[Failure], forced: Sequence[str], state: Path, arguments: Sequence[str]
) -> None:
    """Become a run of the rest; `forced` are files that the run was to rebuild, and has not.

    `state` is Snakemake's folder, `arguments` are Snakemake's, as the user gave them. Returns where
    that cannot be, which it says.
    """
    print("\nThe run goes on without:", *lines(failures), "", sep="\n", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    forced_file = state / "grace-forced.json"
    library = str(LIBRARY.parent)
    command = [sys.executable, "-P", "-c", _GOES_ON, library, str(forced_file), *arguments]
    try:
        forced_file.write_text(json.dumps(list(forced)), encoding="utf-8")
        os.execve(sys.executable, command, {**os.environ, VARIABLE: encoded(failures)})
    except OSError as error:
        print(f"It cannot: {error}.", file=sys.stderr)


def started_by_command(program: str) -> bool:
    """Whether a program's name is that of the command `snakemake`, so that it can be run again."""
    return "snakemake" in (Path(program).name, Path(program).parent.name)


def main(forced_file: str, run: Callable[[Any, Any], object] | None = None) -> NoReturn:
    """Snakemake with this process's arguments; only the files listed in `forced_file` are forced.

    Exits as a failed run does, whatever becomes of the rest.
    """
    from snakemake.cli import args_to_api, parse_args
    from snakemake.exceptions import print_exception

    sys.argv[0] = "snakemake"
    try:
        forced = json.loads(Path(forced_file).read_text(encoding="utf-8"))
        Path(forced_file).unlink()
        parser, args = parse_args(sys.argv[1:])
        args.force = args.forceall = False
        args.forcerun = set(forced)
        (run or args_to_api)(args, parser)
    except Exception as error:
        print_exception(error)
    sys.exit(1)
