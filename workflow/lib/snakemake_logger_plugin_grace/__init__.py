"""A plug-in for Snakemake that logs nothing: it has Grace read the config before Snakemake does.

Snakemake reads `--config` and `--configfile` before any Snakefile, and ends in a traceback, or
never, on some of what a user can write there. Before that it imports the packages on Python's path
whose names say that they are plug-ins; nothing else of a workflow comes so early.
"""

from __future__ import annotations

import sys
from typing import Any

from snakemake.exceptions import CliException
from snakemake_interface_logger_plugins.base import LogHandlerBase

from grace.settings.sources import read_before_snakemake


class LogHandler(LogHandlerBase):
    """What Snakemake asks of a plug-in of this kind."""

    def __new__(cls, *_: Any, **__: Any) -> LogHandler:
        """Raise `CliException`: there is none."""
        raise CliException("--logger grace: Grace has no log of its own. Leave the option out.")


if "snakemake.cli" in sys.modules:  # not where only its interfaces are used
    read_before_snakemake(sys.modules["snakemake.cli"], sys.modules["snakemake.settings.types"])
