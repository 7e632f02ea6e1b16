"""The stand-in's API over HTTP: requests in, answers and scripted faults out."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

from kube_objects import Refused


@dataclass(frozen=True)
class Call:
    """A request: when (monotonic seconds), method, path with query, and the status it got."""

    at: float
    method: str
    path: str
    status: int


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are no news."""


class Handler(BaseHTTPRequestHandler):
    cluster: Any
    protocol_version = "HTTP/1.1"
    _path = re.compile(
        r"/(?:api/v1|apis/batch/v1)/namespaces/([^/]+)/(jobs|pods|secrets|events)(?:/([^/]+))?(?:/(log))?$"
    )

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null") or {}
        fault = self.cluster.faults.of(method, self.path)
        if fault is not None and fault.hang_s:
            self.cluster._stopped.wait(fault.hang_s)
        if fault is not None and fault.status == 0:
            self._note(method, 0)
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(2)
            return
        try:
            if fault is not None and fault.status != 200:
                message = fault.message or f"scripted {fault.status}"
                raise Refused(fault.status, "Scripted", message)
            if self.headers.get("Authorization") != f"Bearer {self.cluster.token}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            url = urlparse(self.path)
            match = self._path.match(url.path)
            if match is None:
                raise Refused(404, "NotFound", f"no such path: {url.path}")
            namespace, kind, name, sub = match.groups()
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            answer = self.cluster.answer(method, namespace, kind, name, sub, query, body)
            status = 201 if method == "POST" else 200
            headers: dict[str, str] = {}
        except Refused as error:
            status, headers = error.status, fault.headers if fault is not None else {}
            answer = {
                "kind": "Status", "status": "Failure", "code": error.status,
                "reason": error.reason, "message": str(error),
            }  # fmt: skip
        self._note(method, status)
        with self.cluster._lock:
            text = answer if isinstance(answer, str) else json.dumps(answer)
        with suppress(OSError):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            data = text.encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def _note(self, method: str, status: int) -> None:
        self.cluster.calls.append(Call(time.monotonic(), method, self.path, status))

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


def calls_per_second(calls: list[Call], window_s: float = 10.0) -> float:
    """Most calls in any window of so many seconds, per second."""
    times = sorted(call.at for call in calls)
    return max(_counts(times, window_s), default=0) / window_s


def _counts(times: list[float], window_s: float) -> Iterator[int]:
    last = 0
    for index, begin in enumerate(times):
        while last < len(times) and times[last] < begin + window_s:
            last += 1
        yield last - index
