"""Memory and time of the CPU steps with very many trials of study 2.

python scripts/bench_limits.py --like results/pico/replication-0 --trials 100000

Repeats the records of a finished replication under new participants, so that sizes are real ones,
and runs each step in a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grace.records import read_records, write_records
from grace.studies import STUDIES

HERE = Path(__file__).parent
STEPS = {
    "tabulate": "from tabulate_responses import tabulate as step;"
    "step(p/'exp1.json', p/'raw.csv', 'study2')",
    "structure": "from structure import structure as step;"
    "step(p/'raw.csv', p/'structured.csv', 'study2', 1.0)",
    "probabilities": "from probabilities import probabilities as step;"
    "step(p/'exp2.json', p/'probabilities.csv', 'study2', 0.5)",
    "validate": "from validate import validate as step; from grace.config import Thresholds;"
    "step({'study2': p/'trials.csv'}, {'study2': p/'structured.csv'},"
    " {'study2': p/'probabilities.csv'}, p/'validation.json', 'pico', 0,"
    " {'thresholds': Thresholds().model_dump(), 'limit': None, 'variants': ['seed']})",
    "merge": "from merge import merge as step; from grace.studies import STUDIES;"
    "step([p/'structured.csv'], [p/'probabilities.csv'], STUDIES['study2'], p/'merged.csv',"
    " p/'merged.parquet')",
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
    """Peak memory in MiB and seconds of a step."""
    code = (
        "import resource,sys,time;from pathlib import Path;p=Path(sys.argv[1]);t=time.time();"
        f"{STEPS[step]};print(resource.getrusage(0).ru_maxrss/1024, time.time()-t)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    memory, seconds = map(float, done.stdout.split())
    return memory, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--like", type=Path, default=Path("results/pico/replication-0"))
    parser.add_argument("--trials", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="grace-limits-") as name:
        folder = Path(name)
        for experiment in ("exp1", "exp2"):
            records = repeated(options.like / f"study2_{experiment}.json", options.trials)
            write_records(folder / f"{experiment}.json", records)
            size = (folder / f"{experiment}.json").stat().st_size / 2**20
            print(f"{experiment}: {options.trials} records, {size:.0f} MiB", flush=True)
        with (folder / "trials.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, STUDIES["study2"].input_columns())
            writer.writeheader()
            with (folder / "exp1.json").open(encoding="utf-8") as lines:
                for line in itertools.islice(lines, 1, options.trials + 1):
                    writer.writerow(json.loads(line.rstrip(",\n"))["trial"])
        for step in STEPS:
            memory, seconds = measured(step, folder)
            print(f"{step}: {memory:.0f} MiB at most, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
