"""Experiment 2: the distribution over every query's options.

Identical queries are asked once and the answer joined back. The queries that a trial asks first
go to the engine as one group, because they share the story.

Beside them, each query's options are measured once after its null context, for the way of scoring
`pmi_null`: the first record that needs one holds it among its `null_contexts`, and queries name it
by `null_id`. Records of earlier versions have neither.

A model that thinks first is measured after each of its traces (`grace.experiments.thinking`): the
first record that needs them holds them among its `traces`, and queries name them by `trace_id`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

from grace.digests import digest
from grace.engines.base import Engine, Message, Score, ScoreRequest
from grace.engines.rereading import SecondSource
from grace.experiments.rereading import Rereader
from grace.experiments.thinking import (
    QueryOutcome,
    ThinkingQuery,
    after_trace,
    think,
    trace_key,
)
from grace.experiments.trials import (
    Run,
    TrialPrompt,
    prompt_id,
    record_header,
    refuse_total_failure,
)
from grace.models.chat import ChatTokenizer
from grace.models.reasoning import ReasoningTokenizer
from grace.progress import progress
from grace.prompts.checks import question
from grace.provenance import environment
from grace.scoring.forest import distinct_prefixes, tokens_one_by_one
from grace.scoring.joining import AS_ASKED, QueryPlan, plan_query
from grace.scoring.records import (
    BOUNDS,
    bounded_query,
    failed_query,
    measured_query,
    needs_terminator,
)
from grace.settings.output_configs import ThinkingConfig
from grace.studies.asking import Query, StudyDesign

logger = logging.getLogger(__name__)

#: Hex digits that tell null contexts apart in records.
NULL_ID = 16


class Planned(NamedTuple):
    """A query with the key of its request, its tokens, and the key of its null context's."""

    key: str
    query: Query
    plan: QueryPlan
    null_key: str | None = None


@dataclass(frozen=True)
class ScoringPlan:
    """What is going to be measured: every trial's queries, and each distinct one's request.

    `null_contexts` are the distinct queries after a null context, by key. Each is asked once, after
    all queries of trials, unless a trial asks the same. Those that are `after_traces`, by key,
    are measured after each of their traces, and their requests are those of an empty one.
    """

    trials: list[list[Planned]]
    null_contexts: dict[str, Planned]
    requests: list[ScoreRequest]
    after_traces: dict[str, ThinkingQuery] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How much that is: queries, and tokens that have to be read for them."""
        asked = {planned.key for trial in self.trials for planned in trial}
        added = [one for key, one in self.null_contexts.items() if key not in asked]
        queries = [planned.plan for trial in self.trials for planned in trial]
        groups = [list(found) for _, found in groupby(self.requests, key=lambda one: one.group)]
        return {
            "trials": len(self.trials),
            "queries": len(queries),
            "repeated": len(queries) - len(asked),
            "distinct": len(asked),
            "null_contexts": len(added),
            "forests": len(groups),
            "tokens_one_by_one": sum(
                len(plan.prompt_token_ids) + len(ids)
                for plan in (*queries, *(planned.plan for planned in added))
                for ids in plan.option_token_ids
            ),
            "tokens_without_repeats": tokens_one_by_one(self.requests),
            "tokens_in_forests": sum(map(distinct_prefixes, groups)),
        }


class SecondReadings(NamedTuple):
    """What decides which queries are read again and compares, and what reads them."""

    rereader: Rereader
    source: SecondSource


def query_key(query: Query) -> str:
    """The same for queries that are asked once."""
    return request_key(query.messages, query.options)


def request_key(messages: Iterable[Message], options: Iterable[str]) -> str:
    """The key of the request that measures these options after these messages."""
    return digest([list(messages), list(options)])


def tokenised(query: Query, tokenizer: ChatTokenizer, forms: Sequence[str]) -> QueryPlan:
    """A query's prompt and options as token ids. Raises `EngineError` where they are not usable.

    Forms that begin with white space, as " {}" does, have their lead already. Where the model
    thinks first, the prompt ends where its trace begins, and the options are as after it.
    """
    prompt = tokenizer.render(query.messages)
    if thinking := thinks_about(tokenizer, query):
        after = after_trace(thinking, query.options, forms)
        return replace(after, prompt_token_ids=prompt.token_ids)
    if query.lead:
        led = (form if form[:1].isspace() else query.lead + form for form in forms)
        forms = tuple(dict.fromkeys(led))
    return plan_query(
        tokenizer.continuing(prompt), prompt.text, prompt.token_ids, query.options, forms
    )


def thinks_about(tokenizer: ChatTokenizer, query: Query) -> ReasoningTokenizer | None:
    """The tokeniser of a model that thinks before this query is measured; else None."""
    if isinstance(tokenizer, ReasoningTokenizer) and tokenizer.thinks_about(query.messages):
        return tokenizer
    return None


def plan_scoring(
    study: StudyDesign,
    items: Sequence[TrialPrompt],
    tokenizer: ChatTokenizer,
    forms: Sequence[str] = AS_ASKED,
    terminators: str = "all",
) -> ScoringPlan:
    """Tokenise all queries; what the first trial asks that asks it makes a group of requests.

    So do the null contexts of a variant. `terminators` is `scoring.terminators` of the config.
    """
    known: dict[str, QueryPlan] = {}
    requests: list[ScoreRequest] = []
    after_traces: dict[str, ThinkingQuery] = {}

    def planned(query: Query, group: str, null_key: str | None = None) -> Planned:
        key = query_key(query)
        if key not in known:
            plan = known[key] = tokenised(query, tokenizer, forms)
            between: tuple[int, ...] = ()
            if thinking := thinks_about(tokenizer, query):
                after = after_trace(thinking, query.options, forms)
                between = after.prompt_token_ids
                after_traces[key] = ThinkingQuery(query, plan, after)
            ends = terminators == "all" or thinking is not None or needs_terminator(plan.texts)
            requests.append(
                ScoreRequest(
                    key,
                    (*plan.prompt_token_ids, *between),
                    plan.option_token_ids,
                    tokenizer.terminator_ids if ends else (),
                    group=group,
                    messages=query.messages,
                )
            )
        return Planned(key, query, known[key], null_key)

    trials = []
    nulls: dict[str, tuple[str, Query]] = {}
    for item in items:
        trial = []
        for query in study.queries(item.trial, item.prompts):
            null = query.null()
            null_key = None if null is None else query_key(null)
            if null is not None and null_key is not None:
                nulls.setdefault(null_key, (item.prompts.variant, null))
            trial.append(planned(query, str(item.position), null_key))
        trials.append(trial)
    # Variants one after the other: neighbours of one group are read together.
    by_variant = sorted(nulls.items(), key=lambda found: found[1][0])
    null_contexts = {
        key: planned(null, f"null context, {variant}") for key, (variant, null) in by_variant
    }
    return ScoringPlan(trials, null_contexts, requests, after_traces)


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
    """What became of a trial: `ok`, `bounds` where one of its queries has no more, or an error.

    Of its own queries, which are not auxiliary.
    """
    failed = [query["name"] for query in queries if query["status"] not in {"ok", BOUNDS}]
    if failed:
        return f"error: {', '.join(failed)} not measured"
    return BOUNDS if any(query["status"] == BOUNDS for query in queries) else "ok"


def _names(items: Sequence[TrialPrompt], plan: ScoringPlan) -> dict[str, str]:
    """What a person calls each distinct query, by key: the first that asks it."""
    found: dict[str, str] = {}
    for item, trial in zip(items, plan.trials, strict=True):
        for one in trial:
            where = f"trial {item.trial_index}, variant {item.prompts.variant}"
            found.setdefault(one.key, f"'{one.query.name}' ({where})")
    for key, one in plan.null_contexts.items():
        found.setdefault(key, f"'{one.query.name}' (null context)")
    return found


def _traces(
    planned: Planned, outcomes: Mapping[str, QueryOutcome], written: set[str]
) -> list[dict[str, Any]]:
    """The traces behind a query, where no record before holds them."""
    name = trace_key(planned.key, 0)
    if planned.key not in outcomes or name in written:
        return []
    written.add(name)
    about = {"trace_id": planned.key[:NULL_ID], "query": planned.query.name}
    return [{**about, **trace} for trace in outcomes[planned.key].traces]


def run_scoring(
    run: Run,
    items: Sequence[TrialPrompt],
    tokenizer: ChatTokenizer,
    engine: Engine,
    forms: Sequence[str] = AS_ASKED,
    thinking: ThinkingConfig | None = None,
    second: SecondReadings | None = None,
    terminators: str = "all",
) -> Iterator[dict[str, Any]]:
    """Experiment 2's records, in the order asked; every option is scored in all surface `forms`.

    `thinking` says how a model thinks that does. With `second`, some queries are read twice; behind
    each of its traces, one is a query of its own. Raises `EngineError` if every query fails, or
    where two readings differ. `terminators` is as in `plan_scoring`.
    """
    started = environment.now()
    plan = plan_scoring(run.study, items, tokenizer, forms, terminators)
    # State what is measured, and how many tokens that takes; the journal may hold some of it.
    logger.info(
        "%(label)s: %(queries)d queries of %(trials)d trials, %(repeated)d of them repeated:"
        " %(distinct)d distinct and %(null_contexts)d null contexts, in %(forests)d forests."
        " Tokens to read: %(tokens_one_by_one)d with one pass an option,"
        " %(tokens_without_repeats)d without repeats, %(tokens_in_forests)d with every prefix once"
        " a trial",
        {"label": run.label, **plan.counts()},
    )
    requests, names, thought = plan.requests, _names(items, plan), None
    if plan.after_traces:
        assert isinstance(tokenizer, ReasoningTokenizer)
        assert thinking is not None
        thought = think(run, plan.after_traces, tokenizer, engine, thinking)
        names |= thought.names(names)
        plain = [request for request in requests if request.key not in plan.after_traces]
        requests = [*thought.requests, *plain]
    scores = {}
    if requests:
        answers: Iterable[Score] = engine.score(requests)
        if second is not None:
            answers = second.rereader.following(answers, requests, second.source, names)
        found = progress(answers, len(requests), run.label, "query")
        scores = {score.key: score for score in found}
    outcomes: dict[str, QueryOutcome] = thought.outcomes(scores, _record) if thought else {}
    errors = {key: found.error for key, found in (scores | outcomes).items()}
    beside = run.study.auxiliary_queries
    own = [one for trial in plan.trials for one in trial if one.query.name not in beside]
    refuse_total_failure([errors[planned.key] for planned in own], run)
    measured: dict[str, dict[str, Any]] = {}

    def record_of(planned: Planned) -> dict[str, Any]:
        key, query, tokens, _ = planned
        if key not in measured:
            known = outcomes.get(key)
            measured[key] = known.record if known else _record(query, tokens, scores[key])
        # Two queries may differ in nothing but their names.
        trace_id = {"trace_id": key[:NULL_ID]} if key in outcomes else {}
        asked = {"name": query.name, "messages": list(query.messages)}
        return {**measured[key], **asked, **trace_id}

    for null in plan.null_contexts.values():
        error = errors[null.key]
        if error is not None:
            logger.warning(
                "%s: the null context of '%s' was not measured, so that its trials have no row"
                " under the way of scoring pmi_null: %s", run.label, null.query.name, error,
            )  # fmt: skip
    written: set[str] = set()
    for item, trial in zip(items, plan.trials, strict=True):
        records, nulls, traces = [], [], []
        for planned in trial:
            key = planned.null_key
            null_id = {} if key is None else {"null_id": key[:NULL_ID]}
            records.append({**record_of(planned), **null_id})
            traces += _traces(planned, outcomes, written)
            if key is not None and key not in written:
                written.add(key)
                nulls.append({**record_of(plan.null_contexts[key]), **null_id})
                traces += _traces(plan.null_contexts[key], outcomes, written)
        yield {
            **record_header(run, item, started),
            "prompt_id": prompt_id(
                [question(one.query) for one in trial if one.query.name not in beside]
            ),
            "queries": records,
            # The first trial that needs a null context holds it for all.
            **({"null_contexts": nulls} if nulls else {}),
            **({"traces": traces} if traces else {}),
            "status": _status([query for query in records if query["name"] not in beside]),
        }
