"""A time limit for regular expressions, which `re` itself does not have."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from grace.errors import ConfigError
from grace.prompts.plain_text import shortened

#: Seconds for one pattern and one text.
LIMIT_S = 20


@contextmanager
def patience(pattern: re.Pattern[str]) -> Iterator[None]:
    """Ends a search that takes longer than `LIMIT_S`, by `ConfigError`, in the main thread.

    `re` looks for signals while it searches. Other threads cannot be interrupted; neither jobs nor
    the reading of a workflow search in any.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getitimer(signal.ITIMER_REAL)[0] > 0
    ):
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        raise ConfigError(
            f"the pattern {shortened(pattern.pattern)} takes more than {LIMIT_S} s on one text."
            " Take out what can match the same characters in many ways, such as (a+)+."
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
