"""Stands for `python -m grace.training` of the environment of trainings: no training, an adapter.

Its arguments, what it refuses and what it leaves are those of the real one; the weights are random
numbers that follow from data, seed, recipe and parent.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))

from tiny_adapter import write_adapter

from grace.contents import Contents
from grace.digests import digest, file_digest
from grace.models.adapter_base import weight_digests
from grace.models.adapter_record import WEIGHTS, write_record
from grace.places import located
from grace.training.curve import write_curve

COLUMNS = {
    "sft": ["input_ids", "labels", "row_id"],
    "dpo": ["prompt_ids", "chosen_ids", "rejected_ids", "row_id"],
}
KEYS = {
    "sft": {"method", "rank", "alpha", "max_length", "epochs", "lr", "batch", "warmup"},
    "dpo": {"method", "rank", "alpha", "max_length", "epochs", "lr", "batch", "warmup", "beta"},
}


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("kind", "base", "data", "recipe-json", "seed", "output"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("base-revision", "parent", "state", "journal-dir"):
        parser.add_argument(f"--{name}", default="none")
    given = parser.parse_args(sys.argv[3:])
    assert sys.argv[1:3] == ["-m", "grace.training"], sys.argv
    table = pq.read_table(given.data)
    assert table.column_names == COLUMNS[given.kind], table.column_names
    for name in COLUMNS[given.kind][:-1]:
        assert str(table.schema.field(name).type) == "list<element: int32>", table.schema
    recipe = json.loads(Path(given.recipe_json).read_text(encoding="utf-8"))
    assert recipe.keys() == KEYS[given.kind], recipe
    parent = None if given.parent == "none" else Path(given.parent)
    if recipe["lr"] == 1:
        print("the loss is no number (NaN) at step 3: the training diverged")
        return 1
    print(f"{given.kind}: {table.num_rows} rows", flush=True)
    base, output = located(given.base, Path()), Path(given.output)
    told = [
        file_digest(Path(given.data)),
        given.seed,
        recipe,
        parent and file_digest(parent / WEIGHTS),
    ]
    seed = random.Random(digest(told)).getrandbits(31)
    write_adapter(
        output, base, base=given.base, rank=recipe["rank"], alpha=recipe["alpha"], seed=seed,
        scale=0.02,
    )  # fmt: skip
    steps = ({"step": step, "loss": 2.5 / step, "seconds": step} for step in range(1, 9))
    write_curve(output / "training_curve.csv", steps)
    (output / "training.json").write_text("{}\n", encoding="utf-8")
    write_record(output, given.base, weight_digests(base, Contents()), None, parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
