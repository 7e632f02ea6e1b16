"""Which trial has its options listed in which order: counterbalanced, and the same in every run."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from grace.digests import digest
from grace.prompts.wording import Orders

#: By the name that templates see, the options in the order in which they are listed.
OptionOrder = Mapping[str, Sequence[Any]]


def combinations(orders: Orders) -> list[OptionOrder]:
    """Every combination of the lists' orders."""
    return [dict(zip(orders.lists, each, strict=True)) for each in product(*orders.lists.values())]


def counterbalanced(
    orders: Orders, study: str, cells: Iterable[Sequence[Any]]
) -> list[OptionOrder]:
    """The order of every trial; `cells` are the trials' values in the columns `within`.

    The trials of a cell get every combination once, in an order dealt for them, then every
    combination once again, and so on (permuted blocks): in a cell no two combinations differ in
    their number by more than one. It depends on the declaration, the study's name and the trials
    before alone: not on a run's seeds, since it is part of the question, nor on its `limit`.
    """
    found = combinations(orders)
    seen: dict[tuple[str, ...], int] = {}
    given = []
    for values in cells:
        cell = tuple(map(str, values))
        count = seen.get(cell, 0)
        seen[cell] = count + 1
        block, place = divmod(count, len(found))
        dealt = list(range(len(found)))
        random.Random(digest([orders.seed, study, list(cell), block])).shuffle(dealt)
        given.append(found[dealt[place]])
    return given


def order_name(order: OptionOrder) -> str:
    """An order in tables: of every list the option that stands first, as `frame=was,word=bad`."""
    return ",".join(f"{name}={options[0]}" for name, options in order.items())
