"""Who works in a folder: each run writes a file about itself there, and touches it while it lives.

Snakemake's locks say that somebody does, the kernel's whether anybody of this host still lives.
These files say who, and of runs on other hosts that share the volume, whether they still live.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from grace.runs.process_id import ProcessId, process_space

FOLDER = "grace-runs"
#: A run touches its file so often, in seconds; after some of these without, it counts as dead.
BEAT_S = 5.0
BEATS = 4
_LONGEST = 10_000
_SHOWN = 300
_SECRET = re.compile(r"token|key|secret|passw|credential", re.IGNORECASE)


@dataclass(frozen=True)
class Holder:
    """A run: where, since when, and as which command. `silent_s`: when it last touched its file."""

    path: Path
    host: str
    space: str
    pid: int
    started: float
    since: str
    command: str
    silent_s: float

    @property
    def here(self) -> bool:
        """Whether its process would be seen from here."""
        return self.space == process_space()

    def alive(self) -> bool:
        """Whether it still runs; of another host, whether it did a moment ago."""
        if self.here:
            return ProcessId(self.pid, self.started).alive()
        return self.silent_s < BEATS * BEAT_S

    def __str__(self) -> str:
        where = "on this machine"
        if not self.here:
            where = f"on {_printable(self.host)}, last heard of {self.silent_s:.0f} s ago"
        return (
            f"process {self.pid} {where}, since {_printable(self.since)}:"
            f" {_printable(self.command)}"
        )


def hold(folder: Path, command: Sequence[str]) -> None:
    """Say in `folder`, until this process ends, that it works there. Never fails."""
    me = ProcessId.of(psutil.Process())
    facts = {
        "host": socket.gethostname(),
        "space": process_space(),
        "pid": me.pid,
        "started": me.started,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shown(command),
    }
    # One name a process: a run that goes on as another command keeps its own.
    space = hashlib.sha256(process_space().encode()).hexdigest()[:12]
    path = folder.absolute() / FOLDER / f"{me.pid}-{space}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts), encoding="utf-8")
    except OSError:
        return
    atexit.register(_release, path, me.pid)
    threading.Thread(target=_beat, args=(path,), name="holder", daemon=True).start()


def _release(path: Path, pid: int) -> None:
    if os.getpid() == pid:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _beat(path: Path) -> None:
    while True:
        time.sleep(BEAT_S)
        try:
            os.utime(path)
        except FileNotFoundError:
            return
        except OSError:
            continue


def holders(folder: Path) -> list[Holder]:
    """The runs that said they work in `folder`, dead ones included, the oldest first."""
    found = []
    # The volume's clock, which may not be this machine's.
    now = _time_on(folder / FOLDER)
    for path in (folder / FOLDER).glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            if path.stat().st_size > _LONGEST:
                continue
            facts = json.loads(path.read_text(encoding="utf-8"))
            found.append(
                Holder(
                    path, str(facts["host"]), str(facts["space"]), int(facts["pid"]),
                    float(facts["started"]), str(facts["since"]), str(facts["command"]),
                    max(0.0, now - path.stat().st_mtime),
                )
            )  # fmt: skip
    return sorted(found, key=lambda holder: holder.since)


def _time_on(folder: Path) -> float:
    probe = folder / f".{secrets.token_hex(4)}.probe"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def beats(holder: Holder) -> bool:
    """Watch a run of another host until it touches its file, or is too long silent."""
    deadline = time.monotonic() + BEATS * BEAT_S - holder.silent_s
    try:
        before = holder.path.stat().st_mtime_ns
        while time.monotonic() < deadline:
            time.sleep(min(0.5, BEAT_S / 4))
            if holder.path.stat().st_mtime_ns != before:
                return True
    except OSError:
        return False
    return False


def shown(command: Sequence[str]) -> str:
    """A command as it was typed, without what may be a secret."""
    words = ["snakemake" if word.endswith("__main__.py") else word for word in command[:1]]
    words = [Path(word).name for word in words]
    hide = False
    for word in command[1:]:
        name, equals, _ = word.partition("=")
        if hide and not word.startswith("-"):
            words.append("***")
            hide = False
        elif _SECRET.search(name):
            words.append(f"{name}=***" if equals else name)
            hide = not equals
        else:
            words.append(word)
            hide = False
    return shlex.join(words)[: _LONGEST // 4]


def _printable(text: str) -> str:
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return "".join(one if one.isprintable() else "?" for one in cut)
