"""Memory and time of the CPU steps with very many trials of study 2.

PYTHONPATH=scripts python -m bench.limits --like results/pico/replication-0 --trials 100000

Repeats the records of a finished replication under new participants, so that sizes are real ones,
and runs each step in a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grace.results.records import read_records, write_records
from grace.settings.config import GenerationConfig, Thresholds
from grace.settings.output_configs import ValidationConfig
from grace.studies.catalogue import bundled

STUDY = bundled(Path(__file__).parents[2], "study2")["study2"]


def _tabulate(folder: Path) -> None:
    from tabulate_responses import tabulate

    tabulate(folder / "exp1.json", folder / "raw.csv", STUDY)


def _structure(folder: Path) -> None:
    from structure import structure

    structure(folder / "raw.csv", folder / "structured.csv", STUDY, 1.0)


def _probabilities(folder: Path) -> None:
    from grace.settings.output_configs import DecodingConfig, ProbabilitiesConfig
    from probabilities import probabilities, scoring_methods

    config = ProbabilitiesConfig(
        reads=STUDY.reading_digest(),
        min_option_mass=0.5,
        decoding=DecodingConfig(temperature=0.7, top_p=1),
    )
    probabilities(folder / "exp2.json", folder / "probabilities.csv", STUDY, config)
    scoring_methods(folder / "exp2.json", folder / "scoring_methods.csv", STUDY)


def _validate(folder: Path) -> None:
    from validate import validate

    with (folder / "structured.csv").open(encoding="utf-8", newline="") as file:
        trials = sum(1 for _ in csv.DictReader(file))
    validate(
        {STUDY.name: STUDY},
        {STUDY.name: folder / "structured.csv"},
        {STUDY.name: folder / "probabilities.csv"},
        {},
        {},
        folder / "validation.json",
        "pico",
        0,
        ValidationConfig(
            answers_as=None,
            decoding=GenerationConfig(),
            min_agreement=0.9,
            trials={STUDY.name: trials},
            reads={STUDY.name: STUDY.reading_digest()},
            variants=["seed"],
            thresholds=Thresholds(),
        ),
    )


def _merge(folder: Path) -> None:
    from merge import merge, merge_methods

    tables = [folder / "structured.csv"], [folder / "probabilities.csv"]
    merge(*tables, STUDY, folder / "merged.csv", folder / "merged.parquet")
    merge_methods([folder / "scoring_methods.csv"], tables[1], STUDY, folder / "merged_methods.csv")


#: Each imports its script itself: what one needs is no part of another's memory.
STEPS = {
    "tabulate": _tabulate,
    "structure": _structure,
    "probabilities": _probabilities,
    "validate": _validate,
    "merge": _merge,
}


def repeated(records: Path, trials: int) -> Iterator[dict[str, Any]]:
    """So many records, each with a participant and a place of its own."""
    some = list(read_records(records))
    for number, record in enumerate(itertools.islice(itertools.cycle(some), trials)):
        yield {
            **record,
            "trial_index": number,
            "trial_order_in_replication": number,
            "trial": {**record["trial"], "Participant_ID": f"p{number}"},
        }


def measured(step: str, folder: Path) -> tuple[float, float]:
    """Peak memory in MiB and seconds of a step, in a process of its own."""
    command = [sys.executable, "-m", "bench.limits", "--step", step, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    memory, seconds = map(float, done.stdout.split())
    return memory, seconds


def run_step(step: str, folder: Path) -> None:
    """Run a step here; print peak memory in MiB and seconds."""
    began = time.monotonic()
    STEPS[step](folder)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(memory, time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--like", type=Path, default=Path("results/pico/replication-0"))
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, given = options.step
        run_step(step, Path(given))
        return
    with tempfile.TemporaryDirectory(prefix="grace-limits-") as name:
        folder = Path(name)
        for experiment in ("exp1", "exp2"):
            records = repeated(options.like / f"study2_{experiment}.json", options.trials)
            write_records(folder / f"{experiment}.json", records)
            size = (folder / f"{experiment}.json").stat().st_size / 2**20
            print(f"{experiment}: {options.trials} records, {size:.0f} MiB", flush=True)
        for step in STEPS:
            memory, seconds = measured(step, folder)
            print(f"{step}: {memory:.0f} MiB at most, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
