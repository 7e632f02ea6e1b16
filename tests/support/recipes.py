"""Recipes of CONTRIBUTING.md, followed exactly as they are written."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from workflow_project import ROOT, Project


def blocks(section: str, document: str = "CONTRIBUTING.md") -> Iterator[tuple[str, str]]:
    """Language and text of each block of code in a section of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    _, _, after = text.partition(f"\n## {section}\n")
    assert after, f"{document} has no section '{section}'"
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", after.split("\n## ")[0], re.M | re.S):
        yield found[1], found[2]


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of Snakemake's commands in a block."""
    for line in text.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "snakemake", line
        yield arguments


def write(language: str, text: str, folder: Path) -> None:
    """Do to a project's files what a block says.

    A block's first line names its file: a new one in Python, one that is added to otherwise. A diff
    has to fit, at whatever line.
    """
    if language == "diff":
        apply = ["git", "apply", "--directory", folder.name]
        subprocess.run(apply, cwd=folder.parent, input=text, text=True, check=True)
        return
    path = folder / text.split("\n", 1)[0].removeprefix("# ")
    assert path.exists() == (language != "python"), path
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def write_all(section: str, folder: Path) -> None:
    """Do to a project's files what a section says, and run nothing."""
    for language, text in blocks(section):
        if language != "bash":
            write(language, text, folder)


def follow(section: str, project: Project) -> list[str]:
    """Do what a section says, in its order; what each command printed. All must succeed."""
    printed = []
    for language, text in blocks(section):
        if language == "bash":
            printed += [project.run(*arguments) for arguments in commands(text)]
        else:
            write(language, text, project.folder)
    return printed
