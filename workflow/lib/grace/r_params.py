"""What Snakemake writes into scripts in R, in lines that R reads safely however much it is.

Snakemake writes a job's params into the job's script as one line, its inputs as another, and so on.
Rscript reads lines in pieces of 4,095 bytes, and R 4.2 takes one that ends within a letter of
several bytes, or after a backslash, for an error. So params are encoded, since a single one can be
longer than that, and every value, such as the path of an input, has a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

_UNSAFE = re.compile(r"[^ -~]|[%\\'\"]")


def r_params(value: Any) -> Any:
    """The same with its texts percent-encoded as UTF-8; scripts/lib/provenance.R decodes them."""
    match value:
        case str():
            return _UNSAFE.sub(lambda found: quote(found[0], safe=""), value)
        case Mapping():
            return {r_params(key): r_params(one) for key, one in value.items()}
        case list() | tuple():
            return [r_params(one) for one in value]
    return value


def a_line_each(encoder: type[Any]) -> type[Any]:
    """Snakemake's encoder for R, `snakemake.script.REncoder`, with every value on its own line."""

    class ByLine(encoder):  # type: ignore[misc]  # a variable
        @classmethod
        def encode_value(cls, value: Any) -> str:
            return f"\n{super().encode_value(value)}"

    return ByLine
