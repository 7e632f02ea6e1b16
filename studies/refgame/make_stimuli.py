"""Writes stimuli.csv: every trial of the reference game, from a combinatorial design.

Three objects share one feature. Of the two that vary, one object has a feature of its own
(`unique`) and shares the other; so there are four words, two true of one object and two of two. In
production the object with the unique word is to be named; in interpretation the word that it shares
is given, and means the other object to a listener who asks what else the speaker might have said.

Run from anywhere: python studies/refgame/make_stimuli.py
"""

from __future__ import annotations

import csv
from itertools import permutations
from pathlib import Path

#: Features by dimension, in the order in which an object's words stand.
FEATURES = {
    "colour": ("yellow", "purple", "white", "black"),
    "pattern": ("dotted", "striped", "checked", "plain"),
    "shape": ("cube", "cone", "ring", "star"),
}
DIMENSIONS = tuple(FEATURES)
#: Choices of features for each assignment of dimensions.
SETS = 4
COLUMNS = (
    *("item", "role", "shared", "unique"),
    *("object_1", "object_2", "object_3", "word_1", "word_2", "word_3", "word_4"),
    *("given", "target", "competitor"),
)


def _rotated(values: tuple[str, ...], by: int) -> tuple[str, ...]:
    return values[by % len(values) :] + values[: by % len(values)]


def rows() -> list[dict[str, str]]:
    """24 items in two roles; places of objects and words rotate from item to item."""
    found = []
    for number, (dimensions, chosen) in enumerate(
        (dimensions, chosen) for dimensions in permutations(DIMENSIONS) for chosen in range(SETS)
    ):
        shared, unique, other = dimensions
        same = FEATURES[shared][(number + chosen) % 4]
        own, rest = _rotated(FEATURES[unique], chosen)[:2]
        common, last = _rotated(FEATURES[other], chosen + number // SETS)[:2]
        features = [
            {shared: same, unique: own, other: common},
            {shared: same, unique: rest, other: common},
            {shared: same, unique: rest, other: last},
        ]
        named, like, unlike = (" ".join(one[name] for name in DIMENSIONS) for one in features)
        objects = _rotated((named, like, unlike), number)
        words = _rotated((own, common, rest, last), number // 2 + chosen)
        item = {"item": f"{number + 1:02d}", "shared": shared, "unique": unique}
        places = {f"object_{i}": text for i, text in enumerate(objects, 1)}
        places |= {f"word_{i}": text for i, text in enumerate(words, 1)}
        roles = {
            "production": {"given": named, "target": own, "competitor": common},
            "interpretation": {"given": common, "target": like, "competitor": named},
        }
        found += [{**item, "role": role, **places, **asked} for role, asked in roles.items()]
    return found


if __name__ == "__main__":
    path = Path(__file__).with_name("stimuli.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows())
