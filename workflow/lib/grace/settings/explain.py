"""What is wrong in a file of the user's, in words for people: file, key, value, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from grace.errors import ConfigError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
RESOURCE = r"^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
LABEL = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
IMAGE = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"
ABSOLUTE = r"^/"
BELOW = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"
#: What a text must look like that matches one of our patterns.
PATTERNS = {
    NAME: "must consist of letters, digits, '.', '_' and '-', and begin with a letter or digit",
    DNS_LABEL: "must consist of at most 63 small letters, digits and '-', not at its ends",
    DNS_SUBDOMAIN: "must consist of small letters, digits, '-' and '.', not at its ends",
    LABEL: "must consist of at most 63 letters, digits, '-', '_' and '.', not at its ends",
    IMAGE: "must be the name of an image, such as registry.example.org/you/grace:0.1.0",
    RESOURCE: "must be the name of a resource, such as nvidia.com/gpu",
    ABSOLUTE: "must begin with '/'",
    BELOW: "must be a folder below, such as anna/grace",
}
#: By pydantic's name of a mistake; braces stand for what it knows of it.
WORDS = {
    "bool": "must be true or false",
    "dict": "must hold keys with values",
    "finite_number": "must be a finite number",
    "float": "must be a number",
    "greater_than": "must be more than {gt:.16g}",
    "greater_than_equal": "must be {ge:.16g} or more",
    "int": "must be a whole number",
    "less_than": "must be less than {lt:.16g}",
    "less_than_equal": "must be {le:.16g} or less",
    "list": "must be a list, such as [a, b]",
    "literal_error": "must be {expected}",
    "mapping": "must hold keys with values",
    "model": "must hold keys with values",
    "string": "must be text",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "too_long": "must hold at most {max_length}",
    "too_short": "must hold at least {min_length}",
}
LONGEST = 60
"""Most characters of a value or key that are shown."""
MOST = 20
"""Mistakes shown before the rest are only counted."""
#: Keys that somebody may write a secret into; errors do not show their values.
_MAY_BE_SECRET = {"base_url", "api_key_env", "extra_args", "hf_token"}
TOKEN = re.compile(r"\b(?:hf_|sk-)[A-Za-z0-9_-]{16,}")
"""What tokens of the hub and keys of APIs look like, wherever they were pasted."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint such as ` Did you mean 'pico'?`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def explain(
    source: str | Callable[[tuple[int | str, ...]], str],
    error: ValidationError,
    model: type[BaseModel],
    *,
    wrapped: bool = False,
) -> ConfigError:
    """Pydantic's findings as one line each. `wrapped`: the first key is ours, not the file's.

    `source` is the file, or gives it for the place of a key.
    """
    lines = []
    for finding in error.errors():
        place = finding["loc"][int(wrapped) :]
        where = source if isinstance(source, str) else source(place)
        lines.append(f"{where}: {_line(finding, place, _keys_at(model, finding['loc'][:-1]))}")
    distinct = list(dict.fromkeys(lines))
    if len(distinct) > MOST:
        where = source if isinstance(source, str) else source(())
        distinct[MOST:] = [f"{where}: … and {len(distinct) - MOST} more."]
    return ConfigError(TOKEN.sub("(hidden)", "\n".join(distinct)))


def _line(finding: Mapping[str, Any], place: tuple[int | str, ...], known: list[str]) -> str:
    key = _key(place)
    if finding["type"] == "extra_forbidden":
        hint = nearest(str(place[-1]), known)
        if _MAY_BE_SECRET & set(place) and not hint:
            key = _key(place[:-1])
            return f"unknown key in '{key}'. Allowed there: {', '.join(sorted(known))}."
        return f"unknown key '{key}'.{hint} Allowed here: {', '.join(sorted(known))}."
    if finding["type"] == "missing":
        return f"key '{key}' is missing."
    if place and place[-1] == "[key]":
        return f"the name '{_key(place[:-1])}' {_words(finding)}."
    value = _shown(finding["input"], place)
    words = _words(finding)
    if words == WORDS["string"] and isinstance(finding["input"], bool | int | float):
        words += ", in quotation marks"
    if not key:
        return f"{words}."
    return f"key '{key}'{f' is {value}, but' if value else ''}: {words}."


def _key(place: tuple[int | str, ...]) -> str:
    """A key with those above it, on one line and not too long."""
    name = ".".join(map(str, place))
    shown = name if name.isprintable() else ascii(name)[1:-1]
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"


def _words(finding: Mapping[str, Any]) -> str:
    """What is allowed."""
    kind, context = finding["type"], finding.get("ctx", {})
    if kind == "string_pattern_mismatch" and context["pattern"] in PATTERNS:
        return PATTERNS[context["pattern"]]
    for ending in ("", "_type", "_parsing", "_parsing_size", "_from_float", "_attributes_type"):
        words = WORDS.get(kind.removesuffix(ending))
        if words is not None:
            return words.format(**context)
    return str(finding["msg"]).removeprefix("Value error, ")


def _shown(value: object, place: tuple[int | str, ...]) -> str:
    """A value as it stands in the file; nothing of a secret, of a whole entry, of a long text."""
    if _MAY_BE_SECRET & set(place) or isinstance(value, Mapping):
        return ""
    if value is None:
        return "empty"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else ""


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Allowed keys of the nested model that `location` leads to."""
    current: Any = model
    for part in location:
        fields = getattr(current, "model_fields", {})
        current = fields[part].annotation if part in fields else _held(current)
    current = _model(current)
    return [*getattr(current, "model_fields", {}), *getattr(current, "SHORT_FORMS", ())]


def _held(annotation: Any) -> Any:
    """What a dict or list of such an annotation holds."""
    arguments = get_args(annotation)
    return arguments[-1] if arguments else annotation


def _model(annotation: Any) -> Any:
    """The model in an annotation such as `Model | None`."""
    return next(
        (part for part in get_args(annotation) if hasattr(part, "model_fields")), annotation
    )
