"""What the lease and the supervisor need to know of a server, whatever server it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from grace.runs.process_id import ProcessId

HOST = "127.0.0.1"
"""Servers listen here alone; nothing outside the machine reaches them."""
PORT, SOCKET = "{port}", "{socket}"
"""Where in its command a server's address belongs: a port's number, or a Unix socket's path."""


@dataclass(frozen=True)
class ServerSpec:
    """A server that answers `GET /health` with 200 once it is ready.

    `command` holds the placeholder `{port}` where the port belongs; a server whose command holds
    `{socket}` listens on a Unix socket instead, and is ready once it does. `environment` comes on
    top of the holder's. `identity` holds further facts that make two servers different, for
    example the model's files. Times are in seconds.
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


@dataclass(frozen=True)
class SupervisorTask:
    """What the first holder asks of a supervisor; paths are absolute, times in seconds."""

    state_dir: str
    name: str
    command: list[str]
    idle_s: float
    start_timeout_s: float
    log_file: str
    workflow: ProcessId
    port: int | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SupervisorTask:
        values = json.loads(text)
        return cls(**{**values, "workflow": ProcessId(**values["workflow"])})
