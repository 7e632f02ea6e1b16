"""How a process that computes with a model uses its threads.

torch, its OpenMP and its MKL read these variables once, when torch is loaded.
"""

from __future__ import annotations

import os

#: As many threads as were asked for, whatever else the machine does: with another number, sums are
#: rounded otherwise. With `OMP_DYNAMIC` true, OpenMP takes fewer on a busy machine.
_FIXED = {"OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}


def settle_threads() -> None:
    """Set the environment for a fixed number of threads; to be called before torch is imported."""
    # Threads that spin while they wait slow everything else on a shared machine down, themselves
    # included.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.update(_FIXED)
