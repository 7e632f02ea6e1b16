"""What every script's `__main__` does: log to its file, show a user's mistake plainly, and record
how its outputs were made.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from grace import modules
from grace.errors import GraceError, RecordError
from grace.foreign_text import for_log
from grace.provenance import environment, sidecars
from grace.settings.config import Config
from grace.source_code import LIBRARY, SourceFile, joined_digest

#: Params that are no part of what made an output: `code` and `sources` are recorded on their own,
#: and `runtime` cannot change a byte.
NOT_SETTINGS = ("code", "sources", "runtime")
DEFAULT_RESULTS = Config.model_fields["results"].default
#: Environment variable of jobs whose run shows their logs itself: "file" for no line of their own.
JOB_LOGS = "GRACE_JOB_LOGS"
FORMAT, TIME = "%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"


#: Mark of an exception whose traceback is in the log.
_LOGGED = "_grace_logged"


def _only_unlogged(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Python's last words on an exception, but of Ctrl-C and of what is in the log."""
    if not (issubclass(kind, KeyboardInterrupt) or getattr(error, _LOGGED, False)):
        sys.__excepthook__(kind, error, trace)


class _Formatter(logging.Formatter):
    """Errors quote files, servers and models, whose text may command a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return for_log(super().format(record))


@contextmanager
def logged(log_path: str) -> Iterator[None]:
    """Log to `log_path` and the terminal; end with the message alone on a `GraceError`.

    The exit status is then 1. Other exceptions are bugs and keep their traceback. Where the run
    shows what its jobs log (`JOB_LOGS`), nothing goes to the terminal: it would be there twice.
    """
    handlers: list[logging.Handler] = [logging.FileHandler(log_path, "w", encoding="utf-8")]
    quiet = os.environ.get(JOB_LOGS) == "file"
    if quiet:
        sys.excepthook = _only_unlogged
    else:
        handlers.append(logging.StreamHandler())
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Formatter(FORMAT, TIME))
    # These log every request and every file they open.
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        yield
    except GraceError as error:
        logging.error("%s", error)
        sys.exit(1)
    except Exception as error:
        logging.exception("a bug in Grace, please report it:")
        error.__dict__[_LOGGED] = True
        raise


def show(text: str, log_path: str) -> None:
    """Show a text on the terminal, and keep it as the job's log."""
    path = Path(log_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="utf-8")
    print(text, flush=True)


@contextmanager
def job(snakemake: Any, script: str) -> Iterator[dict[str, Any]]:
    """Run a job's work: logged, on inputs that are whole, and with its outputs recorded.

    `snakemake` is the object that Snakemake puts into a script and `script` the script's
    `__file__`, in the project's scripts/. What the block puts into the dict that it is given is
    recorded, too.
    """
    results = str(snakemake.config.get("results", DEFAULT_RESULTS))
    root = Path(script).resolve().parents[1]
    with logged(snakemake.log[0]):
        code = _sources(root, snakemake.params.sources)
        outputs = list(dict.fromkeys(str(path) for path in snakemake.output))
        sidecars.forget(outputs)
        inputs = sidecars.input_digests(map(str, snakemake.input), results)
        facts = {
            "rule": snakemake.rule,
            "wildcards": dict(snakemake.wildcards.items()),
            "started": environment.now(),
            "inputs": inputs,
            "input_records": sidecars.input_records(inputs),
            "code": {path: source.digest for path, source in code.items()},
            "code_digest": joined_digest(code),
            **environment.git_state(root),
            "settings": {
                name: value for name, value in snakemake.params.items() if name not in NOT_SETTINGS
            },
        }
        extra_facts: dict[str, Any] = {}
        yield extra_facts
        facts |= {
            "hardware": environment.hardware(gpus=False),
            "versions": environment.versions(),
            **extra_facts,
            "completed": environment.now(),
        }
        sidecars.write_sidecars(outputs, results, facts)


def _sources(root: Path, code: modules.Code) -> dict[str, SourceFile]:
    """The scripts and modules behind a job, as it runs them.

    Raises `RecordError` where they are not those that the job was planned with, and recorded by
    Snakemake: edited since, or of another checkout.
    """
    found = modules.sources(root, code["scripts"], code["modules"])
    if joined_digest(found) != code["digest"]:
        raise RecordError(
            f"the code in {root / 'scripts'} or {LIBRARY} is not what this run was planned with."
            " If it was edited while the workflow ran, run the same command again. If this project"
            " lies somewhere else, use its own environment (`make setup`)."
        )
    return found
