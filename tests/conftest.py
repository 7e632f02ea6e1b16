"""What all tests have in common."""

from __future__ import annotations

import compileall
from pathlib import Path

import pytest
from hypothesis import settings

# A machine that is busy with much else takes long for one example, which is no fault.
settings.register_profile("grace", deadline=None)
settings.load_profile("grace")


def pytest_configure(config: pytest.Config) -> None:
    """Compile the library, once: a run of the workflow begins some twenty processes with it."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(__file__).parents[1] / "workflow" / "lib", quiet=2)
