"""Forests into forward passes that stay within a budget of tokens and memory.

Trials share a pass as rows of a batch, padded to one shape, to keep an accelerator busy. What is
too large for one pass is read in chunks, each of which sees the keys and values of those before
it. No token is read twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grace.scoring.forest import Forest

#: Most padding that a batch may hold, as a share of the nodes in it.
MOST_PADDING = 0.04


@dataclass(frozen=True)
class Budget:
    """Limits of one forward pass: new tokens, padding included, and bytes of working memory."""

    tokens: int
    memory: int


@dataclass(frozen=True)
class Shape:
    """What of a model decides the memory of a pass. `value_bytes` is its dtype's size."""

    heads: int
    vocabulary: int
    value_bytes: int
    masks: int
    #: Keys and values of all layers, numbers a token.
    cached: int = 0
    #: How costly a pass is (`grace.scoring.subtrees.costs_of`): layers, the width of their
    #: attention (heads × head size), and weights, those of the projection onto the vocabulary too.
    layers: int = 4
    width: int = 128
    weights: int = 0

    def memory(self, rows: int, new: int, seen: int, logits: int) -> int:
        """Bytes of a pass of `rows` × `new` tokens that look at `seen` columns each.

        `logits` positions of each row are projected onto the vocabulary. Counted are the masks,
        one layer's attention scores with their float32 softmax, and the logits with their float32
        copy and its exponentials. Where a kernel never writes the scores down, this is too much.
        """
        cells = new * seen * (self.masks * (self.value_bytes + 1) + self.heads * self._widened)
        return rows * (cells + logits * self.vocabulary * (self._widened + 4))

    def cache(self, rows: int, columns: int) -> int:
        """Bytes of the keys and values of `rows` × `columns` tokens."""
        return rows * columns * self.cached * self.value_bytes

    @property
    def _widened(self) -> int:
        return self.value_bytes + 4


@dataclass(frozen=True)
class Batch:
    """Forests read together: indices, and the columns of their stems and tails.

    `chunks` are the (start, stop) columns of each pass: one for a batch of several forests.
    """

    members: tuple[int, ...]
    stem: int
    tail: int
    chunks: tuple[tuple[int, int], ...]

    @property
    def token_forwards(self) -> int:
        """Tokens that the model reads, padding included."""
        return len(self.members) * (self.stem + self.tail)

    @property
    def passes(self) -> int:
        """Calls of the model."""
        return len(self.chunks)


def logits_of(start: int, stop: int, stem: int) -> int:
    """Positions of a pass that are projected: its tail, and at least one (0 would mean all)."""
    return max(1, stop - max(start, stem))


def chunks(
    stem: int, tail: int, budget: Budget, shape: Shape, seen: int = 0, held: int = 0
) -> tuple[tuple[int, int], ...]:
    """One row's columns, as few chunks as the budget allows; one token at least in each.

    `seen` columns come before them, and `held` bytes are taken.
    """
    found = []
    start, size = 0, stem + tail
    while start < size:
        low, high = 1, min(size - start, budget.tokens)
        while low < high:
            new = (low + high + 1) // 2
            stop = start + new
            needed = held + shape.memory(1, new, seen + stop, logits_of(start, stop, stem))
            low, high = (new, high) if needed <= budget.memory else (low, new - 1)
        found.append((start, start + low))
        start += low
    return tuple(found)


def pack(forests: Sequence[Forest], budget: Budget, shape: Shape) -> list[Batch]:
    """All forests in batches, smallest first."""
    found: list[Batch] = []
    members: list[int] = []
    stem = tail = nodes = 0

    def close() -> None:
        if members:
            whole = ((0, stem + tail),)
            parts = chunks(stem, tail, budget, shape) if len(members) == 1 else whole
            found.append(Batch(tuple(members), stem, tail, parts))

    order = sorted(range(len(forests)), key=lambda i: (forests[i].size, forests[i].stem))
    for index in order:
        forest = forests[index]
        wider, longer = max(stem, forest.stem), max(tail, forest.tail)
        rows, columns = len(members) + 1, max(stem, forest.stem) + max(tail, forest.tail)
        fits = (
            rows * columns <= budget.tokens
            and shape.memory(rows, columns, columns, longer) <= budget.memory
            and rows * columns <= (1 + MOST_PADDING) * (nodes + forest.size)
        )
        if members and not fits:
            close()
            members, stem, tail, nodes = [], 0, 0, 0
            wider, longer = forest.stem, forest.tail
        members.append(index)
        stem, tail, nodes = wider, longer, nodes + forest.size
    close()
    return found
