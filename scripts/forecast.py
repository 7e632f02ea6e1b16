"""Say how much a run would ask for, without asking."""

import os
from pathlib import Path
from typing import Any


def forecast(root: Path, values: dict[str, Any], cores: int) -> str:
    """What a run will ask for and take, on so many cores where no GPU computes.

    Writes what past jobs took against their forecast. Raises `GraceError`.
    """
    # A forecast downloads nothing; read once, when the hub's library is loaded.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from grace.errors import GraceError
    from grace.forecast import actual, recipe_forecast, report
    from grace.forecast.estimate import Forecaster
    from grace.forecast.request_counts import RequestCounts
    from grace.forecast.request_table import rows, table
    from grace.settings.project import Project

    project = Project(root, values)
    counted = RequestCounts(project)
    asked = table(list(rows(project, counted)), len(project.config.replication_indices))
    if trained := recipe_forecast.text(project, cores):
        asked = f"{asked}\n\n{trained}"
    try:
        found = Forecaster(project, cores=cores, exact=True, asked=counted)
        compared = list(actual.comparisons(found))
        taken = report.text(project, found, compared)
    except GraceError as error:  # a model that fits no GPU has no hours
        return f"{asked}\n\nHours are not forecast. {error}"
    try:
        if compared:
            taken += f"\n\nThe last table is in {actual.write(project, compared)}, too."
    except GraceError as error:
        taken += f"\n\n{error}"
    return f"{asked}\n\n{taken}"


if __name__ == "__main__":
    from grace.runs.scripting import logged, show

    with logged(snakemake.log[0]):
        params = snakemake.params
        shown = forecast(Path(params.root), dict(snakemake.config), params.cores)
        show(shown, snakemake.log[0])
