"""What a recipe's steps have taken: costs.json and costs.csv, from the notes in `journal_dir`."""

from pathlib import Path
from typing import Any

from grace.posttraining.costs import cost_rows, summary, write_costs_csv
from grace.posttraining.spending import read_ledger
from grace.results.records import write_json


def training_costs(
    costs: Path, table: Path, config: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Write both files."""
    tries = read_ledger(settings["ledger"])
    rows = cost_rows(settings["recipe"], config["seeds"], tries, dict(config.get("rounds", [])))
    write_costs_csv(table, rows)
    write_json(costs, summary(settings["recipe"], rows, config["budget"]))


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__):
        training_costs(
            Path(snakemake.output.costs),
            Path(snakemake.output.table),
            dict(snakemake.params.output_config),
            dict(snakemake.params.runtime),
        )
