"""Run as a process: Snakemake in forks of a process that has imported it, so that many dry-runs
are not mostly imports. Reads requests, JSON lines {folder, arguments, output}, and answers each
with Snakemake's exit status. The library, which tests edit, is imported anew in every fork.
"""

import json
import os
import sys

import pandas as pd
from snakemake.cli import main

assert pd  # Snakemake imports it late


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, sys.stdout.fileno())
            os.dup2(output, sys.stderr.fileno())
            os.chdir(request["folder"])
            main(request["arguments"])  # ends in an exit
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
