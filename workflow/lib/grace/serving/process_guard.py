"""The process guard: parent of one server process, and the one who leaves nothing of it behind.

`python -m grace.serving.process_guard PROGRAM [ARGUMENT ...]` runs the program as its child. It
ends the program and everything that the program ever started when

* its standard input closes: the supervisor asks for a stop, or has died, kill -9 included;
* the program ends by itself: its engine processes would otherwise live on without it.

Descendants cannot slip away: the guard is a subreaper, so orphans among them become its own
children. Should the guard itself be killed, the kernel kills the program (parent death signal),
and the supervisor, a subreaper too, kills the rest.

Exit code: the program's own (128 + signal where one killed it), or 0 after a stop.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from grace.serving.processes import adopt_orphans, die_with_parent, kill_descendants

STOP_GRACE_S = 10.0
"""Seconds that a program may take to end on SIGTERM before it is killed."""
_POLL_S = 0.2


def _stop_asked() -> bool:
    """Wait a moment for standard input; end of file means that the supervisor wants or is out."""
    readable, _, _ = select.select([sys.stdin], [], [], _POLL_S)
    return bool(readable) and os.read(sys.stdin.fileno(), 1024) == b""


def main(command: list[str]) -> int:
    """Run `command` until it ends or standard input closes; returns the exit code."""
    adopt_orphans()
    # Only the closed pipe stops a guard, so that the supervisor decides on the order of things.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # PYTHONPATH leads to this library; the program has an environment of its own.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        preexec_fn=_program_setup,
        start_new_session=True,
    )
    try:
        while program.poll() is None:
            if _stop_asked():
                program.terminate()
                try:
                    program.wait(STOP_GRACE_S)
                except subprocess.TimeoutExpired:
                    program.kill()
                return 0
        return program.returncode if program.returncode >= 0 else 128 - program.returncode
    finally:
        kill_descendants()


def _program_setup() -> None:
    """In the child, before exec: undo the ignored signals and tie its life to the guard's."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    die_with_parent()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
