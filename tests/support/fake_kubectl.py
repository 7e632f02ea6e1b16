"""A kubectl in the place of the real one, for the commands of scripts/cluster.

What stays on this machine (kustomize, `--local`) is the real kubectl's. Calls of the API are
written down and get the answers that a test has set; `exec` runs its command in a folder, the
volume.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waiting import PATIENCE_S
from warm_python import warm
from workflow_project import Project

IMAGE = "grace:latest"


@dataclass
class Call:
    """A call of the API: its arguments, and what it was given as input or by a file."""

    arguments: list[str]
    given: str

    def __str__(self) -> str:
        return " ".join(self.arguments)


@dataclass
class Cluster:
    """A checkout whose cluster is `local`, a volume, and a kubectl between them."""

    folder: Path
    answers: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def made_in(cls, folder: Path) -> Cluster:
        made = cls(folder)
        Project.copied_to(made.checkout)
        made.volume.mkdir()
        made.configure("cluster: local")
        program = folder / "bin" / "kubectl"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {folder} "$@"\n')
        program.chmod(0o755)
        program.with_name("python3").symlink_to(warm().command)
        return made

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    def configure(self, *lines: str) -> None:
        """Put lines into config.yaml in the place of those with the same keys."""
        path = self.checkout / "config/config.yaml"

        def key(line: str) -> str:
            return line.partition(":")[0].rstrip()

        keys = {key(line) for line in lines}
        kept = [line for line in path.read_text().splitlines() if key(line) not in keys]
        path.write_text("\n".join([*kept, *lines, ""]))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace what a file says, everywhere in it."""
        text = (self.checkout / path).read_text()
        assert old in text
        (self.checkout / path).write_text(text.replace(old, new))

    def answer(
        self, call: str, output: str = "", error: str = "", status: int = 0, after: str = ""
    ) -> None:
        """What calls that match a pattern get, once there was one that matches `after`.

        The first answer that matches counts.
        """
        self.answers.append(
            {"call": call, "out": output, "err": error, "status": status, "after": after}
        )

    def run(
        self, command: str, *arguments: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """One of the commands in the checkout."""
        (self.folder / "answers").write_text(json.dumps(self.answers))
        return subprocess.run(
            ["bash", f"scripts/cluster/{command}.sh", *arguments],
            cwd=self.checkout,
            env={
                **os.environ,
                "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def calls(self, pattern: str = "") -> list[Call]:
        """The calls that match, in order."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call for line in lines if re.search(pattern, str(call := Call(**json.loads(line))))]


def main(folder: Path, arguments: list[str]) -> int:
    """What kubectl does."""
    if arguments[0] in ("kustomize", "config") or "--local" in arguments:
        path = os.environ["PATH"].partition(os.pathsep)[2]
        real = shutil.which("kubectl", path=path)
        assert real is not None
        os.execv(real, ["kubectl", *arguments])
    given = ""
    files = [word.rpartition("=")[2] for word in arguments if word.startswith("--from-file")]
    if files:
        given = Path(files[0]).read_text(encoding="utf-8")
    elif arguments[-2:] == ["--filename", "-"]:
        given = sys.stdin.read()
    with (folder / "calls").open("a", encoding="utf-8") as calls:
        calls.write(json.dumps({"arguments": arguments, "given": given}) + "\n")
    for answer in json.loads((folder / "answers").read_text()):
        begun = Cluster(folder).calls(answer["after"])
        if begun and re.search(answer["call"], " ".join(arguments)):
            sys.stdout.write(answer["out"])
            sys.stderr.write(answer["err"])
            return int(answer["status"])
    if "exec" in arguments:
        command = arguments[arguments.index("--") + 1 :]
        return subprocess.run(command, cwd=folder / "volume", check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
