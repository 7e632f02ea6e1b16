"""Seeds: fixed numbers, so that a change of any of them shows."""

from __future__ import annotations

import pytest
from bundled_studies import STUDIES

from grace.seeds import (
    APART,
    experiment_seed,
    offset_of,
    replication_seed,
    request_seed,
    trial_order,
)
from grace.settings.fields import MAX_REPLICATIONS


@pytest.mark.parametrize(
    ("study", "experiment", "seed"),
    [
        ("study1", "exp1", 1002),
        ("study2", "exp1", 2002),
        ("study1", "exp2", 3002),
        ("study2", "exp2", 4002),
    ],
)
def test_experiment_seeds(study: str, experiment: str, seed: int) -> None:
    assert replication_seed(1000, 2) == 1002
    assert experiment_seed(1000, 2, STUDIES[study].seed_offset(experiment)) == seed


def test_offsets_of_users_studies_follow_from_their_names_and_never_change() -> None:
    """Published results hold them."""
    assert (offset_of("my-study", "exp1"), offset_of("my-study", "exp2")) == (
        222_804_000,
        222_805_000,
    )
    assert APART == MAX_REPLICATIONS


def test_offsets_of_users_studies_are_beyond_the_bundled_ones_and_apart() -> None:
    found = [offset_of(f"study-{n}", which) for n in range(100) for which in ("exp1", "exp2")]
    assert min(found) >= 10_000
    assert max(found) < 10**9
    assert {offset % APART for offset in found} == {0}
    assert len(set(found)) == len(found)


def test_request_seeds_never_change() -> None:
    """A published result names them: this number must stay."""
    assert request_seed(1000, 0, "seed") == 1_059_365_907


def test_every_request_draws_for_itself() -> None:
    seeds = [
        request_seed(experiment, trial, variant, draw)
        for experiment in (1000, 1001)
        for trial in range(2424)
        for variant in ("seed", "human")
        for draw in (0, 1)
    ]
    # 19,392 draws of 31 bits collide 0.09 times on average; these do not at all.
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_trial_order_is_a_shuffle_that_repeats() -> None:
    order = trial_order(1000, 300, shuffle=True)
    assert sorted(order) == list(range(300))
    assert order != list(range(300))
    assert order == trial_order(1000, 300, shuffle=True)
    assert order != trial_order(1001, 300, shuffle=True)


def test_trial_order_without_shuffling() -> None:
    assert trial_order(1000, 5, shuffle=False) == [0, 1, 2, 3, 4]
