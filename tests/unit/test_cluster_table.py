"""The table of docs/kubernetes.md names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/kubernetes.md").read_text()))
    files = [path for part in ("unit", "integration", "cluster")
             for path in (ROOT / "tests" / part).glob("*.py")
             if re.search("cluster|kube|kustomize|shared|real", path.stem)]  # fmt: skip
    there = {
        name for path in files for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
    }
    assert len(named) > 20
    assert named <= there, named - there
