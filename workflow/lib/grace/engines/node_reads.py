"""Scores as reads of trie nodes: which tokens to read after which context, and what they give.

The continuations of a prompt form a trie. At each node the probabilities of its children, and of
the terminators where a continuation ends, are read with one request for one token. Pure: no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from grace.engines.base import Score, ScoreRequest
from grace.engines.logprobs import check_distribution, check_not_all_zero, checked, log_sum
from grace.errors import RequestError

MOST_IDS = 128
"""Token ids that vLLM reads in one request."""
MOST_CONTEXTS = 64
"""Contexts in one request: enough that HTTP costs little, few enough to see progress."""

Context = tuple[int, ...]
Reads = Mapping[Context, Mapping[int, float]]
"""Log-probability of each token id that was read after a context."""


@dataclass(frozen=True)
class ReadBody:
    """One HTTP request: all `token_ids` are read after each of the `contexts`."""

    contexts: tuple[Context, ...]
    token_ids: tuple[int, ...]


def nodes(request: ScoreRequest) -> dict[Context, set[int]]:
    """The token ids to read after each context, in the order of the trie."""
    wanted: dict[Context, set[int]] = {}
    for continuation in request.continuations:
        context = request.prompt_token_ids
        for token in continuation:
            wanted.setdefault(context, set()).add(token)
            context = (*context, token)
        wanted.setdefault(context, set()).update(request.terminator_ids)
    return wanted


def chunks(requests: Iterable[ScoreRequest]) -> Iterator[list[ScoreRequest]]:
    """Group consecutive requests so that a group's contexts just fill a body."""
    group: list[ScoreRequest] = []
    size = 0
    for request in requests:
        count = len(nodes(request))
        if group and size + count > MOST_CONTEXTS:
            yield group
            group, size = [], 0
        group.append(request)
        size += count
    if group:
        yield group


def bodies(requests: Sequence[ScoreRequest]) -> list[ReadBody]:
    """All reads of some requests, equal contexts once, in as few bodies as is plain to find.

    A body's contexts share its token ids, so it never holds more than `MOST_IDS` of them.
    """
    wanted: dict[Context, set[int]] = {}
    for request in requests:
        for context, ids in nodes(request).items():
            wanted.setdefault(context, set()).update(ids)
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


def score(request: ScoreRequest, reads: Reads) -> Score:
    """The score that the reads give. A missing or impossible value makes it an error."""
    try:
        values = {
            context: {token: checked(reads.get(context, {}).get(token)) for token in sorted(ids)}
            for context, ids in nodes(request).items()
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
