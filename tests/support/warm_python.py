"""Python whose imports are done: Snakemake and the scripts of jobs in forks of one process.

A run of the workflow is some twenty Python processes that do little but import. Run as a process,
this module imports what they need and then serves forks over a socket. Grace itself, which tests
edit, a fork has from there only if its folder holds the same library, byte by byte. `Warm` starts
it and writes the command that tests give in place of `python`; that command sends its arguments,
folder, environment, standard streams and signals, and ends as its fork does.
In a fork `sys.executable` is that command, too.
What it cannot hand over, such as variables that count at import, it leaves to Python. Forks have
other ancestors than processes: the lease of a server knows its run by the mark that jobs carry.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import importlib
import json
import os
import re
import runpy
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
import types
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path("workflow", "lib")
#: Beginnings of variables that libraries read when they are imported; a token is read when used.
AT_IMPORT = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_")
TOKEN = "HF_TOKEN"
#: Snakemake sets them to a job's threads; Grace tells torch its threads itself. Waiting threads
#: sleep, as in jobs.
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")} | {
    "OMP_WAIT_POLICY": "PASSIVE"
}
COMMAND = """#!{python} -IS
import json, os, signal, socket, struct, sys

PYTHON, SOCKET, AT_IMPORT, TOKEN, IMPORTED = {values}
found = {{
    name: value
    for name, value in os.environ.items()
    if name.startswith(tuple(AT_IMPORT)) and name != TOKEN
}}
arguments = sys.argv[1:]
code = arguments[:2] == ["-P", "-c"]
known = code or arguments[:1] == ["-m"] or (arguments and not arguments[0].startswith("-"))
if found != IMPORTED or not known:
    os.execv(PYTHON, [PYTHON, *arguments])
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


class Warm:
    """The process that forks, and `command`, which stands for `python` and forks."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="warm-"))
        place = self._folder / "socket"
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(AT_IMPORT) and name != TOKEN
        }
        values = (sys.executable, str(place), list(AT_IMPORT), TOKEN, kept)
        self.command = self._folder / "bin" / "python"
        self.command.parent.mkdir()
        self.command.write_text(COMMAND.format(python=sys.executable, values=values))
        self.command.chmod(0o700)
        snakemake = self.command.with_name("snakemake")
        snakemake.write_text(f'#!/bin/sh\nexec "{self.command}" -m snakemake "$@"\n')
        snakemake.chmod(0o700)
        # Other programs of the environment, such as pip's, stay those of Python.
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(place))
            listening.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(listening.fileno()), str(self.command)],
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
        shutil.rmtree(self._folder)


@cache
def warm() -> Warm:
    """That of this process, which ends with it."""
    made = Warm()
    atexit.register(made.close)
    return made


class _Server:
    """Forks for who connects. `accept` returns in a fork, with what it is to run."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
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


class Library:
    """Grace's modules, imported once, for forks in folders that hold the same library."""

    def __init__(self) -> None:
        rules = [*(ROOT / "workflow").rglob("*.smk"), *(ROOT / "scripts").glob("*.py")]
        named = {
            module
            for file in rules
            for module in re.findall(r"from (grace[\w.]*) import", file.read_text("utf-8"))
        }
        for name in sorted(named | {"grace.engines.transformers.model"}):
            importlib.import_module(name)
        self._digest = self._digest_of(ROOT)
        self._modules = {
            name: sys.modules.pop(name)
            for name in list(sys.modules)
            if name.partition(".")[0] == "grace"
        }

    @staticmethod
    def _digest_of(root: Path) -> bytes:
        digest = hashlib.blake2b()
        for path in sorted((root / LIBRARY / "grace").rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
        return digest.digest()

    def give(self, root: Path) -> None:
        """The modules, as if imported from there, unless that library is another one."""
        if self._digest_of(root) != self._digest:
            return
        for module in self._modules.values():
            for name, value in list(vars(module).items()):
                if isinstance(value, Path) and value.is_relative_to(ROOT):
                    setattr(module, name, root / value.relative_to(ROOT))
                elif isinstance(value, str) and value.startswith(f"{ROOT}{os.sep}"):
                    setattr(module, name, f"{root}{value.removeprefix(str(ROOT))}")
            if (found := module.__spec__.submodule_search_locations) is not None:
                found[:] = module.__path__ = [str(Path(module.__file__).parent)]
            module.__spec__.origin = module.__file__
        sys.modules |= self._modules


def import_all() -> Library:
    """What runs of the workflow import, and Grace itself for those that have not edited it."""
    for name in (
        "boto3", "pandas", "psutil", "pyarrow.parquet", "snakemake.cli",
        "transformers.models.llama.modeling_llama", "transformers.utils.chat_template_utils",
    ):  # fmt: skip
        importlib.import_module(name)
    # Snakemake looks for its plugins among all packages: a fork has what was found.
    for kind in ("Executor", "Logger", "Report", "Scheduler", "Storage"):
        registry = importlib.import_module(f"snakemake_interface_{kind.lower()}_plugins.registry")
        getattr(registry, f"{kind}PluginRegistry")()
    return Library()


def run(
    library: Library,
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    command: str,
) -> None:
    """What `python` with these arguments runs."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    own = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = own
    known = Path(folder) / LIBRARY
    libraries = [Path(folder) / path for path in own if (Path(folder) / path / "grace").exists()]
    if not set(libraries) - {known}:
        library.give(Path(folder))
    # What it starts are forks, too: scripts of jobs, and the process that holds their model.
    sys.executable = command
    if arguments[0] == "-P":
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        sys.argv = arguments[1:2] + arguments[3:]
        exec(arguments[2], main.__dict__)
    elif arguments[0] == "-m":
        sys.path.insert(0, folder)
        sys.argv = ["-m", *arguments[2:]]
        if not hasattr(sys.modules.get(arguments[1]), "__path__"):
            sys.modules.pop(arguments[1], None)
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(arguments[0]).parent))
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


def status_of(*asked: Any) -> int:
    """Run it, and give the exit status that Python would."""
    try:
        run(*asked)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException as error:
        traceback.print_exc()
        return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def leave(status: int) -> None:
    """End as Python does, but for taking its modules apart."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    del sys.path[0]
    library = import_all()
    # Neither looking for garbage nor taking all apart at the end may copy what forks share.
    gc.freeze()
    asked = _Server(socket.socket(fileno=int(sys.argv[1]))).serve()
    if asked is not None:
        # What the imports left to be done at the end is done by the process that imported; half of
        # a fork's own time went there.
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]
        leave(status_of(library, *asked, sys.argv[2]))
