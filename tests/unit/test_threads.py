"""Whether a job's threads are as many as asked for, whatever the user's environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LIBRARY = Path(__file__).parents[2] / "workflow/lib"
#: What torch's own OpenMP made of the environment.
PROBE = """
import ctypes, sys
from pathlib import Path
import grace.experiments.inference, grace.posttraining.asking
from grace.engines.threads import settle_threads
assert "torch" not in sys.modules, "torch has read the environment already"
settle_threads()
import torch
maps = Path("/proc/self/maps").read_text().split()
openmp = next(word for word in maps if "libgomp" in word)
print(ctypes.CDLL(openmp).omp_get_dynamic())
"""


def test_openmp_takes_no_fewer_threads_on_a_busy_machine():
    environment = {**os.environ, "OMP_DYNAMIC": "true", "PYTHONPATH": str(LIBRARY)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "0", done.stderr
