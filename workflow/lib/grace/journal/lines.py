"""One answer as one line: JSON that a person, jq or R can read, with a checksum.

    {"check":"<16 hex digits>","key":"<64 hex digits>","value":{...}}

`check` is the beginning of the SHA-256 of all bytes after its 16 digits, the line's end included,
so it covers key and value and a line cut anywhere fails it. No other layout is read.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_START = b'{"check":"'
_BEFORE_KEY, _BEFORE_VALUE, _END = b'","key":"', b'","value":', b"}\n"
_CHECK = slice(len(_START), len(_START) + 16)
_KEY = slice(_CHECK.stop + len(_BEFORE_KEY), _CHECK.stop + len(_BEFORE_KEY) + 64)
_VALUE = slice(_KEY.stop + len(_BEFORE_VALUE), -len(_END))
_HEX_KEY = re.compile("[0-9a-f]{64}")


def raw_key(key: str) -> bytes:
    """The 32 bytes that a key's 64 hex digits stand for. Raises `ValueError` for other text."""
    if not _HEX_KEY.fullmatch(key):
        raise ValueError(f"a journal key is a SHA-256 in 64 lower-case hex digits, not {key!r}")
    return bytes.fromhex(key)


def line_of(key: bytes, value: Mapping[str, Any]) -> bytes:
    """The line of an answer. Raises `ValueError` or `TypeError` for what JSON cannot hold."""
    text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        content = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, from a model's broken output
        content = json.dumps(dict(value), allow_nan=False, separators=(",", ":")).encode()
    rest = _BEFORE_KEY + binascii.hexlify(key) + _BEFORE_VALUE + content + _END
    return _START + _checksum(rest) + rest


def key_in(line: bytes) -> bytes | None:
    """The key of an undamaged line (32 bytes); None for anything else."""
    if line[_CHECK] != _checksum(line[_CHECK.stop :]):
        return None
    if not (
        line.startswith(_START)
        and line.startswith(_BEFORE_KEY, _CHECK.stop)
        and line.startswith(_BEFORE_VALUE, _KEY.stop)
        and line.endswith(_END)
    ):
        return None
    try:
        return binascii.unhexlify(line[_KEY])
    except binascii.Error:
        return None


def check_of(line: bytes) -> int:
    """An undamaged line's checksum, 64 bits; of two answers to one key, the same if they are."""
    return int(line[_CHECK], 16)


def value_in(line: bytes) -> dict[str, Any] | None:
    """The answer on an undamaged line; None where that is no JSON object, so not Grace's."""
    try:
        value = json.loads(line[_VALUE])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _checksum(content: bytes) -> bytes:
    return binascii.hexlify(hashlib.sha256(content).digest()[:8])
