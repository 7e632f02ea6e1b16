"""Whether a server's name for the model that answered is the one that was asked for.

Servers write a name in other cases, with or without its organisation, and say which dated version
an alias stands for today. Anything further is another model.
"""

from __future__ import annotations

import re

from grace.foreign_text import plain_name

_YEAR, _MONTH, _DAY = "20[2-9][0-9]", "(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])"
_DATE = "|".join(
    (
        f"{_YEAR}-?{_MONTH}(?:-?{_DAY})?",  # 2024-08-06, 20240806, 2024-08
        f"2[0-9]{_MONTH}(?:{_DAY})?",  # 240806, 2411
        f"{_MONTH}-?{_DAY}",  # 0613, 06-13
    )
)
#: What may follow a name: a date, a release such as 002, "latest".
_VERSION = re.compile(f"[-@:_](?:{_DATE}|0[0-9]{{2}}|latest)")


def same_model(asked: str, reported: str) -> bool:
    """Whether both name one model, as far as names can tell."""
    one, other = (str(plain_name(name)[0]).casefold() for name in (asked, reported))
    one, other = (name.removesuffix("-latest").removesuffix(":latest") for name in (one, other))
    shorter, longer = sorted((one.split("/"), other.split("/")), key=len)
    if longer[len(longer) - len(shorter) : -1] != shorter[:-1]:
        return False  # both name an organisation, and not the same
    short, long = sorted((one.split("/")[-1], other.split("/")[-1]), key=len)
    return long.startswith(short) and (
        long == short or _VERSION.fullmatch(long[len(short) :]) is not None
    )
