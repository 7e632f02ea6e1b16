"""A plug-in for Snakemake that logs nothing: through it Grace checks the config before it is read.

Snakemake reads `--config` and `--configfile` before any Snakefile, and ends in a traceback, or
never, on some of what a user can write there. Before that it imports the packages on Python's path
whose names say that they are plug-ins; nothing else of a workflow comes so early.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from snakemake.exceptions import CliException
from snakemake_interface_logger_plugins.base import LogHandlerBase

T = TypeVar("T")
R = TypeVar("R")


class LogHandler(LogHandlerBase):
    """What Snakemake asks of a plug-in of this kind."""

    def __new__(cls, *_: Any, **__: Any) -> LogHandler:
        """Raise `CliException`: there is none."""
        raise CliException(
            "--logger grace: leave the option out; a run shows itself so without it."
        )


def read_before_snakemake(command_line: Any, settings: Any) -> None:
    """Put Grace's checks before Snakemake's readers of config values.

    The modules are those in which it calls them, `snakemake.cli` and `snakemake.settings.types`.
    """
    command_line.parse_config = _checked(
        command_line.parse_config, lambda sources, entries: sources.check_entries(entries)
    )
    settings.load_configfile = _checked(
        settings.load_configfile, lambda sources, path: sources.check_files([Path(path)])
    )


def _checked(read: Callable[[T], R], check: Callable[[Any, T], None]) -> Callable[[T], R]:
    """A reader behind a check, what that refuses shown as a mistake on the command line.

    Grace's modules are not left behind, since the workflow takes those beside its own Snakefile.
    """

    def checked(given: T) -> R:
        before = set(sys.modules)
        try:
            if given:
                sources = importlib.import_module("grace.settings.sources")
                try:
                    check(sources, given)
                except sources.ConfigError as error:
                    raise CliException(str(error)) from None
        except ImportError:
            pass  # another version of Grace comes first on the path: its Snakefile checks
        finally:
            for name in set(sys.modules) - before:
                if name.partition(".")[0] == "grace":
                    del sys.modules[name]
        return read(given)

    return checked


if "snakemake.cli" in sys.modules:  # not where only Snakemake's interfaces are used
    read_before_snakemake(sys.modules["snakemake.cli"], sys.modules["snakemake.settings.types"])
