"""Archive the run that ended in the report as an RO-Crate."""

import logging
from pathlib import Path

if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        from grace.provenance.archive import archive

        digest = archive(
            Path(),
            str(snakemake.input.report),
            dict(snakemake.params.cell),
            Path(snakemake.output.crate),
        )
        logging.info(
            "archived; publish this digest of the report's record with it, which stands for all"
            " that the report was made from: %s",
            digest or "none, because that record has the older format",
        )
