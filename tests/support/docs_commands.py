"""Commands of the documentation that say of themselves that they are run, and run as they stand."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from warm_python import warm
from workflow_project import ROOT, Project

#: `<!-- run -->`, or `<!-- run: long -->` for tests/long, on the line before a block of bash.
_BLOCK = re.compile(
    r"^(?P<indent> *)<!-- run(?P<long>: long)? -->\n(?P=indent)```bash\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A block of commands; `page` is its file, below the project."""

    page: str
    long: bool
    text: str


def blocks() -> Iterator[Block]:
    """All blocks of docs/ that are to be run, in their order."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        for found in _BLOCK.finditer(path.read_text(encoding="utf-8")):
            page = path.relative_to(ROOT).as_posix()
            yield Block(page, found["long"] is not None, found["text"])


def follow(block: Block, project: Project) -> list[str]:
    """Type a block's commands in a project; what each printed. All must succeed.

    Snakemake and Python run in forks of a process that has imported them, everything else in a
    shell.
    """
    printed = []
    for line in block.text.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        if program == "snakemake":
            printed.append(project.run(*arguments))
            continue
        command: list[str] = [warm().command, *arguments]
        if program != "python":
            bash = shutil.which("bash")
            assert bash is not None
            command = [bash, "-euc", line]
        done = subprocess.run(
            command, cwd=project.folder, text=True, check=False, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, (block.page, line, done.stdout)
        printed.append(done.stdout)
    return printed


def copied_to(folder: Path) -> Project:
    """A project to type them in."""
    return Project.copied_to(folder)
