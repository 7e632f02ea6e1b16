"""All figures of the report in one PDF."""

import logging
from pathlib import Path

from grace.export.figures_pdf import write_figures

if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        output = Path(snakemake.output.pdf)
        count = write_figures(Path(snakemake.input.report), output)
        logging.info("%d figures in %s", count, output)
