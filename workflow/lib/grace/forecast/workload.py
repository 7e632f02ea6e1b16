"""How much one experiment asks of a model, in tokens: rendered, tokenised and planned as it is.

Where a bound on the time is enough, of many different trials some are tokenised, spread evenly, and
the numbers scaled up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeVar

from grace.engines.base import ScoreRequest
from grace.experiments.measurement import ScoringPlan, plan_scoring
from grace.experiments.trials import TrialPrompt
from grace.extraction.question import ReadingTask, question
from grace.forecast.requests import Rendered, different
from grace.forecast.throughput import Work
from grace.forecast.tokens import StandInTokenizer
from grace.models.chat import ChatTokenizer
from grace.prompts.messages import Message
from grace.scoring.forest import distinct_prefixes
from grace.scoring.serving_plan import forwards_by_nodes, nodes
from grace.settings.config import ExtractionConfig, GenerationConfig
from grace.studies.answers import FieldForm
from grace.studies.asking import StudyDesign
from grace.studies.study import Study

SAMPLE = 150
"""Different trials that are tokenised where some are enough."""
LEFT_OPEN = 0.1
"""Share of answers that the rules are assumed to leave open, before any is known."""

SAMPLE_EXACT = 600
"""The same where their number is stated; prompts are read faster than answers are sampled."""

Tokenizer = ChatTokenizer | StandInTokenizer
Item = TypeVar("Item")


@dataclass(frozen=True)
class Way:
    """How the work is counted.

    Attributes:
        served: A server with a cache of prefixes computes it.
        most: Different trials that are tokenised; None for all.
    """

    served: bool
    most: int | None = None


def generation_work(
    study: StudyDesign, items: Rendered, tokenizer: Tokenizer,
    decoding: GenerationConfig, way: Way,
) -> Work:  # fmt: skip
    """Experiment 1, with answers as long as they may be. Identical prompts are read once."""
    first = different(items)
    asked = sum(one.answers for one in (items if decoding.temperature > 0 else first))
    some = evenly(first, way.most)
    lengths = [tokens for one in some for tokens in _turns(study, one.item, tokenizer, decoding)]
    read = round(sum(lengths) * len(first) / max(1, len(some)))
    new = asked * decoding.max_tokens
    mean = sum(lengths) / max(1, len(lengths))
    return Work(
        requests=asked,
        read_tokens=read,
        context=mean + decoding.max_tokens / 2,
        reads=0,
        new_tokens=new,
        estimated=isinstance(tokenizer, StandInTokenizer),
    )


def _turns(
    study: StudyDesign, item: TrialPrompt, tokenizer: Tokenizer, decoding: GenerationConfig
) -> list[int]:
    """Tokens of a trial's prompts, a turn each; answers to turns before are of full length."""
    # What stands for an answer may be any text that is not empty.
    chats = (
        study.messages(item.trial, item.prompts, ["-"] * turn)
        for turn in range(len(study.turns(item.prompts)))
    )
    return [
        len(tokenizer.render(chat).token_ids) + turn * decoding.max_tokens
        for turn, chat in enumerate(chats)
    ]


def with_answers_of(work: Work, tokens: float) -> Work:
    """The same with answers of so many tokens on average."""
    before = work.new_tokens / max(1, work.requests)
    return replace(
        work,
        new_tokens=work.requests * tokens,
        context=work.context + (tokens - before) / 2,
    )


def scoring_work(
    study: StudyDesign, items: Rendered, tokenizer: Tokenizer,
    forms: Sequence[str], way: Way, terminators: str = "all",
) -> Work:  # fmt: skip
    """Experiment 2, by the planner that the measurement uses, which takes `terminators`."""
    first = different(items)
    some = [one.item for one in evenly(first, way.most)]
    # A planner for tokenisers takes whatever tokenises.
    plan = plan_scoring(study, some, tokenizer, forms, terminators)  # type: ignore[arg-type]
    found = planned_work(plan, served=way.served, times=len(first) / max(1, len(some)))
    return replace(found, estimated=isinstance(tokenizer, StandInTokenizer))


def planned_work(plan: ScoringPlan, *, served: bool, times: float = 1.0) -> Work:
    """The work of what is planned, `times` over: with a `served` model or one in process."""
    read = reads = length = 0
    for _, group in groupby(plan.requests, key=lambda one: one.group):
        queries: list[ScoreRequest] = list(group)
        read += forwards_by_nodes(queries) if served else distinct_prefixes(queries)
        reads += sum(bool(tokens) for tokens in nodes(queries).values())
        length += sum(len(query.prompt_token_ids) for query in queries)
    return Work(
        requests=round(len(plan.requests) * times),
        read_tokens=round(read * times),
        context=length / max(1, len(plan.requests)),
        reads=round(reads * times),
    )


def with_second_readings(work: Work, count: int) -> Work:
    """The same with `count` of its queries read again (`grace.engines.rereading`).

    A query that is read alone shares its prompt with no other.
    """
    if not count:
        return work
    reads = work.reads / max(1, work.requests)
    return replace(
        work,
        requests=work.requests + count,
        again=count,
        read_tokens=work.read_tokens + round(count * (work.context + reads)),
        reads=work.reads + round(count * reads),
    )


def extraction_requests(
    study: Study, items: Sequence[TrialPrompt], config: ExtractionConfig, tokenizer: Tokenizer,
    answers: float, way: Way,
) -> Work:  # fmt: skip
    """What a model that reads answers is asked: a chat for each answer and each of `queries`.

    `answers` is their length in tokens on average. Of `rules-then-model` it is asked about a share
    (`LEFT_OPEN`); further tries, which replies that do not fit cost, are not counted, nor is saved
    what equal answers save. Nothing is asked where the rules read.
    """
    generate = study.declaration.generate
    examples = [(one.answer, one.fields) for one in (generate.examples if generate else ())]
    some = evenly(items, way.most) if config.asks_model else []
    lengths, replies = [], []
    for item in some:
        forms = study.answer_forms(item.trial.row())
        asked = question(ReadingTask("", "-", forms), examples, 0)
        turns = len(study.turns(item.prompts))
        lengths.append(len(tokenizer.tokenise(_said(asked.messages))) + turns * answers)
        replies.append(len(tokenizer.tokenise(json.dumps(_longest(forms)))))
    share = LEFT_OPEN if config.method == "rules-then-model" else 1.0
    calls = round(len(items) * config.queries * share) if some else 0
    read, new = (sum(each) / max(1, len(some)) for each in (lengths, replies))
    return Work(
        requests=calls,
        read_tokens=round(calls * read),
        context=read + new / 2,
        reads=0,
        new_tokens=calls * new,
        estimated=isinstance(tokenizer, StandInTokenizer),
    )


def _said(messages: Sequence[Message]) -> str:
    return "\n".join(message["content"] for message in messages)


def _longest(forms: Sequence[FieldForm]) -> dict[str, Any]:
    """A reply whose values are as long as they usually are."""
    return {
        form.name: max(form.allowed, key=lambda one: len(str(one))) if form.allowed else 12.5
        for form in forms
    }


def after_traces(work: Work, traces: int, most: int) -> Work:
    """Experiment 2 behind so many traces of reasoning a query, each of at most `most` tokens.

    Each trace is a request that samples, and one that reads the query's options behind it.
    """
    sampled = work.requests * traces * most
    return replace(
        work,
        requests=2 * work.requests * traces,
        read_tokens=work.read_tokens * traces + sampled,
        context=work.context + most / 2,
        reads=work.reads * traces,
        new_tokens=sampled,
    )


def evenly(items: Sequence[Item], most: int | None) -> Sequence[Item]:
    """At most so many items, spread evenly over all."""
    if most is None or len(items) <= most:
        return items
    return [items[number * len(items) // most] for number in range(most)]
