"""Progress of long jobs: done and total, rate and time left, on the terminal and in the log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
logger = logging.getLogger("grace.progress")


class _LoggedBar(tqdm):  # type: ignore[type-arg]  # tqdm is generic in its stubs only
    """A bar that logs its state as lines where no terminal can redraw it."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        logger.info("%s", msg or str(self))


def progress(items: Iterable[Item], total: int, label: str, unit: str) -> Iterator[Item]:
    """Pass the items through while reporting them every ten seconds."""
    options: dict[str, Any] = {"total": total, "desc": label, "unit": unit, "mininterval": 10}
    # What tqdm writes itself is an empty line at the end, which no terminal needs.
    yield from _LoggedBar(items, file=io.StringIO(), ascii=True, ncols=90, **options)
