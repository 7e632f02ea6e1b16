"""Stub servers, holder processes and process look-ups for the lease tests."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from waiting import PATIENCE_S, wait_until

from grace.serving.spec import ServerSpec

STUB = textwrap.dedent(
    """
    # A server with a child of its own in another session, as vLLM has its engine process.
    import http.server, os, pathlib, subprocess, sys
    folder, port, mark, mode = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    print("stub: loading", flush=True)
    with (folder / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\\n")
    first = len((folder / "starts").read_text().split()) == 1
    if mode == "broken" or (mode == "once-broken" and not first):
        print("stub: RuntimeError: weights are damaged", flush=True)
        sys.exit(3)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", mark],
                     start_new_session=True)
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            waits = mode == "never-ready" or (mode == "slow-at-first" and first)
            waits = waits or (mode == "ready-when-told" and not (folder / "go").exists())
            self.send_response(503 if waits else 200)
            self.end_headers()
            if self.path == "/crash":
                print("stub: CUDA error: an illegal memory access", flush=True)
                os._exit(1)
        def log_message(self, *arguments):
            pass
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
    """
)

HOLDER = textwrap.dedent(
    """
    # A job: holds the lease until a line arrives on standard input.
    import json, logging, sys
    from pathlib import Path
    from grace.serving import ServerSpec, lease_server
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    task = json.loads(sys.argv[1])
    spec = ServerSpec(**{**task["spec"], "command": tuple(task["spec"]["command"])})
    with lease_server(spec, journal_dir=Path(task["journal"]), log_dir=Path(task["logs"]),
                      workflow_pid=task["workflow"]) as lease:
        print(lease.wait_ready(), flush=True)
        for line in sys.stdin:
            if line.strip() == "leave":
                break
            print(lease.wait_ready(), flush=True)
    print("left", flush=True)
    """
)


class Farm:
    """A folder for one test's servers and jobs; knows every process that belongs to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"mark-{folder.name}-{os.getpid()}"
        self.journal = folder / "journal"
        self.logs = folder / "logs"
        self._jobs: list[Job] = []
        (folder / "stub.py").write_text(STUB)

    def spec(self, mode: str = "ok", **changes: Any) -> ServerSpec:
        command = [sys.executable, f"{self.folder}/stub.py", str(self.folder), "{port}"]
        values: dict[str, Any] = {
            "name": "stub",
            "command": (*command, self.mark, mode),
            "idle_s": 1.0,
            "start_timeout_s": PATIENCE_S,
        }
        return ServerSpec(**{**values, **changes})

    def job(self, spec: ServerSpec, workflow: int | None = None) -> Job:
        """Start a holder process; `workflow` defaults to the test's own process."""
        task = {
            "spec": asdict(spec),
            "journal": str(self.journal),
            "logs": str(self.logs),
            "workflow": workflow or os.getpid(),
        }
        job = Job([sys.executable, "-c", HOLDER, json.dumps(task), self.mark])
        self._jobs.append(job)
        return job

    def starts(self) -> list[int]:
        """Process ids of all servers that were ever started here."""
        path = self.folder / "starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def log(self) -> str:
        return (self.logs / "server-stub.log").read_text()

    def processes(self, word: str) -> list[psutil.Process]:
        """Living processes of this farm whose command line holds `word` too."""
        return [p for p in self.everything() if word in " ".join(command_line(p))]

    def supervisors(self) -> list[psutil.Process]:
        states = [json.loads(p.read_text()) for p in self.journal.glob("serving/*/*/state.json")]
        return _living({state["supervisor"]["pid"] for state in states})

    def everything(self) -> list[psutil.Process]:
        """Every living process of the farm: servers, their children, guards, supervisors."""
        jobs = {job.process.pid for job in self._jobs}
        marked = {
            process.pid
            for process in psutil.process_iter()
            if self.mark in command_line(process) and process.pid not in jobs
        }
        return _living(marked | {process.pid for process in self.supervisors()})

    def close(self) -> None:
        """End what a failed test may have left, by process id."""
        for job in self._jobs:
            job.kill()
        for process in self.everything():
            with contextlib.suppress(psutil.Error):  # it may just go by itself
                process.kill()


class Job:
    """A holder process that tells its base URL and waits for orders."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """The next thing it says: a base URL, `left`, or nothing when it failed."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def order(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def leave(self) -> None:
        self.order("leave")
        assert self.line() == "left"
        self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def failure(self, timeout_s: float = PATIENCE_S) -> str:
        """What a failed job wrote to standard error."""
        _, errors = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode != 0
        return errors


def free_port() -> int:
    """A port that no one else takes by chance: below those that the kernel deals out."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free between 20000 and 30000")


def kill_dash_nine(pid: int) -> None:
    """Kill, and wait for the death: the kernel closes a process's files a moment before it ends."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _living({pid}), PATIENCE_S, f"process {pid} is dead")


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _living(pids: set[int]) -> list[psutil.Process]:
    living = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
        except psutil.Error:
            continue
    return living
