"""A run as a Provenance Run Crate: data, code, config, environments, report, provenance.

The crate's root is the project's: anyone who unpacks it can verify the results and run it again
(`grace.provenance.reproduce`). What the records beside the results tell
(`grace.provenance.sidecars`) is told again in RO-Crate's words. Profiles: https://www.researchobject.org/workflow-run-crate/profiles/.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from grace.digests import file_digest
from grace.errors import RecordError
from grace.provenance import environment
from grace.provenance.chain import Link
from grace.provenance.crate import (
    MANIFEST,
    METADATA,
    PREVIEW,
    RUN_CONFIG,
    digests_in,
    foreign_weights,
    left_out,
    manifest_of,
)
from grace.provenance.sidecars import read_sidecar, sidecar
from grace.provenance.verify import report_digest, summary, verify
from grace.runs.leftovers import replaced, scratch_folder

#: What a checkout with uncommitted changes has beyond its commit, at the crate's root.
UNCOMMITTED = "uncommitted.patch"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
COMPLETED = "http://schema.org/CompletedActionStatus"
PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
WORKFLOW = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
FORMATS = {
    ".R": "text/x-r-source",
    ".Rmd": "text/markdown",
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".patch": "text/x-diff",
    ".png": "image/png",
    ".py": "text/x-python",
    ".safetensors": "application/octet-stream",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
}
OTHER_FORMAT = "text/plain"
#: Environment variables whose values must be in no crate, and the shortest that is looked for.
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL")
SHORTEST_SECRET = 8


@dataclass(frozen=True)
class Job:
    """What records that one job wrote have in common."""

    record: dict[str, Any]
    outputs: tuple[str, ...]

    @property
    def rule(self) -> str:
        """The workflow's rule."""
        return str(self.record["rule"])

    @property
    def script(self) -> str:
        """The rule's script, from the project's root; the first of the code in a record."""
        return str(next(iter(self.record["code"])))

    @property
    def name(self) -> str:
        """The rule and its wildcards."""
        return " ".join([self.rule, *map(str, self.record["wildcards"].values())])


def jobs_behind(targets: Iterable[str], root: Path) -> list[Job]:
    """The jobs that results come from, in the order in which they started.

    Paths are from the project's root. Raises `RecordError` where a chain is not intact.
    """
    jobs: dict[str, Job] = {}
    seen: set[str] = set()
    pending = list(targets)
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        record = read_sidecar(root / name)
        if record is None:
            continue
        outputs = (name, *record["made_with"])
        jobs[min(outputs)] = Job(record, tuple(sorted(outputs)))
        pending += [*outputs, *record["inputs"]]
    results = [root / name for job in jobs.values() for name in job.outputs]
    verdicts: dict[Path, Link | None] = verify(results, root)
    if any(verdicts.values()):
        raise RecordError(
            f"not archived, because the results are not intact:\n{summary(verdicts)}\nRun the"
            " workflow again to rebuild what is not, or restore the files."
        )
    return sorted(jobs.values(), key=lambda job: job.record["started"])


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RecordError(
            "an archive holds the code at its commit, so the project must be a git checkout:"
            f" {done.stderr.strip()}"
        )
    return done.stdout


def code_files(root: Path) -> list[str]:
    """What git tracks and is there, without weights of models other than pico."""
    names = [name for name in _git(root, "ls-files", "-z").split("\0") if name]
    return [name for name in names if (root / name).is_file() and not foreign_weights(name)]


def sources(jobs: Iterable[Job], root: Path) -> list[str]:
    """Stimuli, prompts and code that the jobs read, tracked or not, as a new engine's folder.

    Raises `RecordError` for a file outside of the project.
    """
    made = {name for job in jobs for name in job.outputs}
    found = set()
    for job in jobs:
        read = [name for name in job.record["inputs"] if name not in made]
        for name in [*read, *(job.record.get("files") or {}), *job.record["code"]]:
            if left_out(name, job.record):
                continue
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise RecordError(
                    f"not archived: {name} lies outside of the project, where no one who has the"
                    " archive could find it. Copy it into the project, name it there in the"
                    " config, and run again."
                )
            found.add(name)
    return sorted(found)


def study_files(folders: Iterable[Path], root: Path) -> list[str]:
    """All files of studies, tracked or not: declarations, theories and R that the run depends on.

    Raises `RecordError` for a folder outside of the project.
    """
    found = []
    for folder in folders:
        if not folder.resolve().is_relative_to(root.resolve()):
            raise RecordError(
                f"not archived: the study in {folder} lies outside of the project, where nobody who"
                " has the archive could find it. Copy its folder into the project, name it there in"
                " `studies`, and run again."
            )
        found += [
            path.resolve().relative_to(root.resolve())
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        ]
    return [
        name.as_posix()
        for name in found
        if not any(part.startswith((".", "__pycache__")) for part in name.parts)
    ]


def refuse_secrets(files: Mapping[str, Path]) -> None:
    """Raise `RecordError` if a file holds the value of a secret environment variable."""
    secrets = {
        value.encode(): name
        for name, value in os.environ.items()
        if SECRET.search(name) and len(value) >= SHORTEST_SECRET and not Path(value).exists()
    }
    for name, path in files.items():
        content = path.read_bytes() if secrets else b""
        for value, variable in secrets.items():
            if value in content:
                raise RecordError(
                    f"not archived: {name} holds the value of the environment variable"
                    f" {variable}. Remove it there, and change the secret if others saw it."
                )


def archive(
    root: Path, report: str, run_config: Mapping[str, Any], path: Path,
    studies: Iterable[Path] = (), beside: Iterable[str] = (),
) -> str | None:  # fmt: skip
    """Write the crate of the run that ended in `report` as a zip file. Raises `RecordError`.

    `studies` are the folders of the run's studies; `beside` are results that no report is made
    from, such as the trial browser. Gives the digest that stands for the run
    (`grace.provenance.verify.report_digest`).
    """
    if Path(report).is_absolute():
        raise RecordError(
            f"not archived: {report} lies outside of the project. Move the results into it and"
            " set `results` to their folder there."
        )
    jobs = jobs_behind([report, *beside], root)
    outputs = [name for job in jobs for name in job.outputs]
    records = [sidecar(Path(name)).as_posix() for name in outputs]
    state = environment.git_state(root)
    names = dict.fromkeys(
        [*code_files(root), *study_files(studies, root), *sources(jobs, root), *outputs, *records]
    )
    files = {name: root / name for name in names}
    with scratch_folder() as folder:
        written = {RUN_CONFIG: yaml.safe_dump(dict(run_config), sort_keys=False)}
        if state["dirty"]:
            written[UNCOMMITTED] = _git(root, "diff", "HEAD", "--binary")
        for name, text in written.items():
            files[name] = folder / name
            files[name].write_text(text, encoding="utf-8")
        refuse_secrets(files)
        crate = _Crate(files, jobs, state, _git(root, "log", "-1", "--format=%an").strip())
        crate.write(folder)
        for name in (METADATA, PREVIEW):
            files[name] = folder / name
        manifest = manifest_of(files)
        files[MANIFEST] = folder / MANIFEST
        files[MANIFEST].write_text(manifest, encoding="utf-8")
        with replaced(path) as partial:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as bundle:
                for name, source in sorted(files.items()):
                    bundle.write(source, name)
            _refuse_changed(partial)
    return report_digest(root / report)


def _refuse_changed(bundle: Path) -> None:
    """Raise `RecordError` where a file was edited between its digest and its copy."""
    with zipfile.ZipFile(bundle) as archived:
        expected = digests_in(archived.read(MANIFEST).decode())
        for name, digest in expected.items():
            with archived.open(name) as file:
                content: Any = file  # for mypy, which takes it for one that cannot fill a buffer
                found = hashlib.file_digest(content, "sha256").hexdigest()
            if found != digest:
                raise RecordError(
                    f"not archived: {name} was edited while the archive was written. Run again."
                )


class _Crate:
    """The crate's metadata: entities for files, workflow, scripts, rules and jobs."""

    def __init__(
        self, files: Mapping[str, Path], jobs: list[Job], state: Mapping[str, Any], author: str
    ) -> None:
        # Loaded here, since only archives need it.
        from rocrate.rocrate import ROCrate

        self._files, self._jobs, self._state = files, jobs, state
        self._crate = ROCrate(version="1.1")
        self._crate.metadata.extra_terms["sha256"] = "https://schema.org/sha256"
        self._add("#author", "Person", name=author)
        self._describe_root()
        self._add_files()
        self._add_workflow()
        self._add_jobs()

    def _add(self, name: str, kind: str | list[str], /, **properties: Any) -> dict[str, str]:
        """Add an entity; values that are `{"@id": …}` refer to others. Gives a reference to it."""
        from rocrate.model.contextentity import ContextEntity

        given: dict[str, Any] = {"@type": kind}
        for key, value in properties.items():
            if value not in (None, []):
                single = isinstance(value, list) and len(value) == 1
                given[key] = value[0] if single else value
        entity = self._crate.add(ContextEntity(self._crate, name, properties=given))
        return {"@id": entity.id}

    def _describe_root(self) -> None:
        models = sorted({str(j.record["model"]["name"]) for j in self._jobs if "model" in j.record})
        start, end = self._times()
        profiles = [
            self._add(url, "CreativeWork", name=name, version=url.rsplit("/", 1)[1])
            for url, name in PROFILES.items()
        ]
        licence = self._add(
            "https://spdx.org/licenses/MIT", "CreativeWork", name="MIT License",
            description="Of the code; the answers of models are under their models' terms.",
        )  # fmt: skip
        root = self._crate.root_dataset
        root["name"] = f"Pragmatics experiments on {', '.join(models) or 'language models'}"
        root["description"] = (
            f"A run of Grace from {start} to {end}: stimuli, every prompt and answer, tables,"
            " statistics, report, code and environments, and records of how each was made."
        )
        root["license"] = licence
        root["author"] = {"@id": "#author"}
        root["conformsTo"] = profiles
        descriptor = self._crate.metadata
        descriptor["conformsTo"] = [
            {"@id": "https://w3id.org/ro/crate/1.1"},
            {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"},
        ]

    def _times(self) -> tuple[str, str]:
        started = min(job.record["started"] for job in self._jobs)
        return started, max(job.record["completed"] for job in self._jobs)

    def _add_files(self) -> None:
        scripts = {job.script for job in self._jobs}
        parts = []
        for name, path in self._files.items():
            kind: str | list[str] = "File"
            more: dict[str, Any] = {}
            if name == "Snakefile":
                continue  # the workflow
            if name in scripts:
                kind = ["File", "SoftwareSourceCode"]
                more = {"version": self._state["commit"]}
            if name == "README.md":
                more = {"about": {"@id": "./"}}
            parts.append(
                self._add(
                    name,
                    kind,
                    name=name,
                    contentSize=str(path.stat().st_size),
                    sha256=file_digest(path),
                    encodingFormat=FORMATS.get(path.suffix, OTHER_FORMAT),
                    **more,
                )
            )
        self._crate.root_dataset["hasPart"] = [{"@id": "Snakefile"}, *parts]

    def _add_workflow(self) -> None:
        language = self._add(
            "https://w3id.org/workflowhub/workflow-ro-crate#snakemake", "ComputerLanguage",
            name="Snakemake", url={"@id": "https://snakemake.readthedocs.io"},
            identifier={"@id": "https://doi.org/10.1093/bioinformatics/bts480"},
        )  # fmt: skip
        self._add(PARAMETER, "CreativeWork", name="FormalParameter", version="1.0-RELEASE")
        self._add(WORKFLOW, "CreativeWork", name="ComputationalWorkflow", version="1.0-RELEASE")
        made = {name for job in self._jobs for name in job.outputs}
        read = {
            name
            for job in self._jobs
            for name in [*job.record["inputs"], *job.record.get("files", {})]
        }
        self._inputs = [*sorted((read - made) & self._files.keys()), RUN_CONFIG]
        used = {name for job in self._jobs for name in job.record["inputs"]}
        self._results = sorted(
            made - used | {n for n in made if PurePosixPath(n).parent.name == "analysis-ready"}
        )
        rules = {job.rule: job.script for job in self._jobs}
        steps = [
            self._add(
                f"#step-{rule}", "HowToStep", name=rule, position=str(position),
                workExample={"@id": script},
            )
            for position, (rule, script) in enumerate(rules.items(), 1)
        ]  # fmt: skip
        workflow = self._add(
            "Snakefile", ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            name="Grace", encodingFormat=OTHER_FORMAT, programmingLanguage=language,
            version=self._state["commit"],
            conformsTo={"@id": WORKFLOW}, sha256=file_digest(self._files["Snakefile"]),
            license={"@id": "https://spdx.org/licenses/MIT"}, creator={"@id": "#author"},
            input=[self._parameter("input", name) for name in self._inputs],
            output=[self._parameter("output", name) for name in self._results],
            step=steps, hasPart=[{"@id": script} for script in dict.fromkeys(rules.values())],
        )  # fmt: skip
        self._crate.root_dataset["mainEntity"] = workflow

    def _parameter(self, role: str, name: str) -> dict[str, str]:
        parameter = self._add(
            f"#{role}-{name.replace('/', '-')}", "FormalParameter", name=name,
            additionalType="File", conformsTo={"@id": PARAMETER}, workExample={"@id": name},
        )  # fmt: skip
        self._crate.get(name)["exampleOfWork"] = parameter
        return parameter

    def _add_jobs(self) -> None:
        start, end = self._times()
        author = {"@id": "#author"}
        versions = [str(j.record["versions"].get("snakemake") or "") for j in self._jobs]
        run = self._add(
            "#run", "CreateAction", name="Run of the workflow", instrument={"@id": "Snakefile"},
            description=f"{len(self._jobs)} jobs", startTime=start, endTime=end, agent=author,
            actionStatus=COMPLETED, object=[{"@id": name} for name in self._inputs],
            result=[{"@id": name} for name in self._results],
        )  # fmt: skip
        actions, controls = [run], []
        for number, job in enumerate(self._jobs, 1):
            record = job.record
            machine = record["hardware"]
            read = [*record["inputs"], *record.get("files", {})]
            actions.append(
                self._add(
                    f"#job-{number}", "CreateAction", name=job.name, agent=author,
                    instrument={"@id": job.script}, actionStatus=COMPLETED,
                    description=f"commit {record['commit']}{' and changes' * bool(record['dirty'])}"
                    f", on {machine['node']}, {machine['platform']}",
                    startTime=record["started"], endTime=record["completed"],
                    object=[{"@id": name} for name in read if name in self._files],
                    result=[{"@id": name} for name in job.outputs],
                )
            )  # fmt: skip
            controls.append(
                self._add(
                    f"#control-{number}", "ControlAction", name=f"orchestrate {job.name}",
                    instrument={"@id": f"#step-{job.rule}"}, object=actions[-1],
                    actionStatus=COMPLETED,
                )
            )  # fmt: skip
        engine = self._add(
            "https://snakemake.github.io", "SoftwareApplication", name="Snakemake",
            url="https://snakemake.github.io", softwareVersion=max(versions) or "unknown",
        )  # fmt: skip
        organised = self._add(
            "#organize", "OrganizeAction", name="Orchestration by Snakemake", agent=author,
            instrument=engine, object=controls, result=run, startTime=start, endTime=end,
            actionStatus=COMPLETED,
        )  # fmt: skip
        self._crate.root_dataset["mentions"] = [*actions, organised]

    def write(self, folder: Path) -> None:
        """Write the metadata and a page that shows them."""
        from rocrate.model.preview import Preview

        self._crate.metadata.write(folder)
        self._crate.add(Preview(self._crate)).write(folder)
