"""A stand-in for the Hugging Face hub: repositories in memory, over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves `repositories`, their files by name; `gated` ones to no one without `token`.

    `served` lists the files that were sent.
    """

    def __init__(
        self, repositories: Mapping[str, Mapping[str, bytes]], gated: tuple[str, ...] = ()
    ) -> None:
        self.repositories = repositories
        self.gated = gated
        self.token = "hf_right"
        self.served: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = unquote(request.path.partition("?")[0]).strip("/")
        parts = path.removeprefix("api/models/").split("/")
        name = "/".join(parts[:2])
        if name not in self.repositories:
            self._send(request, 401, b"", {"X-Error-Code": "RepoNotFound"}, body=body)
            return
        files = self.repositories[name]
        rest = parts[2:]
        if path.startswith("api/"):
            if rest and rest[1] not in ("main", COMMIT):
                self._send(request, 404, b"", {"X-Error-Code": "RevisionNotFound"}, body=body)
            elif rest and rest[0] == "tree":
                listed = [
                    {"type": "file", "path": file, "size": len(data), "oid": _digest(data)}
                    for file, data in files.items()
                ]
                self._send(request, 200, json.dumps(listed).encode(), {}, body=body)
            else:
                info = {
                    "id": name,
                    "sha": COMMIT,
                    "siblings": [
                        {"rfilename": file, "size": len(data)} for file, data in files.items()
                    ],
                }
                self._send(request, 200, json.dumps(info).encode(), {}, body=body)
            return
        headers = {"X-Repo-Commit": COMMIT}
        if name in self.gated and request.headers.get("authorization") != f"Bearer {self.token}":
            headers["X-Error-Code"] = "GatedRepo"
            self._send(request, 403, b"", headers, body=body)
            return
        file = "/".join(rest[2:])
        data = files[file]
        if body:
            self.served.append(f"{name}/{file}")
        headers["ETag"] = f'"{_digest(data)}"'
        self._send(request, 200, data, headers, body=body)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        data: bytes,
        headers: Mapping[str, str],
        *,
        body: bool,
    ) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if body:
            request.wfile.write(data)


def _digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
