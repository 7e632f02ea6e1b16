"""The data of the trial browser's page: columns and texts, compressed in blocks that are read when
they are needed.

A block is JSON, gzip, base64: its text has no character that means anything to HTML.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

#: Digits of measured numbers that the page keeps; the tables beside it have all.
DIGITS = 4
#: Characters of the texts in one block: few blocks to look into, each quickly unpacked.
TEXTS_IN_BLOCK = 400_000
_LEVEL = 6


def packed(value: Any) -> str:
    """A JSON value as the page holds it; the same for the same value."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    data = gzip.compress(text.encode("ascii"), _LEVEL, mtime=0)
    return base64.b64encode(data).decode("ascii")


def number(text: str) -> int | float | None:
    """The finite number that a cell of a table holds; None for anything else."""
    try:
        found = float(text)
    except ValueError:
        return None
    if not math.isfinite(found) or not text.isascii() or "_" in text:
        return None
    # Seeds have more digits than floats.
    return int(text) if text.lstrip("-").isdecimal() else found


class PackedColumn:
    """One column, a cell a row; empty cells are missing values.

    Args:
        rounded: Its numbers that are not whole keep `DIGITS` digits.
        is_text: It stays text though all of it may look like numbers.
    """

    def __init__(self, *, rounded: bool = False, is_text: bool = False) -> None:
        self._rounded, self._is_text = rounded and not is_text, is_text
        self._places: dict[str, int] = {}
        self._codes = array("I")

    def add(self, cell: str, row: int) -> None:
        """A row's cell; rows between the last one and it are empty."""
        self._fill(row)
        self._codes.append(self._place(cell))

    def add_all(self, cells: Sequence[str], first: int) -> None:
        """The cells of the rows from `first` on; those that have a value keep it."""
        if first < len(self._codes):  # the other experiment's table has the column, too
            for row, cell in enumerate(cells, start=first):
                if cell and self._codes[row] == self._places.get(""):
                    self._codes[row] = self._place(cell)
            return
        self._fill(first)
        self._codes.extend([self._place(cell) for cell in cells])

    def _place(self, cell: str) -> int:
        # Seeds are whole numbers of more digits.
        if self._rounded and "." in cell:
            with suppress(ValueError):
                cell = f"{float(cell):.{DIGITS}g}"
        return self._places.setdefault(cell, len(self._places))

    def _fill(self, rows: int) -> None:
        if len(self._codes) < rows:
            empty = self._places.setdefault("", len(self._places))
            self._codes.extend([empty] * (rows - len(self._codes)))

    @property
    def is_number(self) -> bool:
        """Whether every cell that is not empty holds a number."""
        cells = [cell for cell in self._places if cell]
        return not self._is_text and bool(cells) and all(number(one) is not None for one in cells)

    @property
    def is_empty(self) -> bool:
        """Whether no cell holds anything."""
        return not any(self._places)

    def encoded(self, rows: int) -> dict[str, list[Any]]:
        """`v`, the values of so many rows, or `d`, the distinct ones, with `c`, the place of each
        row's among them; null for a missing one.
        """
        self._fill(rows)
        cells = list(self._places)
        values: list[Any] = (
            [_short(number(cell)) for cell in cells]
            if self.is_number
            else [cell or None for cell in cells]
        )
        if len(cells) > rows / 2:
            return {"v": [values[code] for code in self._codes]}
        return {"d": values, "c": self._codes.tolist()}


def _short(value: int | float | None) -> int | float | None:
    return int(value) if isinstance(value, float) and value.is_integer() else value


class TextBlocks:
    """Long texts, each kept once, in blocks `<name>/0`, `<name>/1` and so on.

    A text's number is its place among all of them; `starts` are the first numbers of the blocks.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.blocks: dict[str, str] = {}
        self.starts: list[int] = []
        self._numbers: dict[bytes, int] = {}
        self._open: list[Any] = []
        self._characters = 0

    def number(self, value: Any) -> int:
        """The number under which a JSON value is kept."""
        text = json.dumps(value)
        key = hashlib.sha256(text.encode("ascii")).digest()
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._open.append(value)
            self._characters += len(text)
            if self._characters >= TEXTS_IN_BLOCK:
                self.close()
        return self._numbers[key]

    def close(self) -> None:
        """Pack what no block holds yet."""
        if self._open:
            self.starts.append(len(self._numbers) - len(self._open))
            self.blocks[f"{self._name}/{len(self.starts) - 1}"] = packed(self._open)
            self._open, self._characters = [], 0
