"""Experiment 2: the distribution over every query's options.

Identical queries are asked once and the answer joined back. The queries that a trial asks first
go to the engine as one group, because they share the story.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from grace.digests import digest
from grace.engines.base import Engine, Message, Score, ScoreRequest
from grace.experiments.trials import (
    Run,
    TrialPrompt,
    prompt_id,
    record_header,
    refuse_total_failure,
)
from grace.models.chat import ChatTokenizer
from grace.progress import progress
from grace.prompts.checks import question
from grace.provenance import environment
from grace.scoring.forest import distinct_prefixes, tokens_one_by_one
from grace.scoring.joining import AS_ASKED, QueryPlan, plan_query
from grace.scoring.records import BOUNDS, bounded_query, failed_query, measured_query
from grace.studies.asking import Query, StudyDesign

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringPlan:
    """What is going to be measured: every trial's queries, and each distinct one's request.

    A trial's queries stand with the key of their request.
    """

    trials: list[list[tuple[str, Query, QueryPlan]]]
    requests: list[ScoreRequest]

    def counts(self) -> dict[str, int]:
        """How much that is: queries, and tokens that have to be read for them."""
        queries = [plan for trial in self.trials for _, _, plan in trial]
        groups = [list(found) for _, found in groupby(self.requests, key=lambda one: one.group)]
        return {
            "trials": len(self.trials),
            "queries": len(queries),
            "repeated": len(queries) - len(self.requests),
            "distinct": len(self.requests),
            "forests": len(groups),
            "tokens_one_by_one": sum(
                len(plan.prompt_token_ids) + len(ids)
                for plan in queries
                for ids in plan.option_token_ids
            ),
            "tokens_without_repeats": tokens_one_by_one(self.requests),
            "tokens_in_forests": sum(map(distinct_prefixes, groups)),
        }


def query_key(query: Query) -> str:
    """The same for queries that are asked once."""
    return request_key(query.messages, query.options)


def request_key(messages: Iterable[Message], options: Iterable[str]) -> str:
    """The key of the request that measures these options after these messages."""
    return digest([list(messages), list(options)])


def tokenised(query: Query, tokenizer: ChatTokenizer, forms: Sequence[str]) -> QueryPlan:
    """A query's prompt and options as token ids. Raises `EngineError` where they are not usable.

    Forms that begin with white space, as " {}" does, have their lead already.
    """
    prompt = tokenizer.render(query.messages)
    if query.lead:
        led = (form if form[:1].isspace() else query.lead + form for form in forms)
        forms = tuple(dict.fromkeys(led))
    return plan_query(
        tokenizer.continuing(prompt), prompt.text, prompt.token_ids, query.options, forms
    )


def plan_scoring(
    study: StudyDesign,
    items: Sequence[TrialPrompt],
    tokenizer: ChatTokenizer,
    forms: Sequence[str] = AS_ASKED,
) -> ScoringPlan:
    """Tokenise all queries; what the first trial asks that asks it makes a group of requests."""
    known: dict[str, QueryPlan] = {}
    trials, requests = [], []
    for item in items:
        trial = []
        for query in study.queries(item.trial, item.prompts):
            key = query_key(query)
            if key not in known:
                plan = known[key] = tokenised(query, tokenizer, forms)
                requests.append(
                    ScoreRequest(
                        key,
                        plan.prompt_token_ids,
                        plan.option_token_ids,
                        tokenizer.terminator_ids,
                        group=str(item.position),
                        messages=query.messages,
                    )
                )
            trial.append((key, query, known[key]))
        trials.append(trial)
    return ScoringPlan(trials, requests)


def _record(query: Query, plan: QueryPlan, score: Score) -> dict[str, Any]:
    return {
        **_measured(query, plan, score),
        "reported_model": score.reported_model,
        "system_fingerprint": score.system_fingerprint,
    }


def _measured(query: Query, plan: QueryPlan, score: Score) -> dict[str, Any]:
    if score.bounds is not None:
        return bounded_query(query.name, query.options, plan, score.bounds)
    if score.token_logprobs is None or score.terminator_logprobs is None:
        return failed_query(query.name, query.options, plan, score.error or "no answer")
    return measured_query(
        query.name, query.options, plan, score.token_logprobs, score.terminator_logprobs
    )


def _status(queries: Sequence[dict[str, Any]]) -> str:
    """What became of a trial: `ok`, `bounds` where one of its queries has no more, or an error."""
    failed = [query["name"] for query in queries if query["status"] not in {"ok", BOUNDS}]
    if failed:
        return f"error: {', '.join(failed)} not measured"
    return BOUNDS if any(query["status"] == BOUNDS for query in queries) else "ok"


def run_scoring(
    run: Run,
    items: Sequence[TrialPrompt],
    tokenizer: ChatTokenizer,
    engine: Engine,
    forms: Sequence[str] = AS_ASKED,
) -> Iterator[dict[str, Any]]:
    """Experiment 2's records, in the order asked; every option is scored in all surface `forms`.

    Raises `EngineError` if every query fails.
    """
    started = environment.now()
    plan = plan_scoring(run.study, items, tokenizer, forms)
    # State what is measured, and how many tokens that takes; the journal may hold some of it.
    logger.info(
        "%(label)s: %(queries)d queries of %(trials)d trials, %(repeated)d of them repeated:"
        " %(distinct)d distinct, in %(forests)d forests. Tokens to read: %(tokens_one_by_one)d"
        " with one pass an option, %(tokens_without_repeats)d without repeats,"
        " %(tokens_in_forests)d with every prefix once a trial",
        {"label": run.label, **plan.counts()},
    )
    scores = {
        score.key: score
        for score in progress(engine.score(plan.requests), len(plan.requests), run.label, "query")
    }
    refuse_total_failure([score.error for score in scores.values()], run)
    measured: dict[str, dict[str, Any]] = {}
    for item, queries in zip(items, plan.trials, strict=True):
        records = []
        for key, query, tokens in queries:
            if key not in measured:
                measured[key] = _record(query, tokens, scores[key])
            # Two queries may differ in nothing but their names.
            records.append({**measured[key], "name": query.name, "messages": list(query.messages)})
        yield {
            **record_header(run, item, started),
            "prompt_id": prompt_id([question(query) for _, query, _ in queries]),
            "queries": records,
            "status": _status(records),
        }
