"""Recompute the digests behind all results."""

import logging
from pathlib import Path

from grace.errors import RecordError
from grace.provenance.chain import Chain, results_in
from grace.provenance.verify import answers_in, remarks, summary


def verified(results: Path, root: Path, journal: Path) -> str:
    """The summary. Raises `RecordError` with it where something is not intact."""
    chain = Chain(root, answers_in(journal, named=False))
    verdicts = {file: chain.broken(file) for file in results_in(results)}
    text = "\n".join([summary(verdicts), *remarks(chain, verdicts)])
    if any(verdicts.values()):
        raise RecordError(f"the results are not intact:\n{text}")
    return text


if __name__ == "__main__":
    from grace.runs.scripting import logged

    with logged(snakemake.log[0]):
        logging.info(
            "%s",
            verified(
                Path(snakemake.params.results),
                Path(snakemake.params.root),
                Path(snakemake.params.journal),
            ),
        )
