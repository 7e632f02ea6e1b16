"""`python -m grace.provenance.reproduce CRATE`: run an archived run again, in a folder of its own.

Unpacks a crate that `snakemake archive` wrote and checks all of it (`grace.provenance.crate`)
before any of it runs. Then it says what of this machine's software is another version than the
recorded, and runs the workflow with the recorded settings. Afterwards it says which results are the
same to the byte.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from grace.digests import file_digest
from grace.errors import GraceError, RecordError
from grace.provenance.chain import Chain, results_in
from grace.provenance.crate import (
    RUN_CONFIG,
    CrateError,
    files_in,
    opened,
    problems,
    results_folder,
)
from grace.provenance.verify import REPORT, report_digest


def records(results: Path) -> dict[str, dict[str, Any]]:
    """The whole records of results, by path within their folder."""
    chain = Chain(results)
    found = {}
    for file in results_in(results):
        if chain.format(file):
            found[file.relative_to(results).as_posix()] = chain.record(file) or {}
    return found


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
    """Copy all but the results into a new folder; gives their name. Raises `CrateError`."""
    if folder.exists() and any(folder.iterdir()):
        raise CrateError(f"{folder} is not empty; name a new folder with --into.")
    results = results_folder(crate)
    for name in files_in(crate):
        if not PurePosixPath(name).is_relative_to(results):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(crate / name, folder / name)
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


def _trusted(crate: Path, digest: str | None, *, trust: bool) -> bool:
    """Say what of a crate is not what was archived, and whether it may run all the same.

    Raises `CrateError`.
    """
    wrong = problems(crate)
    try:
        found = report_digest(crate / results_folder(crate) / REPORT)
    except RecordError:  # which is among what is wrong
        found = None
    if digest is not None and digest.lower() != found:
        wrong.append(f"not the published report: its digest is {found}, not {digest}")
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong and not trust:
        print(
            "Refused: the crate is not what was archived, and its code would run here. Nothing of"
            " it did. Fetch it again from where it was published; or `--trust` its editor.",
            file=sys.stderr,
        )
        return False
    if not wrong:
        print(f"The crate is whole. The digest of its report is {found or 'not recorded'}.")
    return True


def main(arguments: list[str] | None = None) -> int:
    """Set up, compare versions, run; Snakemake's exit status, or 1."""
    parser = argparse.ArgumentParser(
        prog="python -m grace.provenance.reproduce",
        description="Run an archived run again, with its own code and settings.",
        epilog="Arguments after `--` go to Snakemake.",
    )
    parser.add_argument("crate", type=Path, help="zip file or folder that was archived")
    parser.add_argument("--into", type=Path, help="new folder (default: named for the crate)")
    parser.add_argument(
        "--trust", action="store_true",
        help="go on although the crate is not what was archived: its code is run as it is",
    )  # fmt: skip
    parser.add_argument(
        "--digest", metavar="SHA256",
        help="the digest that was published with the report, which must be that of this one",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only show what would run")
    parser.add_argument("snakemake", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    folder = given.into or Path(f"{given.crate.stem}-reproduced")
    try:
        with opened(given.crate) as crate:
            if not _trusted(crate, given.digest, trust=given.trust):
                return 1
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
