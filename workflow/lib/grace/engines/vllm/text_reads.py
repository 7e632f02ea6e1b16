"""Many reads of one prompt: vLLM's `prompt_logprob_token_ids` at `/inference/v1/generate`.

vLLM 0.32 and later score ids at every place of a prompt, normalised over the whole vocabulary, on
its model runner for accelerators; elsewhere it refuses. By default such a request does not look
into the prefix cache; told to, it computes what is not cached, and gives no scores at all if the
cache holds a place that it was to score. Pure: no HTTP.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from grace.engines.base import ScoreRequest
from grace.engines.vllm.node_reads import MOST_IDS
from grace.errors import RequestError
from grace.scoring.serving_plan import Context, TextRead, nodes

PATH = "/inference/v1/generate"


def can_read(requests: Sequence[ScoreRequest]) -> bool:
    """Whether no more ids are wanted at one place than our servers allow."""
    return max(map(len, nodes(requests).values())) <= MOST_IDS


def body(model: str, read: TextRead, salt: str, *, from_cache: bool) -> dict[str, Any]:
    """The request. Texts are cached for those with the same `salt` alone."""
    return {
        "model": model,
        "token_ids": list(read.text),
        "cache_salt": salt,
        "sampling_params": {
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprob_token_ids": [list(row) for row in read.rows],
            "prompt_logprob_start": read.start,
            "skip_reading_prefix_cache": not from_cache,
        },
    }


def are_missing(answer: dict[str, Any]) -> bool:
    """Whether the server answered without scores, as it does where the cache held their place."""
    return answer.get("prompt_token_id_logprobs") is None


def values(answer: dict[str, Any], read: TextRead) -> list[tuple[Context, dict[int, float]]]:
    """What was read after each context. Raises `RequestError` where the answer is none."""
    try:
        packed = base64.b64decode(answer["prompt_token_id_logprobs"], validate=True)
        rows = np.load(io.BytesIO(packed), allow_pickle=False)
    except (KeyError, TypeError, ValueError, EOFError):
        raise RequestError("the server's answer has no log-probabilities of the prompt") from None
    if rows.shape != (len(read.rows), max(map(len, read.rows))):
        raise RequestError("the server scored another number of places than it was asked")
    return [
        (read.text[: read.start + number + 1], dict(zip(ids, row.tolist(), strict=False)))
        for number, (ids, row) in enumerate(zip(read.rows, rows, strict=True))
        if ids
    ]
