"""The command that stands for `python` in tests does what Python does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from warm_python import ROOT, warm

TELLS = """
import os, sys
print(sys.argv, os.getcwd(), os.environ["MARK"], sys.stdin.read(), __name__)
print("beside", file=sys.stderr)
"""
ENDS = {
    "status": ("sys.exit(3)", 3),
    "words": ("sys.exit('because')", 1),
    "error": ("raise ValueError('why')", 1),
    "signal": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "thread": ("threading.Thread(target=lambda: print('late')).start()", 0),
}


def run(python: str | Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *arguments], capture_output=True, text=True, input="read",
        env={**os.environ, "MARK": "set"}, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("how", ["script", "module", "code", "other code"])
def test_arguments_folder_environment_and_streams_are_those_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tells.py").write_text(TELLS)
    arguments = {
        "script": ("tells.py", "a b"),
        "module": ("-m", "tells", "a b"),
        "code": ("-P", "-c", TELLS, "a b"),
        "other code": ("-c", TELLS, "a b"),
    }[how]
    real, forked = run(sys.executable, *arguments), run(warm().command, *arguments)
    assert (forked.returncode, forked.stdout, forked.stderr) == (0, real.stdout, real.stderr)


@pytest.mark.parametrize("name", ENDS)
def test_it_ends_as_python_does(tmp_path: Path, name: str) -> None:
    code, status = ENDS[name]
    script = tmp_path / "ends.py"
    script.write_text(f"import os, signal, sys, threading\n{code}\n")
    real, forked = run(sys.executable, script), run(warm().command, script)
    assert real.returncode == forked.returncode == status
    assert forked.stdout == real.stdout
    # A traceback has the fork's own frames, too.
    assert forked.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_command_ends_what_it_runs(tmp_path: Path, number: int) -> None:
    script = tmp_path / "waits.py"
    script.write_text(
        "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "print(os.getpid(), flush=True)\nsignal.pause()\n"
    )
    # Who holds the other end of the pipe is alive.
    with subprocess.Popen([warm().command, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        process.send_signal(number)
        assert process.stdout.read() == ""
        assert process.wait() == -number


TELLS_WHERE = "import sys; from grace.source_code import LIBRARY; print(LIBRARY, len(sys.modules))"


def test_grace_is_the_folders_own_whether_it_was_imported_before_or_not(tmp_path: Path) -> None:
    library = tmp_path / "workflow" / "lib" / "grace"
    shutil.copytree(ROOT / "workflow" / "lib" / "grace", library)

    def told(python: str | Path) -> tuple[str, int]:
        done = subprocess.run(
            [python, "-P", "-c", f"import sys; sys.path.insert(0, {str(library.parent)!r})\n"
             f"{TELLS_WHERE}"],
            capture_output=True, text=True, check=True, cwd=tmp_path,
        )  # fmt: skip
        where, modules = done.stdout.split()
        return where, int(modules)

    assert told(sys.executable)[0] == str(library)
    where, imported = told(warm().command)
    assert where == str(library)
    with (library / "errors.py").open("a") as file:
        file.write("\nEDITED = True\n")
    where, anew = told(warm().command)
    assert where == str(library)
    assert anew < imported, "an edited library is imported anew"
    (library / "errors.py").write_text("raise ValueError('this one')\n")
    edited = (
        "-P",
        "-c",
        f"import sys; sys.path.insert(0, {str(library.parent)!r})\nimport grace.errors",
    )
    done = subprocess.run(
        [warm().command, *edited], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stderr.splitlines()[-1] == "ValueError: this one"
