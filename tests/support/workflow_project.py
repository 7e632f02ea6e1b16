"""A copy of the project in a folder of its own, and Snakemake run in it as a user would."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from warm_python import warm

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "profiles", "envs", "scripts", "studies", "resources")
#: Of the 300 and 2,424 trials that the studies have, which every run reads, checks and asks; few
#: tests ask more. Two trials of each cell of study 1.
TRIALS = {"study1": 72, "study2": 120}
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


def shorten_studies(folder: Path) -> None:
    """Leave a project the first of its trials."""
    for study, trials in TRIALS.items():
        stimuli = folder / f"resources/stimuli/{study}.csv"
        lines = stimuli.read_text(encoding="utf-8").splitlines(keepends=True)
        stimuli.write_text("".join(lines[: trials + 1]), encoding="utf-8")


@dataclass(frozen=True)
class Project:
    """A copy of the project that tests may edit."""

    folder: Path

    @classmethod
    def copied_to(cls, folder: Path, *, whole: bool = False) -> Project:
        """A copy whose studies have the first of their trials, or all."""
        folder.mkdir(parents=True)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part)
            else:
                shutil.copy2(source, folder / part)
        if not whole:
            shorten_studies(folder)
        return cls(folder)

    def snakemake(
        self, *arguments: str, timeout_s: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake; standard error and output together, as a terminal shows them.

        It and its scripts run in forks of a process that has imported what they do; see
        warm_python.py. `Started` is a command of its own.
        """
        return subprocess.run(
            [warm().command, "-m", "snakemake", *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
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

    def jobs(self, *arguments: str) -> set[str]:
        """The jobs that would run, such as `score pico/0/study1`; `all` left out.

        The project must tell them: `tells_jobs`.
        """
        jobs_file = self.folder / "jobs.json"
        jobs_file.unlink(missing_ok=True)
        self.run("-n", *arguments)
        return {
            f"{rule} {'/'.join(wildcards.values())}".strip()
            for rule, wildcards in json.loads(jobs_file.read_text(encoding="utf-8"))
            if rule != "all"
        }

    def refused(self, *arguments: str) -> str:
        """The output of a dry-run that must fail in plain words."""
        done = self.snakemake("-n", *arguments)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    def tells_jobs(self) -> None:
        """Make `jobs` possible."""
        with (self.folder / "Snakefile").open("a", encoding="utf-8") as file:
            file.write(TELL_JOBS)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the first `old` in a file; it must be there."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
