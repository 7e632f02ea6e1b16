"""Running an experiment: trials and prompts in, one record a trial and variant out.

Experiment 1 samples a raw answer to each prompt; experiment 2 measures the distribution over
each query's options, asking identical prompts once and joining the answer back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grace import provenance, seeds
from grace.chat import ChatTokenizer
from grace.digests import digest
from grace.engines.base import Decoding, Engine, GenerationRequest, ScoreRequest
from grace.errors import EngineError
from grace.progress import progress
from grace.prompts import PromptSet
from grace.scoring import QueryPlan, failed_query, measured_query, plan_query
from grace.studies import Query, Study, Trial

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One experiment of one study for one model and replication."""

    model_key: str
    model_name: str
    study: Study
    experiment: str
    replication: int
    base_seed: int
    shuffle: bool

    @property
    def seed(self) -> int:
        """The experiment's seed."""
        return seeds.experiment_seed(
            self.base_seed, self.replication, self.study.name, self.experiment
        )

    @property
    def label(self) -> str:
        """The name that its outputs carry, such as `study1_exp1`."""
        return f"{self.study.name}_{self.experiment}"


@dataclass(frozen=True)
class Asked:
    """A trial under one wording, and its place in the order of asking."""

    position: int
    trial_index: int
    trial: Trial
    prompts: PromptSet


def asked(run: Run, trials: Sequence[Trial], wordings: Sequence[PromptSet]) -> list[Asked]:
    """Every trial under every wording, in the order asked; wordings of a trial stand together."""
    order = seeds.trial_order(run.seed, len(trials), run.shuffle)
    pairs = [(index, wording) for index in order for wording in wordings]
    return [
        Asked(position, index, trials[index], wording)
        for position, (index, wording) in enumerate(pairs)
    ]


def prompt_id(messages: Sequence[Sequence[Mapping[str, str]]]) -> str:
    """The same for identical prompts: 16 hex digits."""
    return digest([list(chat) for chat in messages])[:16]


def _common(run: Run, item: Asked, started: str) -> dict[str, Any]:
    """The fields that records of both experiments open with."""
    return {
        "model_key": run.model_key,
        "model_name": run.model_name,
        "experiment_name": run.label,
        "variant": item.prompts.variant,
        "replication": run.replication,
        "replication_id": f"replication-{run.replication}",
        "replication_seed": seeds.replication_seed(run.base_seed, run.replication),
        "experiment_seed": run.seed,
        "trial_index": item.trial_index,
        "trial_order_in_replication": item.position,
        "trial_order_shuffled": run.shuffle,
        "run_timestamp": started,
        "trial": item.trial.row(),
    }


def _refuse_total_failure(errors: Sequence[str | None], run: Run) -> None:
    """Nothing but failures is no result to keep."""
    if errors and all(errors):
        raise EngineError(
            f"{run.model_key} {run.label}: all {len(errors)} requests failed; the first:"
            f" {errors[0]}"
        )


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
    _refuse_total_failure([answer.error for answer in answers.values()], run)
    for item, request in zip(items, requests, strict=True):
        answer = answers[request.key]
        yield {
            **_common(run, item, started),
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


def _plans(
    queries: Sequence[Query], tokenizer: ChatTokenizer, known: dict[str, QueryPlan]
) -> list[tuple[str, Query, QueryPlan]]:
    """Each query with its plan and the key under which it is scored."""
    planned = []
    for query in queries:
        key = digest([list(query.messages), list(query.options)])
        if key not in known:
            prompt = tokenizer.render(query.messages)
            known[key] = plan_query(
                tokenizer.tokenise, prompt.text, prompt.token_ids, query.options
            )
        planned.append((key, query, known[key]))
    return planned


def run_scoring(
    run: Run, items: Sequence[Asked], tokenizer: ChatTokenizer, engine: Engine
) -> Iterator[dict[str, Any]]:
    """Experiment 2's records, in the order asked. Raises `EngineError` if every query fails."""
    started = provenance.now()
    known: dict[str, QueryPlan] = {}
    planned = [
        _plans(run.study.queries(item.trial, item.prompts), tokenizer, known) for item in items
    ]
    logger.info(
        "%s: %d queries of %d trials are %d distinct prompts",
        run.label,
        sum(len(queries) for queries in planned),
        len(items),
        len(known),
    )
    requests = [
        ScoreRequest(key, plan.prompt_token_ids, plan.option_token_ids, tokenizer.terminator_ids)
        for key, plan in known.items()
    ]
    scores = {
        score.key: score
        for score in progress(engine.score(requests), len(requests), run.label, "query")
    }
    _refuse_total_failure([score.error for score in scores.values()], run)
    for item, queries in zip(items, planned, strict=True):
        records = []
        for key, query, plan in queries:
            score = scores[key]
            if score.token_logprobs is None or score.terminator_logprobs is None:
                record = failed_query(query.name, query.options, plan, score.error or "no answer")
            else:
                record = measured_query(
                    query.name,
                    query.options,
                    plan,
                    score.token_logprobs,
                    score.terminator_logprobs,
                )
            records.append({**record, "messages": list(query.messages)})
        failed = [record["name"] for record in records if record["status"] != "ok"]
        yield {
            **_common(run, item, started),
            "prompt_id": prompt_id([query.messages for _, query, _ in queries]),
            "queries": records,
            "status": f"error: {', '.join(failed)} not measured" if failed else "ok",
        }
