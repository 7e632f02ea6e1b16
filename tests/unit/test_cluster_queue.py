"""Which waiting pods start: models in order, so many of each, so many GPUs in all."""

from __future__ import annotations

from grace.cluster.run.queue import Order, Waiting, ready


def order(**changes):
    values = {
        "models": ["small", "large"],
        "parallelism": {"small": 3, "large": 1},
        "peak_gpus": None,
        "in_sequence": True,
    }
    return Order(**{**values, **changes})


def pods(model, gpus, *numbers):
    return [Waiting(f"{model}-{number}", model, gpus) for number in numbers]


def test_pods_that_ask_no_model_never_wait():
    plain = [Waiting(f"table-{number}", None, 0) for number in range(9)]
    found = ready(plain, pods("small", 1, 0), order(peak_gpus=1))
    assert found == [one.name for one in plain]


def test_without_gpus_a_model_has_as_many_at_once_as_it_may_too():
    assert ready(pods("large", 0, 0, 1), pods("small", 1, 0), order(peak_gpus=1)) == ["large-0"]
    assert ready(pods("large", 0, 1), pods("large", 0, 0), order()) == []


def test_a_model_has_as_many_at_once_as_it_may():
    assert ready(pods("small", 1, 0, 1, 2, 3), [], order()) == ["small-0", "small-1", "small-2"]
    assert ready(pods("small", 1, 2, 3), pods("small", 1, 0, 1), order()) == ["small-2"]
    assert ready(pods("large", 2, 0, 1), [], order()) == ["large-0"]


def test_models_follow_each_other_in_the_configs_order():
    both = pods("large", 2, 0) + pods("small", 1, 0)
    assert ready(both, [], order()) == ["small-0"]
    assert ready(pods("large", 2, 0), pods("small", 1, 0), order()) == []
    assert ready(pods("large", 2, 0), [], order()) == ["large-0"]


def test_models_side_by_side_where_the_cluster_says_so():
    both = pods("large", 2, 0) + pods("small", 1, 0)
    assert ready(both, [], order(in_sequence=False)) == ["small-0", "large-0"]


def test_no_more_gpus_than_the_peak():
    found = ready(pods("small", 1, 0, 1, 2), [], order(peak_gpus=2))
    assert found == ["small-0", "small-1"]
    assert ready(pods("small", 1, 2), pods("small", 1, 0, 1), order(peak_gpus=2)) == []


def test_one_that_needs_more_than_the_peak_runs_alone():
    assert ready(pods("large", 4, 0), [], order(peak_gpus=2)) == ["large-0"]
    side = order(peak_gpus=2, in_sequence=False)
    assert ready(pods("large", 4, 0), pods("small", 1, 0), side) == []


def test_a_model_that_nobody_ordered_comes_last():
    found = ready(pods("other", 1, 0) + pods("small", 1, 0), [], order(in_sequence=False))
    assert found == ["small-0", "other-0"]
