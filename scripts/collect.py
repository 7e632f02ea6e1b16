"""Collect a replication's metadata from its plan and the provenance of its experiments."""

from pathlib import Path

from grace.provenance.metadata import metadata
from grace.results.records import read_json, write_json


def collect(plan: Path, runs: list[Path], output: Path) -> None:
    """Write metadata.json."""
    write_json(output, metadata(read_json(plan), {path.stem: read_json(path) for path in runs}))


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        runs = [*snakemake.input.get("exp1", []), *snakemake.input.get("exp2", [])]
        collect(
            Path(snakemake.input.plan),
            [Path(path) for path in runs],
            Path(snakemake.output.metadata),
        )
