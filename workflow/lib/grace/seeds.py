"""Seeds and trial orders. All are functions of the config, so a rerun repeats them."""

from __future__ import annotations

import hashlib
import random

#: Offsets of each experiment's seed from the replication's base seed.
OFFSETS = {
    ("study1", "exp1"): 0,
    ("study2", "exp1"): 1000,
    ("study1", "exp2"): 2000,
    ("study2", "exp2"): 3000,
}


def replication_seed(base_seed: int, replication: int) -> int:
    """The replication's base seed."""
    return base_seed + replication


def experiment_seed(base_seed: int, replication: int, study: str, experiment: str) -> int:
    """The seed of one experiment of one study in one replication."""
    return replication_seed(base_seed, replication) + OFFSETS[study, experiment]


def request_seed(experiment_seed: int, trial_index: int, variant: str, draw: int = 0) -> int:
    """A seed of its own for every sampled request, below 2**31.

    Identical prompts of different trials thus draw independently.
    """
    text = f"{experiment_seed}/{trial_index}/{variant}/{draw}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def trial_order(experiment_seed: int, trials: int, shuffle: bool) -> list[int]:
    """Indices of the trials, in the order in which they are asked."""
    order = list(range(trials))
    if shuffle:
        random.Random(experiment_seed).shuffle(order)
    return order
