"""Archive the run that ended in the report as an RO-Crate."""

from pathlib import Path

if __name__ == "__main__":
    from grace.scripting import job

    with job(snakemake, __file__):
        from grace.archive import archive

        archive(
            Path(),
            str(snakemake.input.report),
            dict(snakemake.params.cell),
            Path(snakemake.output.crate),
        )
