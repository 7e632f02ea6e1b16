"""Recipes of CONTRIBUTING.md, followed exactly as they are written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from workflow_project import ROOT


def blocks(section: str) -> Iterator[tuple[str, str]]:
    """Language and text of each block of code in a section of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, after = text.partition(f"\n## {section}\n")
    assert after, f"CONTRIBUTING.md has no section '{section}'"
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", after.split("\n## ")[0], re.M | re.S):
        yield found[1], found[2]


def write(section: str, folder: Path) -> list[str]:
    """Write a section's files into a project, and give the arguments of its command.

    A block's first line names its file: a new one in Python, one that is added to in YAML.
    """
    arguments: list[str] = []
    for language, text in blocks(section):
        if language == "bash":
            program, *arguments = shlex.split(text)
            assert program == "snakemake"
            continue
        path = folder / text.split("\n", 1)[0].removeprefix("# ")
        assert path.exists() == (language == "yaml"), path
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    return arguments
