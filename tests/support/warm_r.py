"""R whose packages are loaded: analyses in forks of one process that has R within it.

An analysis of a few trials loads packages for most of its time. Run as a process, this module
starts R (Writing R Extensions, 8.1: Embedding R under Unix-alikes), loads the packages that Grace's
analyses use, at the first question, and then serves forks (warm_processes.py). A fork reads its
code as `Rscript` does: from the top, printing values, to an end with status 1 at an error.
The packages are loaded and not attached. What a record tells of loaded packages names all of them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from warm_processes import Command, Server

PACKAGES = Path(__file__).resolve().parents[2] / "envs" / "r-packages.txt"
#: What R reads when it starts.
AT_START = ("LANG", "LC_", "R_", "TZ")
#: `--vanilla` and a file, or an expression that is as short as R takes them, however it is quoted.
KNOWN = r"(?s)--vanilla\0(-e\0[^\0]{0,3000}\0|[^-])"
LINTER = "lintr"
#: What the program `R` sets before it becomes R.
SET_BY_R = ("R_HOME", "R_SHARE_DIR", "R_INCLUDE_DIR", "R_DOC_DIR", "LD_LIBRARY_PATH")


def r_command(path: Path) -> Command | None:
    """The command that stands for `Rscript`; None where there is no R."""
    real = shutil.which("Rscript")
    if real is None:
        return None
    return Command(path, real, Path(__file__), at_start=AT_START, known=KNOWN)


class EmbeddedR:
    """R in this process."""

    def start(self) -> None:
        """Start it and load the packages."""
        shown = subprocess.run(["R", "CMD", "printenv"], capture_output=True, text=True, check=True)
        variables = dict(line.partition("=")[::2] for line in shown.stdout.splitlines())
        self._variables = {name: variables[name] for name in SET_BY_R}
        os.environ.update(self._variables)
        library = Path(variables["R_HOME"], "lib", "libR.so")
        self._library = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        self._of(ctypes.c_int, "R_SignalHandlers").value = 0
        self._library.Rf_initEmbeddedR(*_c_texts("R", *OPTIONS))
        self._of(ctypes.c_int, "R_Interactive").value = 0
        # Each fork has a temporary folder of its own, which its end deletes.
        folder = self._of(ctypes.c_char_p, "R_TempDir")
        Path(os.fsdecode(folder.value)).rmdir()
        folder.value = None
        evaluate = self._library.R_ParseEvalString
        evaluate.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        packages = [
            name.removeprefix("r-cran-")
            for name in PACKAGES.read_text("utf-8").split()
            if name.startswith("r-cran-") and name != f"r-cran-{LINTER}"
        ]
        for name in packages:
            evaluate(f"loadNamespace('{name}')".encode(), self._of(ctypes.c_void_p, "R_GlobalEnv"))

    def run(self, code: bytes, arguments: list[str], environment: dict[str, str]) -> None:
        """Run code as `Rscript` does, and end this process as it ends."""
        # What R itself set stays.
        os.environ.clear()
        os.environ.update(environment | self._variables)
        lines = iter((code if code.endswith(b"\n") else code + b"\n").splitlines(keepends=True))
        rest = b""

        def read(_: bytes, buffer: int, size: int, __: int) -> int:
            nonlocal rest
            rest = rest or next(lines, b"")
            part, rest = rest[: size - 1], rest[size - 1 :]
            ctypes.memmove(buffer, part + b"\0", len(part) + 1)
            return bool(part)

        function = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int
        )(read)
        self._of(ctypes.c_void_p, "ptr_R_ReadConsole").value = ctypes.cast(
            function, ctypes.c_void_p
        ).value
        self._library.R_reInitTempDir(0)
        self._library.R_set_command_line_arguments(*_c_texts("R", *OPTIONS, *arguments))
        self._library.run_Rmainloop()

    def _of(self, kind: type, name: str) -> ctypes.c_int | ctypes.c_void_p:
        return kind.in_dll(self._library, name)


OPTIONS = ("--no-echo", "--no-restore", "--vanilla")


def _c_texts(*texts: str) -> tuple[int, ctypes.Array]:
    return len(texts), (ctypes.c_char_p * len(texts))(*[text.encode() for text in texts])


if __name__ == "__main__":
    r = EmbeddedR()
    asked = Server(socket.socket(fileno=int(sys.argv[1])), r.start).serve()
    if asked is not None:
        arguments, folder, environment = asked
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if arguments[1] == "-e":
            source, code, given = "-e", arguments[2].encode(), arguments[3:]
        else:
            source, code = f"--file={arguments[1]}", Path(arguments[1]).read_bytes()
            given = arguments[2:]
        r.run(code, [source, *(["--args", *given] if given else [])], environment)
