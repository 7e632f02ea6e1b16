"""Scores as reads of trie nodes: which tokens to read after which context, and what they give.

The continuations of a prompt form a trie. At each node the probabilities of its children, and of
the terminators where a continuation ends, are read with one request for one token. Pure: no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grace.engines.base import Score, ScoreRequest
from grace.engines.logprobs import check_distribution, check_not_all_zero, checked, log_sum
from grace.errors import RequestError
from grace.scoring.serving_plan import Context, node_stages, nodes

MOST_IDS = 128
"""Token ids that vLLM reads in one request."""
MOST_CONTEXTS = 64
"""Contexts in one request: enough that HTTP costs little, few enough to see progress."""
PLANNING_BATCH = 4 * MOST_CONTEXTS
"""Contexts that are planned together, so that the first stage of several trials shares a body."""

Reads = Mapping[Context, Mapping[int, Any]]
"""What a server answered for each token id that was read after a context; not yet checked."""


@dataclass(frozen=True)
class ReadBody:
    """One HTTP request: all `token_ids` are read after each of the `contexts`."""

    contexts: tuple[Context, ...]
    token_ids: tuple[int, ...]


def planning_batches(groups: Iterable[list[ScoreRequest]]) -> Iterator[list[list[ScoreRequest]]]:
    """Consecutive groups, as many as hold `PLANNING_BATCH` contexts, but at least one."""
    batch: list[list[ScoreRequest]] = []
    size = 0
    for group in groups:
        count = len(nodes(group))
        if batch and size + count > PLANNING_BATCH:
            yield batch
            batch, size = [], 0
        batch.append(group)
        size += count
    if batch:
        yield batch


def staged_bodies(batch: Sequence[Sequence[ScoreRequest]]) -> list[list[ReadBody]]:
    """All reads of some groups, equal contexts once. Each stage is to be answered before the next.

    See `serving_plan.node_stages`.
    """
    wanted = nodes([request for group in batch for request in group])
    found = []
    seen: set[Context] = set()
    for stage in zip(*map(node_stages, batch), strict=True):
        contexts = dict.fromkeys(context for part in stage for context in part)
        found.append(bodies({c: wanted[c] for c in contexts if c not in seen}))
        seen.update(contexts)
    return found


def bodies(wanted: Mapping[Context, set[int]]) -> list[ReadBody]:
    """Reads in as few bodies as is plain to find.

    A body's contexts share its token ids, so it never holds more than `MOST_IDS` of them.
    """
    found: list[ReadBody] = []
    contexts: list[Context] = []
    union: set[int] = set()
    for context, ids in wanted.items():
        ordered = sorted(ids)
        for start in range(0, len(ordered), MOST_IDS):
            part = set(ordered[start : start + MOST_IDS])
            if contexts and (len(union | part) > MOST_IDS or len(contexts) == MOST_CONTEXTS):
                found.append(ReadBody(tuple(contexts), tuple(sorted(union))))
                contexts, union = [], set()
            contexts.append(context)
            union |= part
    if contexts:
        found.append(ReadBody(tuple(contexts), tuple(sorted(union))))
    return found


def values(answer: dict[str, Any], body: ReadBody) -> list[tuple[Context, dict[int, Any]]]:
    """What an answer says of each context. Raises `RequestError` where it says nothing."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != len(body.contexts):
        raise RequestError("the server answered another number of prompts than it was asked")
    found = {}
    for choice in choices:
        try:
            (at_node,) = choice["logprobs"]["top_logprobs"]
            read = {int(name.removeprefix("token_id:")): at_node[name] for name in at_node}
            found[choice["index"]] = (body.contexts[choice["index"]], read)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise RequestError("the server's answer has no log-probabilities") from None
    if len(found) != len(choices):
        raise RequestError("the server answered one prompt twice and another not at all")
    return list(found.values())


def lacking(request: ScoreRequest, reads: Reads) -> int:
    """How many of the values that a score needs are not among the answers."""
    return sum(
        token not in reads.get(context, {})
        for context, ids in nodes([request]).items()
        for token in ids
    )


def score(request: ScoreRequest, reads: Reads) -> Score:
    """The score that the reads give. A missing or impossible value makes it an error."""
    try:
        values = {
            context: {token: checked(reads.get(context, {}).get(token)) for token in sorted(ids)}
            for context, ids in nodes([request]).items()
        }
        for at_node in values.values():
            check_distribution(at_node.values())
        check_not_all_zero(value for at_node in values.values() for value in at_node.values())
        token_logprobs = []
        terminator_logprobs = []
        for continuation in request.continuations:
            context = request.prompt_token_ids
            along = []
            for token in continuation:
                along.append(values[context][token])
                context = (*context, token)
            token_logprobs.append(tuple(along))
            terminators = sorted(set(request.terminator_ids))
            terminator_logprobs.append(log_sum(values[context][token] for token in terminators))
    except RequestError as error:
        return Score(request.key, None, None, error=str(error))
    return Score(request.key, tuple(token_logprobs), tuple(terminator_logprobs))
