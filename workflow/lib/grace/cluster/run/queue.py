"""Which of the waiting pods start now. Pure.

Of pods that ask a model or load it, so many run at once as the model's `replication_parallelism`
allows. Those with GPUs moreover have no more of them together than the cluster's `peak_gpus`, and
models follow each other in the order of the config unless the cluster says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """A pod that waits or runs: its name, the model that it asks, the GPUs that it takes."""

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
    starting: list[Waiting] = []
    place = {model: index for index, model in enumerate(order.models)}

    def turn(one: Waiting) -> int:
        return place.get(one.model or "", len(place))

    queue = sorted((one for one in waiting if one.gpus), key=turn)
    for one in [*(one for one in waiting if not one.gpus), *queue]:
        beside = [*running, *starting]
        same = sum(other.model == one.model for other in beside)
        if one.model is not None and same >= order.parallelism.get(one.model, 1):
            continue
        if one.gpus:
            earlier = any(turn(other) < turn(one) for other in [*queue, *running] if other.gpus)
            taken = sum(other.gpus for other in beside)
            full = order.peak_gpus is not None and taken and taken + one.gpus > order.peak_gpus
            if (order.in_sequence and earlier) or full:
                break
        starting.append(one)
    return [one.name for one in starting]
