"""The supervisor of one model server: starts it, restarts it once, stops it when unused.

`python -m grace.serving.supervisor` reads a JSON `SupervisorTask` from standard input. It runs in a
process session of its own, so that neither Ctrl-C nor the end of the job that started it takes the
server away from other holders. The server itself is the child of a guard (see `process_guard`);
supervisor and guard each clean up when the other is killed.

The server stops

* when no holder has lived for `idle_s` seconds;
* at once when no holder lives and every workflow that ever held it is gone;
* at once when no holder lives and another server wants the machine (`evict`);
* when the supervisor gets SIGTERM.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

from grace.runs.process_id import ProcessId
from grace.serving.addresses import Address, PortAddress, SocketAddress, free_port
from grace.serving.processes import adopt_orphans, kill_descendants, last_lines, poll
from grace.serving.spec import SOCKET, SupervisorTask
from grace.serving.state_dir import ServerState, StateDir

RESTARTS = 1
"""How often a server that was ready and died, or was killed while starting, is started again."""
_POLL_S = 0.2
_STOP_S = 20.0


class _Stop(Exception):
    """The server is to be stopped: no one wants it any more, or a signal came."""


class _Died(Exception):
    """The server ended without being asked, or never became ready; the text says how.

    `again` is false where another start would end in the same way.
    """

    def __init__(self, text: str, *, again: bool) -> None:
        super().__init__(text)
        self.again = again


class Supervisor:
    """One run of a supervisor; `run` returns when the server is gone."""

    def __init__(self, task: SupervisorTask) -> None:
        self._task = task
        self._state_dir = StateDir(Path(task.state_dir))
        self._log_file = Path(task.log_file)
        self._workflows: set[ProcessId] = {task.workflow}
        self._idle_since: float | None = None
        self._signalled = False
        self._guard: subprocess.Popen[bytes] | None = None
        self._first_death = ""
        self._state = ServerState(ProcessId.of(psutil.Process()), "starting", task.log_file)

    def run(self) -> None:
        """Serve until there is no need; does nothing where another supervisor is at work."""
        lock = self._state_dir.supervisor_lock()
        # A probe of a holder's may have the lock for a moment, hence more than one try.
        if not poll(lambda: lock.take(wait=False), timeout_s=2.0):
            return
        adopt_orphans()
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._state_dir.asked_to_leave()
        self._remove_folder(self._state_dir.read_state())
        try:
            self._serve()
        except _Stop:
            self._say("stopping the server")
        except _Died as death:
            # The state first: who has read of it in the log finds it so.
            reason = self._explain(death)
            if self._first_death:
                reason = f"{self._first_death}\nIt was started again. {reason}"
            self._publish(phase="failed", port=None, base_url=None, reason=reason)
            self._say(str(death))
        finally:
            self._stop_server()
            self._remove_folder(self._state)
            lock.release()

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._signalled = True

    def _serve(self) -> None:
        """Start, watch, and start again for as long as that is allowed."""
        while True:
            try:
                self._start()
                self._watch()
            except _Died as death:
                if not death.again:
                    raise
                self._stop_server()
                if self._state.restarts >= RESTARTS:
                    times = "once" if RESTARTS == 1 else f"{RESTARTS} times"
                    text = f"{death}; it had been restarted {times} already"
                    raise _Died(text, again=False) from None
                self._first_death = self._first_death or self._explain(death)
                self._publish(
                    phase="starting", port=None, base_url=None, restarts=self._state.restarts + 1
                )
                self._say(f"{death}; restarting it")

    def _start(self) -> None:
        """Start the server and wait until it is healthy."""
        address = self._address()
        self._publish(phase="starting", port=address.port, base_url=None)
        command = [part.replace(address.placeholder, str(address)) for part in self._task.command]
        self._say(f"starting the server on {address.placeholder[1:-1]} {address}")
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "grace.serving.process_guard", *command],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        deadline = time.monotonic() + self._task.start_timeout_s
        while not address.healthy():
            self._check("while it was starting")
            if time.monotonic() > deadline:
                raise _Died(
                    f"was not ready after {self._task.start_timeout_s:.0f} s"
                    " (`serving.start_timeout_s`)",
                    again=False,
                )
        self._say("the server is ready")
        self._publish(phase="ready", base_url=address.url())

    def _address(self) -> Address:
        """Where the server is to listen: on what its command has a placeholder for.

        A socket's path is short, as the kernel wants it, and on a disk of this machine; its folder
        is this user's alone.
        """
        if not any(SOCKET in part for part in self._task.command):
            return PortAddress(self._task.port or free_port())
        if self._state.folder is None:
            self._publish(folder=tempfile.mkdtemp(prefix="grace-"))
        return SocketAddress(Path(str(self._state.folder)) / f"socket-{self._state.restarts}")

    @staticmethod
    def _remove_folder(state: ServerState | None) -> None:
        """Remove a socket and its folder: this server's, or that of a killed supervisor."""
        if state is not None and state.folder is not None:
            with contextlib.suppress(OSError):  # of another container, or removed by somebody
                for path in Path(state.folder).glob("socket-*"):
                    path.unlink()
                Path(state.folder).rmdir()

    def _watch(self) -> None:
        """Come back only by an exception: the server died, or is not wanted."""
        while True:
            self._check("while it was in use")

    def _check(self, when: str) -> None:
        """One turn of any waiting loop: is the server alive, is it wanted?"""
        time.sleep(_POLL_S)
        assert self._guard is not None
        code = self._guard.poll()
        if code is not None:
            # By a signal; the guard gives its program's as 128 + signal.
            killed = code < 0 or code > 128
            ready = self._state.phase == "ready"
            raise _Died(f"ended with exit code {code} {when}", again=ready or killed)
        if self._signalled:
            self._publish(phase="stopping")
            raise _Stop
        if not self._wanted():
            phase = self._state.phase
            self._publish(phase="stopping")
            # A holder registers first and reads the state then; we do it the other way round, so
            # one of us sees the other.
            if not self._state_dir.holders():
                raise _Stop
            self._publish(phase=phase)

    def _wanted(self) -> bool:
        """Whether someone holds the server, or may soon."""
        holders = self._state_dir.holders()
        evicted = self._state_dir.asked_to_leave()
        if holders:
            self._workflows.update(holder for holder in holders if holder is not None)
            self._idle_since = None
            return True
        now = time.monotonic()
        self._idle_since = self._idle_since if self._idle_since is not None else now
        self._workflows = {workflow for workflow in self._workflows if workflow.alive()}
        return not evicted and bool(self._workflows) and now - self._idle_since < self._task.idle_s

    def _stop_server(self) -> None:
        """End the guard with everything below it, and see that nothing is left."""
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed below
                self._guard.wait(_STOP_S)
            self._guard = None
        kill_descendants()

    def _publish(self, **changes: object) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        self._state_dir.write_state(self._state)

    def _explain(self, death: _Died) -> str:
        lines = "\n  ".join(last_lines(self._log_file))
        return (
            f"The model server for '{self._task.name}' {death}. Last lines of"
            f" {self._log_file}:\n  {lines}"
        )

    def _say(self, text: str) -> None:
        """A line of our own in the server's log."""
        print(f"[grace supervisor {datetime.now(UTC):%H:%M:%S}] {text}", flush=True)


def main() -> None:
    """Read the task from standard input and supervise."""
    Supervisor(SupervisorTask.from_json(sys.stdin.read())).run()


if __name__ == "__main__":
    main()
