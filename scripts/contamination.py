"""Whether any training text of a recipe shares eight words with evaluation items or stimuli."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grace.posttraining.instructions import TRAIN
from grace.posttraining.overlap import facts, refuse
from grace.posttraining.protected import protected_texts
from grace.results.records import read_json, read_records, write_json


def compare(instructions: Path, texts: list[Path], report: Path, settings: dict[str, Any]) -> None:
    """Write contamination.json. Raises `ConfigError` that names what overlaps."""
    rows = list(read_records(instructions))
    protected = protected_texts(settings["stimuli"], rows)
    own = {row["row_id"] for row in rows}
    training = [
        *(
            (f"instruction {row['row_id']}", row["instruction"])
            for row in rows
            if row["split"] == TRAIN
        ),
        *((f"the constitution's {name}", text) for name, text in settings["constitution"].items()),
        *(found for path in texts for found in trained_texts(path, own)),
    ]
    found = protected.all_shared(training)
    refuse(found, f"{len(training)} training texts")
    write_json(report, facts(protected, len(training), found))


def trained_texts(path: Path, own: set[str]) -> Iterator[tuple[str, str]]:
    """The answers in selection.json or pairs.json, by what a person calls them.

    Also their instructions where these are not among the recipe's `own`, by `row_id`, but of one
    behind its base.
    """
    values = read_json(path)
    for row in (*values.get("rows", ()), *values.get("pairs", ())):
        if row["row_id"] not in own:
            yield f"{path}, instruction {row['row_id']}", row["instruction"]
        for side in ("answer", "chosen", "rejected"):
            if side in row:
                name = "answer" if side == "answer" else f"{side} answer"
                yield f"{path}, {name} to {row['row_id']}", row[side]


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        compare(
            Path(snakemake.input.instructions),
            [Path(path) for path in snakemake.input.texts],
            Path(snakemake.output.report),
            dict(snakemake.params.runtime),
        )
