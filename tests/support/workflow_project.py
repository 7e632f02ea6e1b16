"""A copy of the project in a folder of its own, and Snakemake run in it as a user would."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "profiles", "envs", "scripts", "studies", "resources")
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

    def tells_jobs(self) -> None:
        """Make `DryRuns` possible."""
        with (self.folder / "Snakefile").open("a", encoding="utf-8") as file:
            file.write(TELL_JOBS)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the first `old` in a file; it must be there."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


class DryRuns:
    """Dry-runs of projects that tell their jobs, without the second that each import takes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("warm_snakemake.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def jobs(self, project: Project, *arguments: str) -> set[str]:
        """The jobs that would run, such as `score pico/0/study1`; `all` left out."""
        told = project.folder / "jobs.json"
        told.unlink(missing_ok=True)
        status, output = self._dry_run(project, *arguments)
        assert status == "0\n", output
        return {
            f"{rule} {'/'.join(wildcards.values())}".strip()
            for rule, wildcards in json.loads(told.read_text(encoding="utf-8"))
            if rule != "all"
        }

    def refused(self, project: Project, *arguments: str) -> str:
        """The output of a dry-run that must fail in plain words."""
        status, output = self._dry_run(project, *arguments)
        assert status == "1\n", output
        assert "Traceback" not in output, output
        return output

    def _dry_run(self, project: Project, *arguments: str) -> tuple[str, str]:
        output = project.folder / "dry-run.txt"
        request = {
            "folder": str(project.folder),
            "arguments": ["-n", *arguments],
            "output": str(output),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._process.stdout.readline(), output.read_text(encoding="utf-8")

    def close(self) -> None:
        """End the process, which reads its last line now."""
        self._process.communicate()
