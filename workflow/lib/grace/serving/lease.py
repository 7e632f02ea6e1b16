"""The lease of a server: get one, keep it, find it again after a restart."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

import grace
from grace.errors import EngineError
from grace.runs import pod_phases, startup
from grace.runs.process_id import ProcessId
from grace.serving.processes import last_lines, poll
from grace.serving.spec import HOST, ServerSpec, SupervisorTask
from grace.serving.state_dir import Lock, ServerState, StateDir, port_owner

PROGRESS_S = 5.0
"""Seconds between two log lines while a server starts."""
_POLL_S = 0.1
_EVICTION_S = 45.0
_SUPERVISORS = 3
"""Supervisors that one wait may start before it gives up; only kills from outside end them."""

logger = logging.getLogger(__name__)


class Lease:
    """A held server. Other processes may hold the same one at the same time."""

    def __init__(self, spec: ServerSpec, state_dir: StateDir, log_file: Path, workflow: ProcessId):
        self._spec = spec
        self._state_dir = state_dir
        self._own_log_file = log_file
        self._workflow = workflow
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._old_state = state_dir.read_state()
        self._phase, self._log_from = "", 0

    @property
    def log_file(self) -> Path:
        """Where the server's output goes: the log folder of the holder that started it."""
        state = self._state_dir.read_state()
        return Path(state.log_file) if state else self._own_log_file

    def wait_ready(self) -> str:
        """The server's base URL, for example `http://127.0.0.1:41234` or `unix:/tmp/…/socket`.

        Returns at once while the server is healthy. Where it is starting, or starting again after
        a crash, this waits, logging progress, for `start_timeout_s` seconds at most. Raises
        `EngineError` with the server's last log lines where it is not available.
        """
        begun = time.monotonic()
        # Each start has its own limit in the supervisor; this one only bounds a hung supervisor.
        deadline = begun + 2 * self._spec.start_timeout_s + _EVICTION_S
        next_report = begun + PROGRESS_S
        started = 0
        while True:
            state = self._state()
            if state is not None and state.phase == "ready":
                self._note(pod_phases.ANSWERING)
                return str(state.base_url)
            if state is not None and state.phase == "failed":
                raise EngineError(str(state.reason))
            if self._needs_supervisor(state):
                started += 1
                if started > _SUPERVISORS:
                    raise EngineError(self._explain("lost its supervisor again and again"))
                self._start_supervisor()
            now = time.monotonic()
            if now > deadline:
                raise EngineError(self._explain(f"is not ready after {now - begun:.0f} s"))
            if now > next_report:
                next_report = now + PROGRESS_S
                self._note(pod_phases.server_phase(self._written()))
                line = "".join(last_lines(self.log_file, count=1)) or "(no output yet)"
                logger.info(
                    "%s: waiting for its server, %.0f s; last line: %s",
                    self._spec.name,
                    now - begun,
                    line,
                )
            time.sleep(_POLL_S)

    def _note(self, phase: str) -> None:
        """Have the run know of a phase, where this is a pod of it; once."""
        if phase != self._phase:
            self._phase = phase
            pod_phases.note(phase)

    def _written(self) -> str:
        """What the server has written since it was started here; its first million bytes."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(self._log_from)
                return log.read(10**6).decode("utf-8", "replace")
        except OSError:
            return ""

    def _state(self) -> ServerState | None:
        """The state as far as it is news: of a living supervisor, or a failure since we came."""
        state = self._state_dir.read_state()
        if state is None or state.supervisor.alive():
            return state
        new = self._old_state is None or state.supervisor != self._old_state.supervisor
        return state if state.phase == "failed" and new else None

    def _needs_supervisor(self, state: ServerState | None) -> bool:
        if state is not None or self._state_dir.supervised():
            return False
        return self._supervisor is None or self._supervisor.poll() is not None

    def _start_supervisor(self) -> None:
        """Start one; where several holders do, the supervisors settle who stays."""
        self._make_room()
        if self._spec.port is not None:
            require_free_port(self._spec.port, self._state_dir.path.parent)
        self._own_log_file.parent.mkdir(parents=True, exist_ok=True)
        logger.info("%s: starting its server; log: %s", self._spec.name, self._own_log_file)
        log = self._own_log_file
        self._log_from = log.stat().st_size if log.exists() else 0
        self._note(pod_phases.STARTING)
        task = SupervisorTask(
            state_dir=str(self._state_dir.path),
            name=self._spec.name,
            command=list(self._spec.command),
            idle_s=self._spec.idle_s,
            start_timeout_s=self._spec.start_timeout_s,
            log_file=str(self._own_log_file),
            workflow=self._workflow,
            port=self._spec.port,
        )
        library = str(Path(grace.__file__).parent.parent)
        # A server may outlive its run: it looks for itself who still wants it.
        inherited = {name: value for name, value in os.environ.items() if name != startup.MARK}
        with self._own_log_file.open("ab") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "grace.serving.supervisor"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, **self._spec.environment, "PYTHONPATH": library},
                start_new_session=True,
            )
        assert self._supervisor.stdin is not None
        with self._supervisor.stdin as pipe:
            pipe.write(task.to_json().encode())

    def _make_room(self) -> None:
        """Have this host's idle servers leave: they would keep the GPU's memory, or the port."""
        evict_idle(self._state_dir.siblings(), self._spec.name)

    def _explain(self, what: str) -> str:
        lines = "\n  ".join(last_lines(self.log_file))
        return (
            f"The model server for '{self._spec.name}' {what}. Last lines of"
            f" {self.log_file}:\n  {lines}"
        )


def evict_idle(servers: Iterable[StateDir], name: str) -> None:
    """Have those of these servers leave that no one holds; `name` is who wants their memory."""
    for other in servers:
        if not other.supervised() or other.holders():
            continue
        logger.info("%s: waiting for the idle server %s to stop", name, other.path)
        other.ask_to_leave()
        poll(
            lambda other=other: not other.supervised() or bool(other.holders()),  # type: ignore[misc]
            _EVICTION_S,
            _POLL_S,
        )


@contextmanager
def lease_server(
    spec: ServerSpec, *, journal_dir: Path, log_dir: Path, workflow_pid: int | None = None
) -> Iterator[Lease]:
    """Hold the server that `spec` describes, starting it where no one has yet.

    Inside the block the server is ready and stays; after it, it stays for `spec.idle_s` seconds
    for the next holder, but no longer than the workflow (process `workflow_pid`, found among this
    process's ancestors by default). Raises `EngineError` where the server is not available.
    """
    state_dir = StateDir.of(journal_dir, spec.name, spec.digest)
    log_file = log_dir.absolute() / f"server-{spec.name}.log"
    workflow = _workflow(workflow_pid)
    held: Lock = state_dir.hold(workflow)
    try:
        lease = Lease(spec, state_dir, log_file, workflow)
        base_url = lease.wait_ready()
        logger.info("%s: server at %s; log: %s", spec.name, base_url, lease.log_file)
        yield lease
    finally:
        held.release()


def _workflow(pid: int | None) -> ProcessId:
    """The process whose end means that no further job will come.

    By default the run that this process is a job of, else the parent process.
    """
    if pid is not None:
        return ProcessId.of(psutil.Process(pid))
    return startup.current_run() or ProcessId.of(psutil.Process().parent() or psutil.Process())


def require_free_port(port: int, host_folder: Path) -> None:
    """Raise `EngineError` where a process that is not one of our servers listens on `port`."""
    with socket.socket() as probe:
        # As servers do: a port whose old connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            owner = port_owner(host_folder, port)
            if owner is not None:
                name = owner.path.name.rsplit("-", 1)[0]
                raise EngineError(
                    f"serving.port: port {port} serves another model, '{name}', that is in"
                    " use. Set `serving: {port: null}` to take a free one for each model."
                ) from None
            raise EngineError(
                f"serving.port: port {port} cannot be used ({error.strerror}). Set another one, or"
                " `serving: {port: null}` to take a free one."
            ) from None
