"""Kubernetes objects as plain dicts, for the stand-in: labels, conditions, times."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import kubernetes_validate
from manifest_rules import problems

#: Whose schemas new objects are held to.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
Json = dict[str, Any]


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


def labels_of(thing: Json) -> dict[str, str]:
    found: dict[str, str] = thing["metadata"].get("labels") or {}
    return found


def selects(selector: str, labels: dict[str, str]) -> bool:
    """Equality and `in`, which is what is asked for here."""
    for one in re.findall(r"[^,(]+(?:\([^)]*\))?", selector):
        if " in " in one:
            key, values = one.split(" in ")
            if labels.get(key.strip()) not in values.strip(" ()").split(","):
                return False
        elif "=" in one:
            key, value = one.split("=")
            if labels.get(key.strip()) != value:
                return False
    return True


def check(body: Json) -> None:
    """What API servers of several versions hold objects to: their schemas, and further rules."""
    wrong = problems(body) if body["kind"] == "Job" else []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(json.loads(json.dumps(body)), version, strict=True)
        except kubernetes_validate.ValidationError as error:
            wrong.append(f"{version}: {error.message}")
    if wrong:
        name = f'{body["kind"]} "{body["metadata"]["name"]}"'
        raise Refused(422, "Invalid", f"{name} is invalid: {'; '.join(wrong)}")


def condition(kind: str, holds: str, reason: str = "", message: str = "") -> Json:
    return {"type": kind, "status": holds, "reason": reason, "message": message,
            "lastTransitionTime": timestamp()}  # fmt: skip


def waits(pod: Json, container: Json, reason: str, message: str) -> None:
    pod["status"]["containerStatuses"] = [
        {
            "name": container["name"],
            "state": {"waiting": {"reason": reason, "message": message}},
        }
    ]


def timestamp(later_s: float = 0.0) -> str:
    moment = datetime.now(UTC) + timedelta(seconds=later_s)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
