"""Processes that have done what many others begin with, and fork for who asks.

A server prepares itself and then serves forks over a socket. `Command` starts one and writes the
program that tests give in the place of the real one; that program sends its arguments, folder,
environment, standard streams and signals, and ends as its fork does. What it cannot hand over, such
as variables that count at the start, it leaves to the real program.
Forks have other ancestors than processes: the lease of a server knows its run by the mark that jobs
carry.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Snakemake sets them to a job's threads; Grace tells torch its threads itself. Waiting threads
#: sleep, as in jobs.
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")} | {
    "OMP_WAIT_POLICY": "PASSIVE"
}
TOKEN = "HF_TOKEN"
PROGRAM = """#!{python} -IS
import json, os, re, signal, socket, struct, sys

REAL, SOCKET, AT_START, TOKEN, STARTED, KNOWN = {values}
found = {{
    name: value
    for name, value in os.environ.items()
    if name.startswith(tuple(AT_START)) and name != TOKEN
}}
arguments = sys.argv[1:]
if found != STARTED or not re.match(KNOWN, chr(0).join([*arguments[:3], ""])):
    os.execv(REAL, [REAL, *arguments])
server = socket.socket(socket.AF_UNIX)
server.connect(SOCKET)


def forward(number, _):
    server.sendall(bytes([number]))


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
ignored = [
    number
    for number in (signal.SIGINT, signal.SIGTERM)
    if signal.getsignal(number) is signal.SIG_IGN
]
sent = json.dumps([arguments, os.getcwd(), dict(os.environ), ignored]).encode()
socket.send_fds(server, [struct.pack("=Q", len(sent))], [0, 1, 2])
server.sendall(sent)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, forward)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
status = server.recv(8)
(code,) = struct.unpack("=q", status) if len(status) == 8 else (-signal.SIGKILL,)
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Command:
    """A program in the place of a real one, `path`, and the process that forks for it.

    `at_start` are beginnings of variables that the real program reads when it starts. `known` is a
    pattern of the first three arguments, each followed by NUL, that forks understand.
    """

    def __init__(
        self,
        path: Path,
        real: str,
        server: Path,
        *arguments: str,
        at_start: Sequence[str],
        known: str,
    ) -> None:
        self.path, self.real = path, real
        place = path.with_suffix(".socket")
        started = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(tuple(at_start)) and name != TOKEN
        }
        values = (real, str(place), list(at_start), TOKEN, started, known)
        path.write_text(PROGRAM.format(python=sys.executable, values=values))
        path.chmod(0o700)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(place))
            listening.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, server, str(listening.fileno()), *arguments],
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,
                env={
                    name: value
                    for name, value in (os.environ | THREADS).items()
                    if name not in ("PYTHONPATH", TOKEN)
                },
            )

    def close(self) -> None:
        """End the process, whose standard input ends."""
        self._process.communicate()


class Server:
    """Forks for who connects. `serve` returns in a fork, with what it is to run.

    `prepare` is called once, before the first fork.
    """

    def __init__(
        self, listening: socket.socket, prepare: Callable[[], None] = lambda: None
    ) -> None:
        self._listening = listening
        self._prepare: Callable[[], None] | None = prepare
        self._running: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> tuple[list[str], str, dict[str, str]] | None:
        """A fork's arguments, folder and environment; None at the end, in the server."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for source in (self._listening, self._reader, sys.stdin):
            self._selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    for pid in list(self._running):
                        self._kill(pid)
                    return None
                if key.fileobj is self._listening:
                    if (asked := self._forked()) is not None:
                        return asked
                elif key.fileobj == self._reader:
                    os.read(self._reader, 1024)
                    self._reap()
                else:
                    self._heard(key.data, key.fileobj)

    def _forked(self) -> tuple[list[str], str, dict[str, str]] | None:
        connection, _ = self._listening.accept()
        header, streams, _, _ = socket.recv_fds(connection, 8, 3)
        if len(streams) < 3:
            connection.close()
            return None
        (size,) = struct.unpack("=Q", header)
        sent = b""
        while len(sent) < size and (part := connection.recv(size - len(sent))):
            sent += part
        if self._prepare is not None:
            self._prepare()
            self._prepare = None
        pid = os.fork()
        if pid:
            self._running[pid] = connection
            self._selector.register(connection, selectors.EVENT_READ, pid)
            for stream in streams:
                os.close(stream)
            return None
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for other in (connection, self._listening, *self._running.values()):
            other.close()
        os.close(self._reader)
        os.close(self._writer)
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
            os.close(stream)
        arguments, folder, environment, ignored = json.loads(sent)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        return arguments, folder, environment

    def _heard(self, pid: int, connection: Any) -> None:
        """A signal for a fork; nothing, if who asked for it is gone, and it goes, too."""
        numbers = connection.recv(64)
        if not numbers:
            self._selector.unregister(connection)
            self._kill(pid)
        for number in numbers:
            os.kill(pid, number)

    @staticmethod
    def _kill(pid: int) -> None:
        for kill in (os.killpg, os.kill):  # before it has a group of its own, it is alone
            with suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid, connection in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._running[pid]
            with suppress(KeyError):
                self._selector.unregister(connection)
            with suppress(OSError):
                connection.sendall(struct.pack("=q", os.waitstatus_to_exitcode(status)))
            connection.close()
