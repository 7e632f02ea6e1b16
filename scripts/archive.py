"""Archive the run that ended in the report as an RO-Crate."""

import logging
from pathlib import Path

if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        from grace.errors import RecordError
        from grace.places import is_used_from_elsewhere
        from grace.provenance.archive import archive

        if is_used_from_elsewhere(Path(__file__).resolve().parents[1]):
            raise RecordError(
                "not archived: an archive holds the workflow, too, so it is made in a checkout of"
                " Grace. This folder uses Grace from elsewhere: run it in a checkout, with your"
                " config and files in it, to archive it."
            )
        digest = archive(
            Path(),
            str(snakemake.input.report),
            dict(snakemake.params.run_config),
            Path(snakemake.output.crate),
            [Path(told["folder"]) for told in snakemake.params.runtime["studies"].values()],
            [str(snakemake.input.trials)],
        )
        logging.info(
            "archived; publish this digest of the report's record with it, which stands for all"
            " that the report was made from: %s",
            digest or "none, because that record has the older format",
        )
