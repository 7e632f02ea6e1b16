"""Run as a process: Snakemake in forks of a process that has imported it and what it needs, so that
many runs are not mostly imports. Reads requests, JSON lines {folder, arguments, output,
environment, timeout_s}, and answers each with Snakemake's exit status. The library, which tests
edit, is imported anew in every fork.
"""

import json
import os
import signal
import sys

import pandas as pd
import snakemake
from snakemake.cli import main

assert pd  # Snakemake imports it late


def import_what_grace_needs() -> None:
    """And forget Grace itself."""
    import grace.settings.project

    assert grace.settings.project
    for name in [name for name in sys.modules if name.partition(".")[0] == "grace"]:
        del sys.modules[name]


def run(folder: str, arguments: list[str], output: str, environment: dict, timeout_s: float):
    """Snakemake in this process, which ends with it."""
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(written, sys.stdout.fileno())
    os.dup2(written, sys.stderr.fileno())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv = [snakemake.__file__.replace("__init__", "__main__"), *arguments]
    main(arguments)


def serve() -> None:
    import_what_grace_needs()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
