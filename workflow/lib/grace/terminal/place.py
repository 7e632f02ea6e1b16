"""How what Grace shows takes the place of Snakemake's own lines, and when it does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from grace.errors import ConfigError
from grace.runs.scripting import JOB_LOGS
from grace.terminal.handler import TerminalLog
from grace.terminal.plan import PlannedJob

#: Environment variable that says how a run shows itself, and its values.
VARIABLE, VALUES = "GRACE_TERMINAL", ("table", "plain", "snakemake")


def take_place(
    manager: Any,
    plan: Callable[[], Sequence[PlannedJob]],
    environment: MutableMapping[str, str] = os.environ,
) -> TerminalLog | None:
    """Replace the handler that writes to the terminal; None where Snakemake's own stays.

    It stays where the user asks for another (`--logger`), or for what it alone shows (`--verbose`,
    `--printshellcmds`, `--debug-dag`), or sets `GRACE_TERMINAL=snakemake`. Jobs then log to the
    terminal, too, which those of the results otherwise leave to their files. It is done in the
    Snakefile and not by `--logger`, since the library need not be on the path of the Python that
    reads the command line.

    Args:
        manager: Snakemake's `LoggerManager`.
        plan: The jobs that the run needs.
        environment: Of this process, which its jobs inherit.

    Raises `ConfigError`.
    """
    wanted = environment.get(VARIABLE) or VALUES[0]
    if wanted not in VALUES:
        raise ConfigError(
            f"{VARIABLE} is '{wanted}' in the environment, but must be one of {', '.join(VALUES)}."
        )
    settings = manager.settings
    own = [one for one in manager.logger.handlers if one.name == "DefaultStreamHandler"]
    asked = settings.verbose or settings.debug_dag or settings.printshellcmds
    if not own or asked or wanted == VALUES[2]:
        environment.pop(JOB_LOGS, None)
        return None
    stream = sys.stdout if settings.stdout else sys.stderr
    follow = wanted == VALUES[0] and can_redraw(stream)
    shown = TerminalLog(settings, plan, stream, follow=follow, environment=environment)
    shown.addFilter(manager._default_filter())
    manager.logger.removeHandler(own[0])
    manager.logger.addHandler(shown)
    return shown


def can_redraw(stream: Any) -> bool:
    """Whether lines that were written can be written over."""
    return bool(stream.isatty()) and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
