"""What goes wrong with the stand-in's API: scripted requests, restarts, quotas, webhooks.

What is marked as seen was seen on a real server (Kubernetes 1.36); words are those of its answers.
tests/cluster/real_words.py holds them to the server that it runs on: 1.20.2, or a younger one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kube_objects import Json, Refused

#: A kind's name with its group, as quotas count it.
COUNTED = {"jobs": "jobs.batch", "pods": "pods", "secrets": "secrets"}
_ROLE = '{}.rbac.authorization.k8s.io "{}" not found'
_SYSTEM = ("basic-user", "discovery", "public-info-viewer", "service-account-issuer-discovery")
#: What follows the words of a 403 where bindings are known already, and not their roles, one or
#: several: seen on 1.20.2 in some of the answers after a start, nothing in others.
NO_ROLES_YET = (
    "",
    ": RBAC: " + _ROLE.format("role", "grace-controller"),
    f": RBAC: [{', '.join(_ROLE.format('clusterrole', f'system:{name}') for name in _SYSTEM)}]",
)
_VERBS = {"GET": "list", "POST": "create", "DELETE": "delete"}


@dataclass(frozen=True)
class Fault:
    """What becomes of a request instead of an answer.

    `status` 0 drops the connection; with `hang_s` it is answered after so many seconds, or never.
    `times` is how often; `method` and `path` (searched for) say of which requests.
    """

    status: int
    method: str = ""
    path: str = ""
    times: int = 1_000_000
    hang_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    message: str = ""


class ApiFaults:
    """Faults of the API. `quotas` are how many objects of a kind there may be in the namespace.

    A quota's objects count until they are deleted, ended Jobs too; what goes beyond is refused with
    403 and these words (seen on a real server). A Job of which `webhook` holds is refused with 500,
    as where a webhook of the cluster fails (seen on a real server).
    """

    def __init__(self) -> None:
        self.quotas: dict[str, int] = {}
        self.webhook: Callable[[Json], bool] = lambda job: False
        self.restarts = 0
        self._scripted: list[Fault] = []
        #: Seconds, by which the server is away.
        self.clock: Callable[[], float] = time.monotonic
        self._away_until, self._forbids = 0.0, 0
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._scripted.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._scripted.clear()

    def restart(self, away_s: float = 0.3, forbids: int = 1) -> None:
        """The server goes, comes back, and refuses so many requests, whoever asks, with 403.

        Seen on a real server for 0.04 to 0.1 s, until its caches of rights are filled; on large
        clusters it takes minutes (kubernetes#121635). Here by number, so that a test meets it.
        """
        with self._lock:
            self.restarts += 1
            self._away_until = self.clock() + away_s
            self._forbids = forbids

    def of(self, method: str, path: str) -> Fault | None:
        """What becomes of this request; None if it is answered."""
        with self._lock:
            if self.clock() < self._away_until:
                return Fault(0)
            if self._forbids:
                self._forbids -= 1
                more = NO_ROLES_YET[self.restarts % len(NO_ROLES_YET)]
                return Fault(403, message=no_right(method, path) + more)
            for index, fault in enumerate(self._scripted):
                if fault.method in ("", method) and fault.path in path:
                    if fault.times > 1:
                        self._scripted[index] = replace(fault, times=fault.times - 1)
                    else:
                        del self._scripted[index]
                    return fault
        return None

    def admit(self, kind: str, body: Json, there: int) -> None:
        """Let an object in beside those of its kind that are `there`. Raises `Refused`."""
        name = body["metadata"]["name"]
        if kind == "jobs" and self.webhook(body):
            raise Refused(
                500, "InternalError",
                'Internal error occurred: failed calling webhook "check.example.org": failed to'
                ' call webhook: an error on the server ("broken") has prevented the request from'
                " succeeding",
            )  # fmt: skip
        most = self.quotas.get(kind)
        if most is not None and there >= most:
            counted = f"count/{COUNTED[kind]}"
            raise Refused(
                403, "Forbidden",
                f'{COUNTED[kind]} "{name}" is forbidden: exceeded quota: lab, requested:'
                f" {counted}=1, used: {counted}={there}, limited: {counted}={most}",
            )  # fmt: skip


def no_right(method: str, path: str) -> str:
    """An API server's words to a user whose rights it does not know."""
    kind = next(kind for kind in COUNTED if f"/{kind}" in path)
    group = "batch" if kind == "jobs" else ""
    return (
        f"{COUNTED[kind]} is forbidden: User"
        f' "system:serviceaccount:default:grace-controller" cannot {_VERBS[method]} resource'
        f' "{kind}" in API group "{group}" in the namespace "default"'
    )
