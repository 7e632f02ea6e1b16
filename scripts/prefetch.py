"""Bring the configured models' weights and tokenisers to HF_HOME."""

import logging
from pathlib import Path
from typing import Any


def prefetch(root: Path, values: dict[str, Any]) -> list[str]:
    """A line for each snapshot. Raises `GraceError`."""
    from grace.models.weights import fetch_all
    from grace.settings.project import Project

    lines = []
    for line in fetch_all(Project(root, values).models, root):
        logging.info("%s", line)
        lines.append(line)
    return lines


if __name__ == "__main__":
    from grace.runs.scripting import logged

    with logged(snakemake.log[0]):
        prefetch(Path(snakemake.params.root), dict(snakemake.config))
