"""What all tests have in common."""

from __future__ import annotations

import compileall
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A machine that is busy with much else takes long for one example, which is no fault. Generated
# inputs are the same ones each time, so that what fails anywhere fails at once; a long run, by
# GRACE_EXAMPLES, has others each time.
settings.register_profile("grace", deadline=None, derandomize="GRACE_EXAMPLES" not in os.environ)
settings.load_profile("grace")


LIBRARY = Path(__file__).parents[1] / "workflow" / "lib"
UNDERSTAND = """
from grace.source_code import LIBRARY, closure, read_source

closure(path.relative_to(LIBRARY).as_posix() for path in LIBRARY.rglob("*.py"))
for path in (LIBRARY.parents[2] / "scripts").glob("*.py"):
    read_source(path)
"""


def pytest_collection_finish() -> None:
    """Look no more for garbage among what was imported, which takes half a second each time."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """Compile the library, once: a run of the workflow begins some twenty processes with it.

    Copies of the project have what this leaves, and keep more of their own, whatever the
    environment says of bytecode.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # Compiling R's functions takes 40 % of what the small analyses of tests take.
    os.environ.setdefault("R_ENABLE_JIT", "0")
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(LIBRARY, quiet=2)
        subprocess.run([sys.executable, "-c", UNDERSTAND], cwd=LIBRARY, check=True)
