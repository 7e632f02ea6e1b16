"""Experiment 1: a raw answer sampled to every trial's prompt.

At temperature 0 an answer follows from its prompt, so identical prompts are asked once and the
answer joined back to every trial. Sampled answers to identical prompts are drawn independently.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from grace import seeds
from grace.digests import digest
from grace.engines.base import Decoding, Engine, GenerationRequest
from grace.experiments.trials import (
    Run,
    TrialPrompt,
    prompt_id,
    record_header,
    refuse_total_failure,
)
from grace.models.chat import ChatTokenizer
from grace.progress import progress
from grace.provenance import environment

logger = logging.getLogger(__name__)


def _asked_as(requests: Sequence[GenerationRequest]) -> list[int]:
    """For each request the place of the one that is asked in its stead: its own, if sampled."""
    first: dict[str, int] = {}
    return [
        place
        if request.decoding.temperature > 0
        else first.setdefault(digest(list(request.messages)), place)
        for place, request in enumerate(requests)
    ]


def run_generation(
    run: Run,
    items: Sequence[TrialPrompt],
    tokenizer: ChatTokenizer | None,
    engine: Engine,
    decoding: Decoding,
) -> Iterator[dict[str, Any]]:
    """Experiment 1's records, in the order asked.

    `tokenizer` is None for a remote API whose tokeniser is not known: messages are sent then,
    and no prompt token ids recorded. `asked_as` is the `trial_order_in_replication` of the record
    whose request was asked: another's where the answer is joined, with its usage and times.
    Raises `EngineError` if every request fails.
    """
    started = environment.now()
    requests = []
    for item in items:
        messages = run.study.messages(item.trial, item.prompts)
        requests.append(
            GenerationRequest(
                key=str(item.position),
                messages=messages,
                prompt_token_ids=tokenizer.render(messages).token_ids if tokenizer else (),
                decoding=decoding,
                seed=seeds.request_seed(run.seed, item.trial_index, item.prompts.variant),
            )
        )
    asked_as = _asked_as(requests)
    distinct = [requests[place] for place in dict.fromkeys(asked_as)]
    logger.info(
        "%s: %d prompts, %d of them joined to an identical one at temperature 0: %d distinct",
        run.label,
        len(requests),
        len(requests) - len(distinct),
        len(distinct),
    )
    answers = {
        answer.key: answer
        for answer in progress(engine.generate(distinct), len(distinct), run.label, "answer")
    }
    refuse_total_failure([answer.error for answer in answers.values()], run)
    for item, request, place in zip(items, requests, asked_as, strict=True):
        answer = answers[requests[place].key]
        yield {
            **record_header(run, item, started),
            "messages": list(request.messages),
            "prompt_token_ids": list(request.prompt_token_ids) if tokenizer else None,
            "prompt_id": prompt_id([request.messages]),
            "request_seed": request.seed,
            "asked_as": items[place].position,
            "response": answer.text,
            "reasoning": answer.reasoning,
            "finish_reason": answer.finish_reason,
            "usage": answer.usage,
            "response_timestamp": answer.completed_at,
            "processing_time_ms": answer.processing_time_ms,
            "reported_model": answer.reported_model,
            "system_fingerprint": answer.system_fingerprint,
            "replaced_characters": answer.replaced_characters,
            "status": f"error: {answer.error}" if answer.error else "ok",
        }
