"""A copy of the project in a folder of its own, and Snakemake run in it as a user would."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "profiles", "envs", "scripts", "resources")
#: Tells which jobs Snakemake found to be needed, from its own graph.
TELL_JOBS = """

import atexit
import json


@atexit.register
def tell_jobs():
    if workflow.is_main_process and workflow.dryrun and workflow.dag is not None:
        needed = workflow.dag.needrun_jobs(exclude_finished=False)
        with open("jobs.json", "w") as file:
            json.dump([[job.rule.name, job.wildcards_dict] for job in needed], file)
"""


@dataclass(frozen=True)
class Project:
    """A copy of the project that tests may edit."""

    folder: Path

    @classmethod
    def copied_to(cls, folder: Path) -> Project:
        folder.mkdir(parents=True)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, folder / part, ignore=ignored)
            else:
                shutil.copy2(source, folder / part)
        return cls(folder)

    def snakemake(
        self, *arguments: str, timeout_s: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake; standard error and output together, as a terminal shows them."""
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def run(self, *arguments: str, timeout_s: float = 900) -> str:
        """Run Snakemake, which must succeed; its output."""
        done = self.snakemake(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def stale(self, *arguments: str) -> dict[str, int]:
        """What a dry-run would do: jobs by rule, `all` left out."""
        shown = self.run("-n", *arguments)
        if "Job stats:" not in shown:
            assert "Nothing to be done" in shown, shown
            return {}
        table = shown.split("Job stats:", 1)[1].split("total", 1)[0]
        jobs = dict(re.findall(r"^(\w+)\s+(\d+)\s*$", table, re.MULTILINE))
        return {rule: int(count) for rule, count in jobs.items() if rule != "all"}

    def tells_jobs(self) -> None:
        """Make `stale_jobs` possible."""
        with (self.folder / "Snakefile").open("a", encoding="utf-8") as file:
            file.write(TELL_JOBS)

    def stale_jobs(self, *arguments: str) -> set[str]:
        """The jobs that a dry-run would run, such as `score pico/0/study1`; `all` left out."""
        told = self.folder / "jobs.json"
        told.unlink(missing_ok=True)
        self.run("-n", *arguments)
        return {
            " ".join([rule, *("/".join(wildcards.values()).split())])
            for rule, wildcards in json.loads(told.read_text(encoding="utf-8"))
            if rule != "all"
        }

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the first `old` in a file; it must be there."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
