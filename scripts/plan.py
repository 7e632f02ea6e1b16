"""Plan a replication: check that the model can run here, and record what will be asked."""

from pathlib import Path
from typing import Any

from grace import preflight, provenance
from grace.config import ModelEntry
from grace.inference import runtime_of
from grace.records import write_json


def plan(path: Path, cell: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write plan.json. Raises `EngineError` where the model cannot be asked, or not here."""
    entry = ModelEntry.model_validate(settings["entry"])
    preflight.check_all(cell["model"], entry, settings["wanted"], runtime_of(settings))
    write_json(
        path, {**cell, "created": provenance.now(), **provenance.git_state(Path(settings["root"]))}
    )


if __name__ == "__main__":
    from grace.scripting import job

    with job(snakemake, __file__):
        plan(
            Path(snakemake.output.plan),
            dict(snakemake.params.cell),
            dict(snakemake.params.runtime),
        )
