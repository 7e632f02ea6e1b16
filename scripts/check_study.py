"""Show what the configured studies ask and read, without asking a model."""

import os
from pathlib import Path
from typing import Any


def check_study(root: Path, values: dict[str, Any]) -> str:
    """The report on every study of a config. Raises `GraceError`."""
    # Nothing is downloaded; read once, when the hub's library is loaded.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from grace.experiments.study_check import checked
    from grace.settings.project import Project

    project = Project(root, values)
    project.check()
    return checked(project)


if __name__ == "__main__":
    from grace.runs.scripting import logged, show

    with logged(snakemake.log[0]):
        show(check_study(Path(snakemake.params.root), dict(snakemake.config)), snakemake.log[0])
