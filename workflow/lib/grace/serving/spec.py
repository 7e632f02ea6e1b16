"""What the lease needs to know of a server, whatever server it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServerSpec:
    """A server that answers `GET /health` with 200 once it is ready.

    `command` holds the placeholder `{port}` where the port belongs. `environment` comes on top of
    the holder's. `identity` holds further facts that make two servers different, for example the
    model's files. Times are in seconds.
    """

    name: str
    command: tuple[str, ...]
    idle_s: float
    start_timeout_s: float
    port: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Servers with the same digest answer alike, so holders may share one."""
        facts = [self.command, self.port, dict(self.environment), dict(self.identity)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
