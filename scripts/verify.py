"""Recompute the digests behind all results."""

import logging
from pathlib import Path

from grace.errors import RecordError
from grace.verify import results_in, summary, verify


def verified(results: Path, root: Path) -> str:
    """The summary. Raises `RecordError` with it where something is not intact."""
    verdicts = verify(results_in(results), root)
    text = summary(verdicts)
    if any(verdicts.values()):
        raise RecordError(f"the results are not intact:\n{text}")
    return text


if __name__ == "__main__":
    from grace.scripting import logged

    with logged(snakemake.log[0]):
        logging.info("%s", verified(Path(snakemake.params.results), Path(snakemake.params.root)))
