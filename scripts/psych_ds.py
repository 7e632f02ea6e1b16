"""A run's tables as a dataset of Psych-DS."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from grace.export.psych_ds import StudyTable, write_dataset


def psych_ds(
    studies: Sequence[StudyTable], models: Sequence[str], references: Sequence[str], output: Path
) -> None:
    """Write the dataset in place of the one that stood there."""
    if output.exists():
        shutil.rmtree(output)
    write_dataset(output, studies, models, references)
    logging.info("%d tables in %s; see docs/export.md", len(studies), output)


if __name__ == "__main__":
    from grace.runs.scripting import job

    params = snakemake.params
    with job(snakemake, __file__):
        psych_ds(
            [
                StudyTable(name, told["title"], Path(table), Path(codebook))
                for (name, told), table, codebook in zip(
                    params.studies.items(),
                    snakemake.input.tables,
                    snakemake.input.codebooks,
                    strict=True,
                )
            ],
            list(params.models),
            list(dict.fromkeys(text for told in params.studies.values() for text in told["cite"])),
            Path(snakemake.input.tables[0]).parents[1] / "export" / "psych-ds",
        )
