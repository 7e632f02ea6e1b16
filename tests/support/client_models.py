"""Objects held to the models of Kubernetes's own Python client, generated from the published API.

A source beside the schemas of `kubernetes_validate`: fields, their types, what is required, and the
values that the reference lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from kubernetes.client import models

_PLAIN = {"str": str, "int": int, "float": (int, float), "bool": bool}


def wrong(thing: Any, kind: str, where: str = "") -> Iterator[str]:
    """What the model `kind` ("V1Job", "list[str]") says against an object, a line each."""
    where = where or kind
    if kind == "object":
        return
    if found := re.fullmatch(r"(list\[|dict\(str, )(.*)[\])]", kind):
        if not isinstance(thing, list if kind.startswith("list") else dict):
            yield f"{where}: {thing!r} is no {kind}"
            return
        items = enumerate(thing) if isinstance(thing, list) else thing.items()
        for key, value in items:
            yield from wrong(value, found[2], f"{where}.{key}")
    elif kind == "datetime":
        datetime.fromisoformat(thing)
    elif kind in _PLAIN:
        if not isinstance(thing, _PLAIN[kind]) or (isinstance(thing, bool) and kind != "bool"):
            yield f"{where}: {thing!r} is no {kind}"
    else:
        yield from _of_model(thing, getattr(models, kind), where)


def _of_model(thing: dict[str, Any], model: Any, where: str) -> Iterator[str]:
    fields = {json: name for name, json in model.attribute_map.items()}
    for key in thing.keys() - fields.keys():
        yield f"{where}: no field {key}"
    known = {fields[key]: value for key, value in thing.items() if key in fields}
    try:
        model(**known)
    except ValueError as error:  # what is required is missing
        yield f"{where}: {error}"
    for key, name in fields.items():
        if key in thing:
            yield from wrong(thing[key], model.openapi_types[name], f"{where}.{key}")


def possible_values(kind: str, name: str) -> set[str]:
    """The values that the reference lists of a model's field: `Possible values are: - ...`."""
    text = " ".join((getattr(getattr(models, kind), name).__doc__ or "").split())
    return set(re.findall(r" - (\w+)(?::| means)", text.partition("Possible values are:")[2]))
