"""A page in Debian's Chromium without a window, driven over its own protocol (DevTools)."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket
from waiting import PATIENCE_S, wait_until

CHROMIUM = shutil.which("chromium")
_KEYS = {
    "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
    "End": 35, "Home": 36, " ": 32,
}  # fmt: skip


class Browser:
    """One page. `errors` are what it wrote to its console as errors, and exceptions."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol; its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            found = json.loads(self._socket.recv())
            if found.get("id") == number:
                assert "error" not in found, (method, found["error"])
                return dict(found["result"])
            self._note(found)

    def _note(self, event: dict[str, Any]) -> None:
        given = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(given["exceptionDetails"])[:500])
        elif event["method"] == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.errors.append(given["entry"]["text"])

    def js(self, expression: str) -> Any:
        """The value of an expression of JavaScript; of a promise, what it becomes."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, (expression, found["exceptionDetails"])
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression holds."""
        wait_until(lambda: self.js(f"Boolean({expression})"), 20, expression)

    def open(self, address: str, ready: str = "document.documentElement.dataset.ready") -> None:
        """Load a page anew, whatever was open before."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.until(f"document.readyState === 'complete' && {ready}")

    def size(self, width: int, height: int) -> None:
        """The window's size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def key(self, name: str) -> None:
        """Press a key: a name such as `ArrowDown`, or a character."""
        code = _KEYS.get(name, 0)
        text = {"text": name} if len(name) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def write(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of what is in sight, or of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF")["data"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A running Chromium with a profile folder of its own."""
    assert CHROMIUM is not None, "install Debian's package chromium"
    profile.mkdir(parents=True, exist_ok=True)
    log = profile / "chromium.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--remote-debugging-port=0", "--remote-allow-origins=*",
                f"--user-data-dir={profile}", "about:blank",
            ],
            stdout=file, stderr=file,
        )  # fmt: skip
        try:
            wait_until(
                lambda: "DevTools listening" in log.read_text(errors="replace"),
                PATIENCE_S,
                "Chromium",
            )
            port = re.search(r"ws://127\.0\.0\.1:(\d+)/", log.read_text(errors="replace"))
            assert port is not None
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/json/list") as answer:
                (target,) = (one for one in json.load(answer) if one["type"] == "page")
            socket = websocket.create_connection(
                target["webSocketDebuggerUrl"], timeout=PATIENCE_S, suppress_origin=True
            )
            try:
                yield Browser(socket)
            finally:
                socket.close()
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
