"""transformers for tokenisers alone: without torch, whose import takes longer than most jobs."""

from __future__ import annotations

import os
import sys

from grace.runs import startup


def use_tokenizers_alone() -> None:
    """Have transformers do without torch in this process, if it is a job of a run.

    It imports torch wherever that is installed, also for a tokeniser, which needs none of it. Jobs
    of a run load no model: it is in a process that they share. In a process that has imported
    torch or transformers already, nothing happens.
    """
    if startup.current_run() is None:
        return
    if sys.modules.keys() & {"torch", "transformers"}:
        return
    quiet = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(quiet)
    os.environ[quiet] = "1"  # torch is not missing: it is not wanted
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        # It looks once, while it is imported, and keeps what it found.
        import transformers  # noqa: F401
    finally:
        del sys.modules["torch"]
        os.environ.pop(quiet)
        if before is not None:
            os.environ[quiet] = before
