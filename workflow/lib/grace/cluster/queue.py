"""Which of the waiting pods start now. Pure.

Pods without GPUs never wait. Of the others, a model has so many at once as it may (its
`replication_parallelism`), the run has no more GPUs than the cluster's `peak_gpus`, and models
follow each other in the order of the config unless the cluster says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """A pod that waits or runs: its name, its model, the GPUs that it takes."""

    name: str
    model: str | None
    gpus: int


@dataclass(frozen=True)
class Order:
    """How many may run: models in their order, pods of each at once, GPUs in all."""

    models: Sequence[str]
    parallelism: Mapping[str, int]
    peak_gpus: int | None
    in_sequence: bool


def ready(waiting: Sequence[Waiting], running: Sequence[Waiting], order: Order) -> list[str]:
    """Names of those that start now, in the order in which they came.

    A pod that needs more GPUs than `peak_gpus` starts when nothing else has any: refusing it is
    the policy's part.
    """
    starting = [one.name for one in waiting if not one.gpus]
    using = [one for one in running if one.gpus]
    place = {model: index for index, model in enumerate(order.models)}
    queue = sorted(
        (one for one in waiting if one.gpus), key=lambda one: place.get(one.model or "", len(place))
    )
    for one in queue:
        if order.in_sequence and any(
            place.get(other.model or "", len(place)) < place.get(one.model or "", len(place))
            for other in [*queue, *running]
            if other.gpus
        ):
            break
        same = sum(other.model == one.model for other in using)
        if same >= order.parallelism.get(one.model or "", 1):
            continue
        taken = sum(other.gpus for other in using)
        if order.peak_gpus is not None and using and taken + one.gpus > order.peak_gpus:
            break
        starting.append(one.name)
        using.append(one)
    return starting
