"""Say how much a run would ask for, without asking."""

import os
from pathlib import Path
from typing import Any


def forecast(root: Path, values: dict[str, Any]) -> str:
    """The forecast's table for a project and its config. Raises `GraceError`."""
    # A forecast downloads nothing; read once, when the hub's library is loaded.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from grace.experiments.forecast import rows, table
    from grace.settings.project import Project

    project = Project(root, values)
    return table(list(rows(project)), len(project.config.replication_indices))


if __name__ == "__main__":
    from grace.runs.scripting import logged, show

    with logged(snakemake.log[0]):
        show(forecast(Path(snakemake.params.root), dict(snakemake.config)), snakemake.log[0])
