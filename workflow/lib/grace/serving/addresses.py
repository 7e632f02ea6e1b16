"""Where a server listens on this machine: a port of its loopback, or a Unix socket."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from grace.serving.calls import answers
from grace.serving.spec import HOST, PORT, SOCKET


@dataclass(frozen=True)
class PortAddress:
    """A port, whose server answers `GET /health` with 200 once it is ready."""

    port: int
    placeholder: ClassVar[str] = PORT

    def __str__(self) -> str:
        return str(self.port)

    def healthy(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True)
class SocketAddress:
    """A Unix socket, whose server is ready once it listens."""

    path: Path
    placeholder: ClassVar[str] = SOCKET
    port: ClassVar[None] = None

    def __str__(self) -> str:
        return str(self.path)

    def healthy(self) -> bool:
        return answers(self.path)

    def url(self) -> str:
        return f"{UNIX}{self.path}"


Address = PortAddress | SocketAddress
UNIX = "unix:"


def socket_of(url: str) -> Path:
    """The socket that a URL of `SocketAddress.url` names."""
    return Path(url.removeprefix(UNIX))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
