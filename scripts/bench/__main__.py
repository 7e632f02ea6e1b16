"""The command line of the benchmark: `make bench`, `make bench ARGS=--quick`."""

from __future__ import annotations

import os

# As the jobs of a run have it (grace.experiments.inference); read once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bench.command import log_to_terminal, main

if __name__ == "__main__":
    log_to_terminal()
    main()
