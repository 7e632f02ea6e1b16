"""Forests into forward passes that stay within a budget of tokens and memory.

`pack`: trials share a pass as rows of a batch, padded to one shape, to keep an accelerator busy.
`walk`: all queries follow each other on one cache, of which each keeps the beginning that it
shares with the one before; that spares a CPU the attention between them. What is too large for one
pass is read in chunks, each of which sees the keys and values of those before it. No token is read
twice in any of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grace.scoring.forest import Forest
from grace.scoring.joining import common_prefix

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

    def memory(self, rows: int, new: int, seen: int, logits: int) -> int:
        """Bytes of a pass of `rows` × `new` tokens that look at `seen` columns each.

        `logits` positions of each row are projected onto the vocabulary. Counted are the masks,
        one layer's attention scores with their float32 softmax, and the logits with their float32
        copy and its exponentials. Where a kernel never writes the scores down, this is too much.
        """
        cells = new * seen * (self.masks * (self.value_bytes + 1) + self.heads * self._widened)
        return rows * (cells + logits * self.vocabulary * (self._widened + 4))

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


@dataclass(frozen=True)
class Step:
    """One forest of a walk: its index, and the (start, stop) columns of each of its passes.

    What stands before the first start has been read by the step before.
    """

    forest: int
    chunks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Walk:
    """Forests of one query each, read one after the other.

    Neighbours share their beginning, which is read once. Nothing is padded, and no query's tokens
    are compared with another's.
    """

    steps: tuple[Step, ...]

    @property
    def token_forwards(self) -> int:
        """Tokens that the model reads."""
        return sum(step.chunks[-1][1] - step.chunks[0][0] for step in self.steps)

    @property
    def passes(self) -> int:
        """Calls of the model."""
        return sum(len(step.chunks) for step in self.steps)


def walk(forests: Sequence[Forest], budget: Budget, shape: Shape) -> Walk:
    """The walk that reads the fewest tokens of prompts: they follow each other as in a dictionary.

    Each forest is of one query, so that its stem is its prompt.
    """
    steps = []
    before: tuple[int, ...] = ()
    stems = [forest.tokens[: forest.stem] for forest in forests]
    for index in sorted(range(len(forests)), key=stems.__getitem__):
        shared = common_prefix(before, stems[index])
        before = stems[index]
        steps.append(Step(index, _chunks(forests[index], budget, shape, shared)))
    return Walk(tuple(steps))


def logits_of(start: int, stop: int, stem: int) -> int:
    """Positions of a pass that are projected: its tail, and at least one (0 would mean all)."""
    return max(1, stop - max(start, stem))


def _chunks(
    forest: Forest, budget: Budget, shape: Shape, start: int = 0
) -> tuple[tuple[int, int], ...]:
    """From `start` to the end, as few chunks as the budget allows; one token at least in each."""
    found = []
    while start < forest.size:
        low, high = 1, min(forest.size - start, budget.tokens)
        while low < high:
            new = (low + high + 1) // 2
            stop = start + new
            needed = shape.memory(1, new, stop, logits_of(start, stop, forest.stem))
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
        if len(members) == 1:
            chunks = _chunks(forests[members[0]], budget, shape)
        else:
            chunks = ((0, stem + tail),)
        if members:
            found.append(Batch(tuple(members), stem, tail, chunks))

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
