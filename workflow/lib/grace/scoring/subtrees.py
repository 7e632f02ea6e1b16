"""A forest into subtrees: parts that share forward passes as rows, each after what it continues.

A subtree is a connected part of a forest. Where a forest forks into large parts, each becomes a
subtree of its own, so that no pass compares the tokens of one with those of another only to hide
them by a mask; small parts stay together, because a pass of their own costs more. Subtrees of about
one size that continue the same pass become the rows of one pass, each on a copy of the keys and
values of the row it continues. So a trial's story is read once, and its questions are read side by
side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from grace.scoring.forest import Forest
from grace.scoring.packing import MOST_PADDING, Budget, Shape, chunks

#: Costs on a CPU, in multiplications of a matrix product, about 0.01 ns each. Starting one layer in
#: transformers' Python (pico: 0.7 ms a pass of 4 layers; half of it here, since what is not joined
#: may still share a pass, as a row) ...
LAYER = 9_000_000
#: ... one head's share of mask and softmax for a pair of tokens (pico: 0.03 µs with products) ...
PAIR = 120
#: ... and reading a weight from memory, once a pass (251 M: a second pass over the last 69 of a
#: trial's 432 tokens took a tenth of all its time).
WEIGHT = 40
#: Weights that stay in a CPU's caches from pass to pass.
KEPT_WEIGHTS = 4_000_000
#: Tokens of one pass of a model that has no more. With more, its activations no longer fit a CPU's
#: own caches: with 1024, pico took a tenth longer; with 256 a twentieth, as the four rows of a
#: trial's states took two passes.
MOST_TOKENS = 384
#: Tokens of one pass of a larger one, whose weights are read anew by each.
MOST_TOKENS_LARGE = 1024


@dataclass(frozen=True)
class Costs:
    """What decides how a forest is cut on a CPU: hidden pairs of tokens that something is worth.

    `started` is what a pass's start is worth, and `streamed` reading all weights, which passes that
    are full share. A pass reads `tokens` at most. All follows from the model's shape and nothing
    from a clock: the last digits of a score depend on it, and two runs have to agree.
    """

    started: int
    streamed: int
    tokens: int

    def worth(self, nodes: int, forest: int) -> float:
        """Hidden pairs that it is worth to read so many nodes in a pass with others.

        Where the whole forest fits one pass, that saves a pass; else a part of one.
        """
        part = 1 if forest <= self.tokens else min(1, nodes / self.tokens)
        return self.started + self.streamed * part


def costs_of(shape: Shape) -> Costs:
    """By how much a pass costs however little it reads, and a pair of tokens that is hidden."""
    large = max(0, shape.weights - KEPT_WEIGHTS)
    pair = max(1, shape.layers * (2 * shape.width + PAIR * shape.heads))
    return Costs(
        shape.layers * LAYER // pair,
        WEIGHT * large // pair,
        MOST_TOKENS_LARGE if large else MOST_TOKENS,
    )


@dataclass(frozen=True)
class Subtree:
    """Nodes of a forest that are read in one row, in order, and the subtrees that continue them.

    The first `stem` nodes need no logits.
    """

    nodes: tuple[int, ...]
    stem: int
    subtrees: tuple[Subtree, ...]

    @property
    def tail(self) -> int:
        """Nodes that need logits."""
        return len(self.nodes) - self.stem


@dataclass(frozen=True)
class Pass:
    """Subtrees read side by side, and the passes that go on from them.

    `parents[i]` is the row, in the pass before, that `subtrees[i]` continues. Rows are padded to
    `stem` and `tail` columns. `chunks` are the (start, stop) columns of each call of the model,
    counted from the pass's first column: one if there are several rows.
    """

    subtrees: tuple[Subtree, ...]
    parents: tuple[int, ...]
    stem: int
    tail: int
    chunks: tuple[tuple[int, int], ...]
    then: tuple[Pass, ...]

    @property
    def token_forwards(self) -> int:
        """Tokens that the model reads, padding included, here and in what follows."""
        here = len(self.subtrees) * (self.stem + self.tail)
        return here + sum(later.token_forwards for later in self.then)

    @property
    def passes(self) -> int:
        """Calls of the model, here and in what follows."""
        return len(self.chunks) + sum(later.passes for later in self.then)


@dataclass
class _OpenSubtree:
    """A subtree before it is known where it starts: its nodes so far, last first.

    `size` counts the nodes of the subtrees that continue it too.
    """

    nodes: list[int]
    subtrees: list[Subtree]
    size: int

    def closed(self, stem: int) -> Subtree:
        nodes = tuple(sorted(self.nodes))
        return Subtree(nodes, bisect_left(nodes, stem), tuple(self.subtrees))


def subtrees(forest: Forest, costs: Costs) -> tuple[Subtree, ...]:
    """The subtrees that start at the root."""
    # What continues each node; the root, -1, stands at the end of the list.
    above: list[list[_OpenSubtree]] = [[] for _ in range(forest.size + 1)]
    for node in range(forest.size - 1, -1, -1):
        parts = above[node]
        subtree = parts[0] if len(parts) == 1 else _joined(parts, forest, costs)
        subtree.nodes.append(node)
        subtree.size += 1
        above[forest.parents[node]].append(subtree)
    root = _joined(above[-1], forest, costs)
    return (root.closed(forest.stem),) if root.nodes else tuple(root.subtrees)


def _joined(parts: Sequence[_OpenSubtree], forest: Forest, costs: Costs) -> _OpenSubtree:
    """What continues one node: the small parts in its own subtree, the others as subtrees.

    As many parts are joined, smallest first, as hide little from one another and from the rest.
    """
    joined = _OpenSubtree([], [], sum(part.size for part in parts))
    hidden = 0
    for part in sorted(parts, key=lambda part: len(part.nodes)):
        # No other part sees it, nor does it see those that are joined already.
        hidden += len(part.nodes) * (joined.size - part.size + len(joined.nodes))
        if hidden <= costs.worth(len(joined.nodes) + len(part.nodes), forest.size):
            joined.nodes += part.nodes
            joined.subtrees += part.subtrees
        else:
            joined.subtrees.append(part.closed(forest.stem))
    return joined


def passes(forest: Forest, budget: Budget, shape: Shape) -> tuple[Pass, ...]:
    """The passes that read the forest, none beyond the budget unless one token is."""
    costs = costs_of(shape)
    found = [(0, subtree) for subtree in subtrees(forest, costs)]
    return tuple(_passes(found, budget, shape, min(budget.tokens, costs.tokens), 0, 0))


def needed(found: Sequence[Pass], nodes: Collection[int]) -> tuple[Pass, ...]:
    """The passes that read at these nodes or lead to one that does, whole.

    So what is read has the same company as if all were, and the same last digits.
    """
    kept = []
    for one in found:
        then = needed(one.then, nodes)
        if then or any(node in nodes for subtree in one.subtrees for node in subtree.nodes):
            kept.append(replace(one, then=then))
    return tuple(kept)


def _passes(
    pending: Sequence[tuple[int, Subtree]], budget: Budget, shape: Shape, most: int, seen: int,
    held: int,
) -> Iterator[Pass]:  # fmt: skip
    """Passes for subtrees, each with the row it continues.

    Rows share a pass up to `most` tokens. `seen` counts the columns before them, `held` the bytes
    of the caches that are kept meanwhile.
    """
    for rows, stem, tail in _of_one_size(pending, budget, shape, most, seen, held):
        new = stem + tail
        kept = held + shape.cache(len(rows), seen + new)
        children = [
            (row, child) for row, (_, subtree) in enumerate(rows) for child in subtree.subtrees
        ]
        yield Pass(
            subtrees=tuple(subtree for _, subtree in rows),
            parents=tuple(parent for parent, _ in rows),
            stem=stem,
            tail=tail,
            chunks=((0, new),) if len(rows) > 1 else chunks(stem, tail, budget, shape, seen, held),
            then=tuple(_passes(children, budget, shape, most, seen + new, kept)),
        )


def _of_one_size(
    pending: Sequence[tuple[int, Subtree]], budget: Budget, shape: Shape, most: int, seen: int,
    held: int,
) -> Iterator[tuple[list[tuple[int, Subtree]], int, int]]:  # fmt: skip
    """Subtrees that fit one pass, smallest first, with the columns of their stems and tails."""
    rows: list[tuple[int, Subtree]] = []
    stem = tail = nodes = 0
    for parent, subtree in sorted(pending, key=lambda one: (len(one[1].nodes), one[1].stem)):
        count, wider, longer = len(rows) + 1, max(stem, subtree.stem), max(tail, subtree.tail)
        new = wider + longer
        memory = (
            held + shape.memory(count, new, seen + new, longer) + shape.cache(count, seen + new)
        )
        fits = (
            count * new <= most
            and memory <= budget.memory
            and count * new <= (1 + MOST_PADDING) * (nodes + len(subtree.nodes))
        )
        if rows and not fits:
            yield rows, stem, tail
            rows, nodes, wider, longer = [], 0, subtree.stem, subtree.tail
        rows.append((parent, subtree))
        stem, tail, nodes = wider, longer, nodes + len(subtree.nodes)
    if rows:
        yield rows, stem, tail
