"""Text that others wrote, as our files and logs can hold it: what cannot be kept shows as U+FFFD.

Servers, models and old journals hand over whatever they like. JSON and Parquet are UTF-8, which has
no lone surrogates, and readers of CSV files end a text at U+0000.
"""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"
MOST_IN_NAME = 128
"""Characters of a name that a server gives, such as a model's; further ones are cut off."""
MOST_IN_MESSAGE = 500
"""Characters of an error message; further ones are cut off."""

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
#: Control characters but tab and line feed, what turns the direction of text, lone surrogates.
_NOT_IN_LOGS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9 ._:/@+=,#~-]")
_CUT = "..."


class NotUtf8Error(ValueError):
    """Its text says where, such as "line 3: not UTF-8 (byte 0xe9)"."""


def decoded(data: bytes) -> str:
    """The text of a file that somebody wrote, with or without a mark of UTF-8 at its start.

    Raises `NotUtf8Error`.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise NotUtf8Error(f"line {line}: not UTF-8 (byte 0x{data[error.start]:02x})") from None


def writable(text: str) -> tuple[str, int]:
    """The text without what no file of ours can hold, and how many characters were replaced."""
    return _UNWRITABLE.subn(REPLACEMENT, text)


def plain_name(value: object) -> tuple[str | None, int]:
    """A name that a server gives, as plain characters, and how many others were replaced.

    None for none. Of a value that is no text, the name is its text in Python. Characters that mean
    something to Markdown, HTML or a terminal are none of a name's.
    """
    if value is None or value == "":
        return None, 0
    text = value if isinstance(value, str) else repr(value)
    found, replaced = _NOT_IN_NAMES.subn(REPLACEMENT, text[:MOST_IN_NAME])
    return (f"{found}{_CUT}" if len(text) > MOST_IN_NAME else found), replaced


def message(text: str, most: int = MOST_IN_MESSAGE) -> str:
    """An error message on one line, at most `most` characters long, that a terminal can show."""
    line = " ".join(text[: 2 * most].split())
    line = "".join(letter if letter.isprintable() else REPLACEMENT for letter in line)
    return line if len(line) <= most and len(text) <= 2 * most else f"{line[:most]}{_CUT}"


def for_log(text: str) -> str:
    """A text of any length that a log can hold and a terminal can show, with its lines."""
    return _NOT_IN_LOGS.sub(REPLACEMENT, text)
