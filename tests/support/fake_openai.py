"""A fake OpenAI-compatible server at the process border: real HTTP, answers by script."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What to answer: bytes or text as they are, all else as JSON.

    A status of 0 closes the connection without a word. The header `Transfer-Encoding: chunked`
    leaves out how long the body is.
    """

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class FakeOpenAI:
    """Serves `reply(asked)`, on a free port by default, and remembers everything that was asked."""

    def __init__(self, reply: Callable[[Asked], Reply], port: int = 0) -> None:
        self.asked: list[Asked] = []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length)) if length else {}
                asked = Asked(self.command, self.path, dict(self.headers), body)
                fake.asked.append(asked)
                answer = reply(asked)
                if answer.status == 0:
                    self.close_connection = True
                    return
                payload = answer.body
                if not isinstance(payload, bytes):
                    text = payload if isinstance(payload, str) else json.dumps(payload)
                    payload = text.encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.headers.get("Transfer-Encoding") == "chunked":
                    self.end_headers()
                    self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(payload), payload))
                    return
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = _serve

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was killed
                    super().handle_error(request, client_address)

        self._server = Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def chat_answer(text: str = "three", **message: Any) -> Reply:
    """A chat completion."""
    choice = {"index": 0, "message": {"content": text, **message}, "finish_reason": "stop"}
    return Reply({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 1}})
