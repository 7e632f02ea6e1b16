"""transformers for tokenisers alone: without torch, whose import takes longer than most jobs."""

from __future__ import annotations

import os
import sys


def use_tokenizers_alone() -> None:
    """Have transformers, in this process, do without torch.

    It imports torch wherever that is installed, also for a tokeniser, which needs none of it. For
    processes that load no model; in one that has imported either already, nothing happens.
    """
    if "torch" in sys.modules or "transformers" in sys.modules:
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
