"""Run as a process: hands bad input to Grace, and says what became of it.

Reads seeds or inputs from standard input, JSON lines, and answers each with `refused`, `accepted`,
`traceback` or `hang`, the words, and the input.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from dataclasses import asdict
from pathlib import Path

from bad_inputs import ROOT, BadInput, bad_input, shipped
from snakemake.cli import parse_config
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

from grace.errors import GraceError
from grace.settings.project import Project
from grace.settings.sources import check_entries, check_files

LIMIT_S = 10
"""Of computing; a busy machine makes none of it longer."""
WAIT_S = 120
"""In all, for what waits without computing."""
LIMIT_BYTES = 6 * 2**30
"""Of address space, of which torch takes much."""


class Hang(BaseException):
    """The time is over; nothing catches it."""


def project_folder(folder: Path) -> None:
    """A project with a few trials."""
    shutil.copytree(ROOT / "config", folder / "config")
    for own in (
        "workflow/lib",
        "docs",
        "envs",
        "profiles",
        "scripts",
        "tests",
        ".git",
        ".snakemake",
    ):
        (folder / own).mkdir(parents=True)
    (folder / "Snakefile").touch()
    (folder / "resources/models").mkdir(parents=True)
    (folder / "resources/models/pico").symlink_to(ROOT / "resources/models/pico")
    shutil.copytree(ROOT / "studies", folder / "studies")
    shutil.copytree(ROOT / "resources/reference", folder / "resources/reference")
    (folder / "resources/stimuli").mkdir()
    for study in ("study1", "study2"):
        path = f"resources/stimuli/{study}.csv"
        lines = shipped(path).splitlines(keepends=True)
        (folder / path).write_text("".join(lines[:4]), encoding="utf-8")


def read(entries: list[str]) -> None:
    """As workflow/Snakefile does, up to the first job. Raises what it raises."""
    check_files([Path("config/config.yaml")])
    check_entries(entries)
    values = load_configfile("config/config.yaml")
    update_config(values, parse_config(entries))
    Project(Path.cwd(), values, {}).check()


def outcome(bad: BadInput) -> tuple[str, str]:
    """What became of an input in the present folder, which is as it was afterwards."""
    before = {path: Path(path).read_bytes() if Path(path).exists() else None for path in bad.files}
    try:
        for path, content in bad.files.items():
            Path(path).write_bytes(content.encode("latin-1"))
        try:
            signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
            signal.setitimer(signal.ITIMER_REAL, WAIT_S)
            read(bad.entries)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    except GraceError as error:
        return "refused", str(error)
    except Hang:
        return "hang", ""
    except BaseException:
        return "traceback", traceback.format_exc(limit=-6)
    finally:
        for path, data in before.items():
            if data is None:
                Path(path).unlink()
            else:
                Path(path).write_bytes(data)
    return "accepted", ""


def serve() -> None:
    def over(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, over)
    signal.signal(signal.SIGPROF, over)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        project_folder(Path(folder) / "project")
        os.chdir(Path(folder) / "project")
        Project(Path.cwd(), {}, {}).check()  # imports what is imported late
        for line in sys.stdin:
            request = json.loads(line)
            bad = bad_input(request) if isinstance(request, int) else BadInput(**request)
            print(json.dumps([*outcome(bad), asdict(bad)]), flush=True)
        os.chdir("/")


if __name__ == "__main__":
    serve()
