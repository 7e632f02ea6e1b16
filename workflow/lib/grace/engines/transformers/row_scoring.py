"""Scoring on copies of each prompt's keys and values: one row for every continuation.

Needs nothing of a model but a cache and a padding mask, so it works where packed forests do not.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from grace.engines.base import Score, ScoreRequest, finite_score
from grace.engines.transformers.packed_scoring import shape_of
from grace.engines.transformers.padded_cache import PaddedRows, batches, widened
from grace.scoring.packing import Budget, Shape


def score_rows(
    model: Any,
    requests: Sequence[ScoreRequest],
    budget: Budget,
    known: Container[str] = frozenset(),
) -> Iterator[Score]:
    """Scores of valid requests, in batches of similar length.

    Batches that hold only known requests are left out. A pass stays within the budget, its copies
    of the cache included, unless one row exceeds it.
    """
    lengths = [len(request.prompt_token_ids) for request in requests]
    shape = shape_of(model)
    longest = max(lengths, default=1)
    token = shape.cache(1, 1) + shape.memory(1, longest, longest, 1) // longest
    for batch in batches(lengths, min(budget.tokens, budget.memory // token)):
        some = [requests[i] for i in batch]
        if any(request.key not in known for request in some):
            scores = _score_batch(model, some, budget, shape)
            yield from (score for score in scores if score.key not in known)


def _score_batch(
    model: Any, requests: Sequence[ScoreRequest], budget: Budget, shape: Shape
) -> list[Score]:
    """Read each prompt once, then all its continuations on copies of the prompt's cache."""
    asked = [
        (row, continuation)
        for row, request in enumerate(requests)
        for continuation in request.continuations
    ]
    longest = max(len(continuation) for _, continuation in asked)
    columns = max(len(request.prompt_token_ids) for request in requests) + longest
    row = shape.cache(1, columns) + shape.memory(1, longest, columns, longest)
    step = max(1, min(budget.tokens // longest, budget.memory // row))
    token_logprobs: list[tuple[float, ...]] = []
    terminator_logprobs: list[float] = []
    with torch.inference_mode():
        rows, logits = PaddedRows.read(model, [r.prompt_token_ids for r in requests])
        first = torch.log_softmax(widened(logits), -1)
        for start in range(0, len(asked), step):
            part = asked[start : start + step]
            tokens, ends = _score_part(
                rows.select([row for row, _ in part]),
                first[[row for row, _ in part]],
                [continuation for _, continuation in part],
                [requests[row].terminator_ids for row, _ in part],
            )
            token_logprobs += tokens
            terminator_logprobs += ends
    scores = []
    position = 0
    for request in requests:
        stop = position + len(request.continuations)
        scores.append(
            finite_score(
                request.key,
                tuple(token_logprobs[position:stop]),
                tuple(terminator_logprobs[position:stop]) if request.terminator_ids else (),
            )
        )
        position = stop
    return scores


def _score_part(
    rows: PaddedRows,
    first: Tensor,
    continuations: Sequence[Sequence[int]],
    terminators: Sequence[Sequence[int]],
) -> tuple[list[tuple[float, ...]], list[float]]:
    """Log-probabilities of one continuation a row, and of its terminators after it.

    `first` holds the log-probabilities of the token after each row, [rows, vocabulary].
    """
    device = first.device
    lengths = torch.tensor([len(ids) for ids in continuations], device=device)
    # Padding on the right is never attended to: it comes after every token that is read out.
    ids = _padded(continuations).to(device)
    logprobs = torch.log_softmax(widened(rows.extend(ids)), -1)
    read = torch.cat(
        [
            first.gather(-1, ids[:, :1]),
            logprobs[:, :-1].gather(-1, ids[:, 1:, None])[..., 0],
        ],
        -1,
    )
    distinct = [sorted(set(ids_)) for ids_ in terminators]
    counts = torch.tensor([len(ids_) for ids_ in distinct], device=device)
    end_ids = _padded(distinct).to(device)
    after = logprobs[torch.arange(len(ids), device=device), lengths - 1]
    ends = after.gather(-1, end_ids)
    beyond = torch.arange(end_ids.shape[1], device=device) >= counts[:, None]
    ended = ends.masked_fill(beyond, -torch.inf).logsumexp(-1)
    tokens = [
        tuple(values[: len(continuation)])
        for values, continuation in zip(read.tolist(), continuations, strict=True)
    ]
    return tokens, ended.tolist()


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """The rows, padded on the right with 0 to one length: int64, [rows, longest]."""
    padded = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = torch.tensor(ids)
    return padded
