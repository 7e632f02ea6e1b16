"""Experiment 2: the distribution over every query's options.

Identical queries are asked once and the answer joined back. The queries that a trial asks first
go to the engine as one group, because they share the story.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

from grace import provenance
from grace.chat import ChatTokenizer
from grace.digests import digest
from grace.engines.base import Engine, ScoreRequest
from grace.experiments import Asked, Run, opening, prompt_id, refuse_total_failure
from grace.progress import progress
from grace.scoring.forest import distinct_prefixes, tokens_one_by_one
from grace.scoring.joining import AS_ASKED, QueryPlan, plan_query
from grace.scoring.records import failed_query, measured_query
from grace.studies.base import Query

logger = logging.getLogger(__name__)


def _plans(
    queries: Sequence[Query],
    tokenizer: ChatTokenizer,
    forms: Sequence[str],
    known: dict[str, QueryPlan],
) -> list[tuple[str, Query, QueryPlan]]:
    """Each query with its plan and the key under which it is scored."""
    planned = []
    for query in queries:
        key = digest([list(query.messages), list(query.options)])
        if key not in known:
            prompt = tokenizer.render(query.messages)
            known[key] = plan_query(
                tokenizer.continuing(prompt), prompt.text, prompt.token_ids, query.options, forms
            )
        planned.append((key, query, known[key]))
    return planned


def _log_plan(
    run: Run,
    planned: Sequence[Sequence[tuple[str, Query, QueryPlan]]],
    requests: Sequence[ScoreRequest],
) -> None:
    """State what is going to be measured, and how many tokens that takes, before it is."""
    queries = [plan for trial in planned for _, _, plan in trial]
    groups = [list(found) for _, found in groupby(requests, key=lambda request: request.group)]
    logger.info(
        "%s: %d queries of %d trials, %d of them repeated: %d to measure, in %d forests. Tokens to"
        " read: %d with one pass an option, %d without repeats, %d with every prefix once a trial",
        run.label,
        len(queries),
        len(planned),
        len(queries) - len(requests),
        len(requests),
        len(groups),
        sum(
            len(plan.prompt_token_ids) + len(ids)
            for plan in queries
            for ids in plan.option_token_ids
        ),
        tokens_one_by_one(requests),
        sum(map(distinct_prefixes, groups)),
    )


def run_scoring(
    run: Run,
    items: Sequence[Asked],
    tokenizer: ChatTokenizer,
    engine: Engine,
    forms: Sequence[str] = AS_ASKED,
) -> Iterator[dict[str, Any]]:
    """Experiment 2's records, in the order asked; every option is scored in all surface `forms`.

    Raises `EngineError` if every query fails.
    """
    started = provenance.now()
    known: dict[str, QueryPlan] = {}
    requests: list[ScoreRequest] = []
    planned = []
    for item in items:
        asked_before = len(known)
        planned.append(_plans(run.study.queries(item.trial, item.prompts), tokenizer, forms, known))
        requests += [
            ScoreRequest(
                key,
                plan.prompt_token_ids,
                plan.option_token_ids,
                tokenizer.terminator_ids,
                group=str(item.position),
            )
            for key, plan in islice(known.items(), asked_before, None)
        ]
    _log_plan(run, planned, requests)
    scores = {
        score.key: score
        for score in progress(engine.score(requests), len(requests), run.label, "query")
    }
    refuse_total_failure([score.error for score in scores.values()], run)
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
            **opening(run, item, started),
            "prompt_id": prompt_id([query.messages for _, query, _ in queries]),
            "queries": records,
            "status": f"error: {', '.join(failed)} not measured" if failed else "ok",
        }
