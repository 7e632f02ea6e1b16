"""Python whose imports are done: Snakemake and the scripts of jobs in forks of one process.

A run of the workflow is some twenty Python processes that do little but import. Run as a process,
this module imports what they need and then serves forks (warm_processes.py). Grace itself, which
tests edit, a fork has from there only if its folder holds the same library, byte by byte. In a fork
`sys.executable` is the command that stands for Python, and `Rscript` is that of warm_r.py, wherever
it would be the real one.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import importlib
import os
import re
import runpy
import shutil
import signal
import socket
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

from warm_processes import Command, Server
from warm_r import r_command

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path("workflow", "lib")
#: Beginnings of variables that libraries read when they are imported; a token is read when used.
AT_IMPORT = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_")


class Warm:
    """Forks of Python and R: `command` stands for `python`, `rscript` for `Rscript`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="warm-"))
        programs = self._folder / "bin"
        for folder in (programs, self._folder / "r"):
            folder.mkdir()
        self._r = r_command(self._folder / "r" / "Rscript")
        places = [str(self._r.path), self._r.real] if self._r else []
        self._python = Command(
            programs / "python", sys.executable, Path(__file__), str(programs / "python"), *places,
            at_start=AT_IMPORT, known="-P\0-c\0|-m\0|[^-]",
        )  # fmt: skip
        self.command = self._python.path
        self.rscript = self._r.path if self._r else Path("Rscript")
        # Other programs of the environment, such as pip's, stay those of Python.
        snakemake = self.command.with_name("snakemake")
        snakemake.write_text(f'#!/bin/sh\nexec "{self.command}" -m snakemake "$@"\n')
        snakemake.chmod(0o700)

    def close(self) -> None:
        """End the processes."""
        for command in filter(None, (self._python, self._r)):
            command.close()
        shutil.rmtree(self._folder)


@cache
def warm() -> Warm:
    """That of this process, which ends with it."""
    made = Warm()
    atexit.register(made.close)
    return made


class Library:
    """Grace's modules, imported once, for forks in folders that hold the same library."""

    def __init__(self) -> None:
        from warm_parsing import know_settings

        know_settings(ROOT)
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


def import_all(command: str) -> Library:
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
    from warm_parsing import keep_rules

    # What is kept goes with the folder of the command.
    kept = Path(command).with_name("rules")
    kept.mkdir()
    keep_rules(kept)
    return Library()


def run(
    library: Library,
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    command: str,
    rscript: str = "",
    real_rscript: str = "",
) -> None:
    """What `python` with these arguments runs."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if rscript and shutil.which("Rscript") == real_rscript:
        os.environ["PATH"] = os.pathsep.join([str(Path(rscript).parent), environment["PATH"]])
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
    library = import_all(sys.argv[2])
    del sys.path[0]
    # Neither looking for garbage nor taking all apart at the end may copy what forks share.
    gc.freeze()
    asked = Server(socket.socket(fileno=int(sys.argv[1]))).serve()
    if asked is not None:
        # What the imports left to be done at the end is done by the process that imported; half of
        # a fork's own time went there.
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]
        leave(status_of(library, *asked, *sys.argv[2:]))
