"""One of the random kills that `make soak` has 200 of."""

from __future__ import annotations

import math

import pytest
from soak import side_by_side, table

pytestmark = pytest.mark.long


def test_nothing_is_lost_repeated_or_different_after_random_kills(tmp_path):
    # The model that counts what it is asked; pico's kills are those of test_resume.py.
    findings = side_by_side(tmp_path, kills=1, until=math.inf, seed=1, limit=4, models=("remote",))
    found = findings.values()
    assert not any(one.bad() for one in found), (table(findings), found)
    assert sum(sum(one.kills.values()) for one in found) == 1
