"""Where a project's files are: in the user's folder or, if not there, in the workflow's own.

The two are one folder in a checkout of Grace. Where the workflow is used from elsewhere, as a
module of Snakemake, the current folder is the user's: what it lacks comes with the workflow.
"""

from __future__ import annotations

import os
from pathlib import Path


def located(name: str | Path, root: Path) -> Path:
    """A file or folder of the user's or else of the workflow's own, which lies in `root`.

    It need not be there. Anyone who names a folder above both gets what it names.
    """
    own = Path.cwd() / name
    return own if is_used_from_elsewhere(root) and own.exists() else root / name


def input_name(name: str, root: Path) -> str:
    """The name by which rules read a file that `located` finds; short where it is here."""
    lacking = is_used_from_elsewhere(root) and not Path(name).exists()
    return str(root / name) if lacking else name


def rule_input(path: Path) -> str:
    """The name by which rules read a file, however it was found: from here if it is below."""
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()


def is_used_from_elsewhere(root: Path) -> bool:
    """Whether the current folder is not the workflow's own, which is `root`."""
    return not root.exists() or not Path.cwd().samefile(root)


def named(path: Path, root: Path) -> str:
    """A path as records name it: from the user's folder or the workflow's, if it is in one."""
    for folder in (Path.cwd(), root):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.as_posix()


def lead_jobs_to(library: Path) -> None:
    """Let the jobs of this process import this library.

    Their environment may know none, or lead to that of another checkout.
    """
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(library), *known]))
