"""Experiment 1: a raw answer sampled to every trial's prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from grace import provenance, seeds
from grace.chat import ChatTokenizer
from grace.engines.base import Decoding, Engine, GenerationRequest
from grace.experiments import Asked, Run, opening, prompt_id, refuse_total_failure
from grace.progress import progress


def run_generation(
    run: Run,
    items: Sequence[Asked],
    tokenizer: ChatTokenizer | None,
    engine: Engine,
    decoding: Decoding,
) -> Iterator[dict[str, Any]]:
    """Experiment 1's records, in the order asked.

    `tokenizer` is None for a remote API whose tokeniser is not known: messages are sent then,
    and no prompt token ids recorded. Raises `EngineError` if every request fails.
    """
    started = provenance.now()
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
    answers = {
        answer.key: answer
        for answer in progress(engine.generate(requests), len(requests), run.label, "answer")
    }
    refuse_total_failure([answer.error for answer in answers.values()], run)
    for item, request in zip(items, requests, strict=True):
        answer = answers[request.key]
        yield {
            **opening(run, item, started),
            "messages": list(request.messages),
            "prompt_token_ids": list(request.prompt_token_ids) if tokenizer else None,
            "prompt_id": prompt_id([request.messages]),
            "request_seed": request.seed,
            "response": answer.text,
            "reasoning": answer.reasoning,
            "finish_reason": answer.finish_reason,
            "usage": answer.usage,
            "response_timestamp": answer.completed_at,
            "processing_time_ms": answer.processing_time_ms,
            "status": f"error: {answer.error}" if answer.error else "ok",
        }
