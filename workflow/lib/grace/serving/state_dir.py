"""The state folder of one server: who holds it, who supervises it, and what state it is in.

    <journal_dir>/serving/<host>/<name>-<digest>/
        holders/<id>.lock   one file a holder, locked (flock) for as long as the holder lives
        supervisor.lock     locked by the one supervisor
        state.json          written by the supervisor alone, replaced atomically
        evict               asks an idle server to make room at once

Only locks say who is alive: the kernel drops them when their owner dies in any way. Files alone,
left over from earlier runs or a reboot, mean nothing. The host's name is part of the path because
`journal_dir` may be on a volume that many nodes share.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

from grace.runs.process_id import ProcessId

Phase = Literal["starting", "ready", "stopping", "failed"]


@dataclass(frozen=True)
class ServerState:
    """What a supervisor says of its server; true for as long as that supervisor lives.

    `folder` holds the server's Unix socket, if it has one, and nothing else.
    """

    supervisor: ProcessId
    phase: Phase
    log_file: str
    port: int | None = None
    base_url: str | None = None
    restarts: int = 0
    reason: str | None = None
    folder: str | None = None


class Lock:
    """An exclusive flock on a file; held until `release` or the end of this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def take(self, *, wait: bool) -> bool:
        """Lock the file, creating it; False where another process holds it and `wait` is off."""
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            opened = self.path.open("a+", encoding="utf-8")
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                opened.close()
                return False
            if _same_file(opened, self.path):
                self._file = opened
                return True
            opened.close()  # it was unlinked as stale between open and lock: once more

    def write(self, text: str) -> None:
        """Store `text` in the held lock file, for people and for the supervisor."""
        assert self._file is not None
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _same_file(opened: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _held(path: Path, *, unlink_stale: bool = False) -> bool:
    """Whether a living process has the lock. A shared probe does not disturb other probes."""
    try:
        with path.open("r", encoding="utf-8") as probe:
            try:
                fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            if unlink_stale:
                path.unlink(missing_ok=True)
            return False
    except FileNotFoundError:
        return False


class StateDir:
    """One server's state folder, as holders and the supervisor see it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, journal_dir: Path, name: str, digest: str) -> StateDir:
        """The folder for a configuration digest on this host."""
        return cls(host_dir(journal_dir) / f"{name}-{digest[:16]}")

    def siblings(self) -> Iterator[StateDir]:
        """The folders of this host's other servers."""
        return (other for other in state_dirs(self.path.parent) if other.path != self.path)

    # --- holders

    def hold(self, workflow: ProcessId) -> Lock:
        """Register a holder; it counts until its lock is released."""
        lock = Lock(self.path / "holders" / f"{os.getpid()}-{uuid.uuid4().hex}.lock")
        lock.take(wait=True)
        lock.write(json.dumps(asdict(workflow)))
        return lock

    def holders(self) -> list[ProcessId | None]:
        """The workflow of every living holder (None while it is not yet written)."""
        living: list[ProcessId | None] = []
        for path in sorted((self.path / "holders").glob("*.lock")):
            if _held(path, unlink_stale=True):
                try:
                    living.append(ProcessId(**json.loads(path.read_text(encoding="utf-8"))))
                except (OSError, ValueError, TypeError):
                    living.append(None)
        return living

    # --- supervisor

    def supervisor_lock(self) -> Lock:
        return Lock(self.path / "supervisor.lock")

    def supervised(self) -> bool:
        """Whether a supervisor lives."""
        return _held(self.path / "supervisor.lock")

    def read_state(self) -> ServerState | None:
        """The last state written; it may be a dead supervisor's."""
        try:
            values = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
            return ServerState(**{**values, "supervisor": ProcessId(**values["supervisor"])})
        except (FileNotFoundError, KeyError, ValueError, TypeError):
            return None

    def write_state(self, state: ServerState) -> None:
        write_atomically(self.path / "state.json", json.dumps(asdict(state), indent=1))

    # --- eviction

    def ask_to_leave(self) -> None:
        """Ask the supervisor to stop its server at once if no one holds it."""
        (self.path / "evict").touch()

    def asked_to_leave(self) -> bool:
        """Whether someone did; the question is answered by asking."""
        try:
            (self.path / "evict").unlink()
        except FileNotFoundError:
            return False
        return True


def host_dir(journal_dir: Path) -> Path:
    """The folder that holds the state folders of this host's servers."""
    return journal_dir.absolute() / "serving" / socket.gethostname()


def state_dirs(host_folder: Path) -> Iterator[StateDir]:
    """Every state folder in a host's folder, of living servers and of dead ones."""
    return (StateDir(path.parent) for path in sorted(host_folder.glob("*/supervisor.lock")))


def port_owner(host_folder: Path, port: int) -> StateDir | None:
    """The folder of the living server of ours that has `port`, if one has."""
    for state_dir in state_dirs(host_folder):
        state = state_dir.read_state()
        if state is not None and state.port == port and state.supervisor.alive():
            return state_dir
    return None


def write_atomically(path: Path, text: str) -> None:
    """Write through a temporary file and a rename, so that readers see all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
