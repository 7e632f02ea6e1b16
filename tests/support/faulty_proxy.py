"""A proxy between our client and a server that spoils answers, as networks and gateways do."""

from __future__ import annotations

import gzip
import http.client
import http.server
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request on its way: its path, its body, and how many came before it, from 0."""

    path: str
    body: Json
    number: int


@dataclass
class Answer:
    """The server's answer, to be spoilt. `declared` is the Content-Length if not the true one.

    One that drips comes a byte at a time and has no end.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    declared: int | None = None
    drips: bool = False

    def edit(self, change: Callable[[Json], None]) -> Answer:
        answer = json.loads(self.body)
        change(answer)
        self.body = json.dumps(answer).encode()
        return self


Spoil = Callable[["FaultyProxy", Answer], Answer | None]
"""Makes a faulty answer of a good one; None closes the connection without a word."""


class FaultyProxy:
    """Passes requests on to `upstream`; `fault(asked)` names what is to go wrong, if anything."""

    def __init__(self, upstream: str, fault: Callable[[Asked], Spoil | None]) -> None:
        self.closing = threading.Event()
        self.spoilt = 0
        self._waiting: list[tuple[Answer, threading.Event, list[Answer]]] = []
        self._lock = threading.Lock()
        self._number = -1
        proxy, host = self, upstream.removeprefix("http://")

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                content = self.rfile.read(length)
                with proxy._lock:
                    proxy._number += 1
                    number = proxy._number
                connection = http.client.HTTPConnection(host, timeout=30)
                own = ("Host", "Content-Length", "Connection", "Accept-Encoding")
                headers = {k: v for k, v in self.headers.items() if k.title() not in own}
                connection.request(self.command, self.path, content, headers)
                reply = connection.getresponse()
                answer: Answer | None = Answer(reply.status, reply.read())
                connection.close()
                spoil = fault(Asked(self.path, json.loads(content or b"{}"), number))
                if spoil is not None:
                    with proxy._lock:
                        proxy.spoilt += 1
                    answer = spoil(proxy, answer)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                whole = len(answer.body) if answer.declared is None else answer.declared
                self.send_header("Content-Length", str(whole))
                self.end_headers()
                while answer.drips and not proxy.closing.wait(0.1):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                self.wfile.write(answer.body)
                self.close_connection = whole != len(answer.body)

            do_GET = do_POST = _serve

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that no longer wait

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def exchange(self, answer: Answer) -> Answer:
        """Wait for a second answer that is to be exchanged, and give that one instead."""
        with self._lock:
            if self._waiting:
                other, arrived, box = self._waiting.pop()
                box.append(answer)
                arrived.set()
                return other
            arrived, box = threading.Event(), []
            self._waiting.append((answer, arrived, box))
        arrived.wait(5)
        return box[0] if box else answer

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


# --- what can go wrong


def drop(proxy: FaultyProxy, answer: Answer) -> None:
    """Close the connection without a word."""


def hang(proxy: FaultyProxy, answer: Answer) -> None:
    """Never answer."""
    proxy.closing.wait()


def drip(proxy: FaultyProxy, answer: Answer) -> Answer:
    """A byte at a time, so that something always comes, for ever."""
    answer.declared = 10**6  # less than an answer may have
    answer.drips = True
    return answer


def delay(proxy: FaultyProxy, answer: Answer) -> Answer:
    """Answer late, but within the time that a request may take."""
    proxy.closing.wait(0.3)
    return answer


def cut(proxy: FaultyProxy, answer: Answer) -> Answer:
    """Close the connection in the middle of the body."""
    answer.declared = len(answer.body)
    answer.body = answer.body[: len(answer.body) // 2]
    return answer


def truncate(proxy: FaultyProxy, answer: Answer) -> Answer:
    """Half of the JSON, as if that were all."""
    answer.body = answer.body[: len(answer.body) // 2]
    return answer


def oversize(proxy: FaultyProxy, answer: Answer) -> Answer:
    """More than any answer to such a request can be."""
    answer.body += b" " * 12_000_000
    return answer


def bomb(proxy: FaultyProxy, answer: Answer) -> Answer:
    """The same, compressed to almost nothing."""
    answer.body = gzip.compress(oversize(proxy, answer).body)
    answer.headers["Content-Encoding"] = "gzip"
    return answer


def misname_encoding(proxy: FaultyProxy, answer: Answer) -> Answer:
    """Call it compressed."""
    answer.headers["Content-Encoding"] = "gzip"
    return answer


def nest(proxy: FaultyProxy, answer: Answer) -> Answer:
    """JSON that no parser follows to its end."""
    answer.body = b"[" * 100_000
    return answer


def refuse(status: int, **headers: str) -> Spoil:
    """Another status, and a body for people."""

    def spoil(proxy: FaultyProxy, answer: Answer) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Answer(status, b"<html>upstream is not well</html>", named)

    return spoil


def not_a_number(proxy: FaultyProxy, answer: Answer) -> Answer:
    """NaN for every number in the choices."""

    def spoilt(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: v if k == "index" else spoilt(v) for k, v in value.items()}
        if isinstance(value, list):
            return [spoilt(one) for one in value]
        return float("nan") if isinstance(value, float) else value

    def change(body: Json) -> None:
        body["choices"] = [
            {**spoilt(choice), "finish_reason": float("nan")} for choice in body["choices"]
        ]

    return answer.edit(change)


def no_choice(proxy: FaultyProxy, answer: Answer) -> Answer:
    """One choice too few."""
    return answer.edit(lambda body: body["choices"].pop())


def two_choices(proxy: FaultyProxy, answer: Answer) -> Answer:
    """The first choice twice."""
    return answer.edit(lambda body: body["choices"].append(body["choices"][0]))


def swap(proxy: FaultyProxy, answer: Answer) -> Answer:
    """Another request's answer."""
    return proxy.exchange(answer)
