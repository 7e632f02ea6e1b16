"""What every script's `__main__` does: log to its file, and show a user's mistake plainly."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from grace.errors import GraceError


@contextmanager
def logged(log_path: str) -> Iterator[None]:
    """Log to `log_path` and the terminal; end with the message alone on a `GraceError`.

    The exit status is then 1. Other exceptions are bugs and keep their traceback.
    """
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[logging.FileHandler(log_path, "w", encoding="utf-8"), logging.StreamHandler()],
        force=True,
    )
    # These tell of every request and every file they open.
    for chatty in ("httpx", "httpcore", "urllib3", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        yield
    except GraceError as error:
        logging.error("%s", error)
        sys.exit(1)
    except Exception:
        logging.exception("a bug in Grace, please report it:")
        raise
