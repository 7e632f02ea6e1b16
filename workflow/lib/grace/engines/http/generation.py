"""One answer of experiment 1 from a server, however it is asked and by whom it is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grace.engines.base import Generation, GenerationRequest
from grace.engines.http.bodies import check_length
from grace.engines.http.openai_http import (
    OpenAIClient,
    Stopwatch,
    only_choice,
    reported,
    text_at,
    token_usage,
)
from grace.engines.reasoning import split_reasoning
from grace.errors import RequestError
from grace.foreign_text import plain_name


async def ask_generation(
    client: OpenAIClient,
    path: str,
    prompt: dict[str, Any],
    request: GenerationRequest,
    read: Callable[[dict[str, Any], dict[str, Any]], tuple[str, str | None]],
    reasoning_end: str | None,
) -> Generation:
    """Ask for an answer; what the server refuses or says amiss is the answer's `error`.

    `prompt` holds the model and what it is asked, to which the request's settings are added. `read`
    gives the text and the reasoning, None if the server does not split it off, from the server's
    answer and its only choice; it raises `RequestError`. `reasoning_end` is the tag that splits it
    off here.
    """
    body = {
        **prompt,
        "temperature": request.decoding.temperature,
        "top_p": request.decoding.top_p,
        "max_tokens": request.decoding.max_tokens,
        "seed": request.seed,
        **({"stop": list(request.decoding.stop)} if request.decoding.stop else {}),
    }
    watch = Stopwatch()
    try:
        answer = await client.post(path, body)
        choice = only_choice(answer)
        text, reasoning = read(answer, choice)
        finish_reason, replaced = plain_name(text_at(choice, "finish_reason"))
        check_length(text, request.decoding.max_tokens)
    except RequestError as error:
        return Generation(request.key, None, None, error=str(error)).writable()
    completed_at, took_ms = watch.read()
    server = reported(answer)
    if reasoning is None and reasoning_end is not None:
        reasoning, text = split_reasoning(text, reasoning_end)
    return Generation(
        request.key,
        text,
        finish_reason,
        usage=token_usage(answer),
        reasoning=reasoning,
        completed_at=completed_at,
        processing_time_ms=took_ms,
        reported_model=server.model,
        system_fingerprint=server.system_fingerprint,
        replaced_characters=replaced + server.replaced_characters,
    ).writable()
