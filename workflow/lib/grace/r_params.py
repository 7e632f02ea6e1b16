"""What params of rules in R hold, in letters that R reads safely however many there are.

Snakemake writes a job's params into the job's script as one line. R 4.2 misreads a long line of a
script that holds backslashes or letters beyond ASCII, at places that depend on the length of what
stands before it, such as the path of the project.
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
