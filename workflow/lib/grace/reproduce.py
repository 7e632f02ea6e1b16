"""`python -m grace.reproduce CRATE`: run an archived run again, in a folder of its own.

Unpacks code, config and inputs of a crate that `snakemake archive` wrote, says what of this
machine's software is another version than the recorded, and runs the workflow with the recorded
settings. Afterwards it says which results are the same to the byte.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from grace.archive import RUN_CONFIG
from grace.digests import file_digest
from grace.errors import GraceError
from grace.provenance_chain import results_in
from grace.sidecars import read_sidecar

METADATA = "ro-crate-metadata.json"


class CrateError(GraceError):
    """A crate cannot be run again."""


@contextmanager
def opened(crate: Path) -> Iterator[Path]:
    """The crate's folder; a zip file is unpacked into one for a while. Raises `CrateError`."""
    if crate.is_dir():
        yield _checked(crate)
        return
    if not zipfile.is_zipfile(crate):
        raise CrateError(f"{crate}: neither a folder nor a whole zip file.")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(crate) as bundle:
            damaged = bundle.testzip()
            if damaged is not None:
                raise CrateError(f"{crate}: {damaged} in it is damaged. Fetch the archive again.")
            bundle.extractall(folder)
        yield _checked(Path(folder))


def _checked(folder: Path) -> Path:
    for name in (METADATA, RUN_CONFIG, "Snakefile"):
        if not (folder / name).is_file():
            raise CrateError(
                f"no {name} in the crate; it must be one that `snakemake archive` wrote."
            )
    return folder


def results_folder(crate: Path) -> str:
    """The folder of the crate's results, as the run's config names it. Raises `CrateError`."""
    config = run_config(crate)
    name = config.get("results")
    if not isinstance(name, str) or not (crate / name).is_dir():
        raise CrateError(f"the crate holds no folder '{name}' of results.")
    return name


def run_config(crate: Path) -> dict[str, Any]:
    """The recorded settings."""
    config = yaml.safe_load((crate / RUN_CONFIG).read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise CrateError(f"{RUN_CONFIG} in the crate is not a list of settings.")
    return config


def records(results: Path) -> dict[str, dict[str, Any]]:
    """The records of results, by path within their folder."""
    found = {
        file.relative_to(results).as_posix(): read_sidecar(file) for file in results_in(results)
    }
    return {name: record for name, record in found.items() if record is not None}


def differences(recorded: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each Python package, and Python, that is another version here than recorded."""
    versions: dict[str, set[str]] = {}
    for record in recorded.values():
        if "python" in record["versions"]:
            for package, version in record["versions"].items():
                if version:
                    versions.setdefault(package, set()).add(version)
    lines = []
    for package, then in sorted(versions.items()):
        try:
            now = platform.python_version() if package == "python" else metadata.version(package)
        except metadata.PackageNotFoundError:
            now = "missing"
        if then != {now}:
            lines.append(f"{package}: recorded {', '.join(sorted(then))}, here {now}")
    return lines


def set_up(crate: Path, folder: Path) -> str:
    """Unpack all but the results into a new folder; gives their name. Raises `CrateError`."""
    if folder.exists() and any(folder.iterdir()):
        raise CrateError(f"{folder} is not empty; name a new folder with --into.")
    results = results_folder(crate)
    first = Path(results).parts[0]
    shutil.copytree(
        crate, folder, dirs_exist_ok=True,
        ignore=lambda at, _: [first] if Path(at) == crate else [],
    )  # fmt: skip
    return results


def run(folder: Path, arguments: list[str]) -> int:
    """Run Snakemake in the folder with the recorded settings; its exit status."""
    library = str(folder.absolute() / "workflow" / "lib")
    # The crate's own library, whatever the environment has.
    path = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--configfile", RUN_CONFIG, *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    return done.returncode


def comparison(recorded: dict[str, dict[str, Any]], results: Path) -> str:
    """Which results of a new run are those recorded, to the byte."""
    missing = [name for name in recorded if not (results / name).is_file()]
    other = [
        name
        for name, record in recorded.items()
        if name not in missing and file_digest(results / name) != record["sha256"]
    ]
    same = len(recorded) - len(other) - len(missing)
    lines = [f"{same} of {len(recorded)} results are the same to the byte."]
    if other:
        lines.append(
            "Others, of which those that hold times must differ, and what is made from them may:"
        )
        lines += [f"    {name}" for name in other]
    lines += [f"    {name} was not made" for name in missing]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Set up, compare versions, run; Snakemake's exit status, or 1."""
    parser = argparse.ArgumentParser(
        prog="python -m grace.reproduce",
        description="Run an archived run again, with its own code and settings.",
        epilog="Arguments after `--` go to Snakemake.",
    )
    parser.add_argument("crate", type=Path, help="zip file or folder that was archived")
    parser.add_argument("--into", type=Path, help="new folder (default: named for the crate)")
    parser.add_argument("--dry-run", action="store_true", help="only show what would run")
    parser.add_argument("snakemake", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    folder = given.into or Path(f"{given.crate.stem}-reproduced")
    try:
        with opened(given.crate) as crate:
            results = set_up(crate, folder)
            recorded = records(crate / results)
    except GraceError as error:
        print(error, file=sys.stderr)
        return 1
    commits = {str(record["commit"]) for record in recorded.values()}
    print(f"Unpacked into {folder}: {len(recorded)} recorded results, of commit", *commits)
    different = differences(recorded)
    for line in different:
        print(f"warning: {line}", file=sys.stderr)
    print(
        "The recorded versions are pinned in envs/ there: `make setup` in it installs them."
        if different
        else "Python and its packages have the recorded versions."
    )
    status = run(folder, ["--dry-run"] * given.dry_run + given.snakemake)
    if status == 0 and not given.dry_run:
        print(comparison(recorded, folder / results))
    return status


if __name__ == "__main__":
    sys.exit(main())
