"""vLLM's own serving benchmark, given our requests; runs in the serving environment.

    python -P vllm_benchmark.py REQUESTS.json [options of `vllm bench serve`]

Its own way to read requests from a file needs a package that the environment lacks and gives all
of them one seed. What it measures and how stays its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vllm.benchmarks import serve
from vllm.benchmarks.datasets import SampleRequest
from vllm.utils.argparse_utils import FlexibleArgumentParser


def _requests(path: Path) -> list[Any]:
    """The requests of a JSON list; `body` holds what /v1/completions is sent."""
    found = []
    for number, body in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        rest = {key: body[key] for key in body if key not in ("model", "prompt", "max_tokens")}
        found.append(
            SampleRequest(
                prompt=body["prompt"],
                prompt_len=len(body["prompt"]),
                expected_output_len=body["max_tokens"],
                request_id=str(number),
                request_overrides=rest,
            )
        )
    return found


if __name__ == "__main__":
    requests = _requests(Path(sys.argv[1]))
    serve.get_samples = lambda *_: requests
    parser = FlexibleArgumentParser()
    serve.add_cli_args(parser)
    serve.main(parser.parse_args(sys.argv[2:]))
