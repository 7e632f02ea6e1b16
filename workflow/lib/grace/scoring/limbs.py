"""A forest into limbs: parts that share forward passes as rows, each after what it grows from.

A limb is a connected part of a forest. Where a forest forks into large parts, each becomes a limb
of its own, so that no pass compares the tokens of one with those of another only to hide them by a
mask; small parts stay together, because a pass of their own costs more. Limbs of about one size
that grow from the same pass become the rows of one pass, each on a copy of the keys and values of
the row it grows from. So a trial's story is read once, and its questions are read side by side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from grace.scoring.forest import Forest
from grace.scoring.packing import MOST_PADDING, Budget, Shape, chunks

#: Hidden pairs of tokens that are worth a pass less. On a CPU, a pass of pico costs about 0.7 ms
#: and a pair 0.03 µs; but what is not joined may still share a pass, as a row.
MOST_HIDDEN = 12_000
#: Tokens of one pass. With more, its activations no longer fit a CPU's own caches: with 1024, pico
#: took a tenth longer; with 256 a twentieth, as the four rows of a trial's states took two passes.
MOST_TOKENS = 384


@dataclass(frozen=True)
class Limb:
    """Nodes of a forest that are read in one row, in order, and the limbs that grow from them.

    The first `stem` nodes need no logits.
    """

    nodes: tuple[int, ...]
    stem: int
    limbs: tuple[Limb, ...]

    @property
    def tail(self) -> int:
        """Nodes that need logits."""
        return len(self.nodes) - self.stem


@dataclass(frozen=True)
class Pass:
    """Limbs read side by side, and the passes that go on from them.

    `parents[i]` is the row, in the pass before, that `limbs[i]` grows from. Rows are padded to
    `stem` and `tail` columns. `chunks` are the (start, stop) columns of each call of the model,
    counted from the pass's first column: one if there are several rows.
    """

    limbs: tuple[Limb, ...]
    parents: tuple[int, ...]
    stem: int
    tail: int
    chunks: tuple[tuple[int, int], ...]
    then: tuple[Pass, ...]

    @property
    def token_forwards(self) -> int:
        """Tokens that the model reads, padding included, here and in what follows."""
        here = len(self.limbs) * (self.stem + self.tail)
        return here + sum(later.token_forwards for later in self.then)

    @property
    def passes(self) -> int:
        """Calls of the model, here and in what follows."""
        return len(self.chunks) + sum(later.passes for later in self.then)


@dataclass
class _Growing:
    """A limb before it is known where it starts: its nodes so far, last first.

    `size` counts the nodes of the limbs that grow from it too.
    """

    nodes: list[int]
    limbs: list[Limb]
    size: int

    def grown(self, stem: int) -> Limb:
        nodes = tuple(sorted(self.nodes))
        return Limb(nodes, bisect_left(nodes, stem), tuple(self.limbs))


def limbs(forest: Forest) -> tuple[Limb, ...]:
    """The limbs that grow from the ground."""
    # What grows from each node; the ground, -1, stands at the end of the list.
    above: list[list[_Growing]] = [[] for _ in range(forest.size + 1)]
    for node in range(forest.size - 1, -1, -1):
        parts = above[node]
        limb = parts[0] if len(parts) == 1 else _joined(parts, forest.stem)
        limb.nodes.append(node)
        limb.size += 1
        above[forest.parents[node]].append(limb)
    ground = _joined(above[-1], forest.stem)
    return (ground.grown(forest.stem),) if ground.nodes else tuple(ground.limbs)


def _joined(parts: Sequence[_Growing], stem: int) -> _Growing:
    """What grows from one node: the small parts in its own limb, the others as limbs.

    As many parts are joined, smallest first, as hide little from one another and from the rest.
    """
    joined = _Growing([], [], sum(part.size for part in parts))
    hidden = 0
    for part in sorted(parts, key=lambda part: len(part.nodes)):
        # Nobody else sees it, nor does it see those that are joined already.
        hidden += len(part.nodes) * (joined.size - part.size + len(joined.nodes))
        if hidden <= MOST_HIDDEN:
            joined.nodes += part.nodes
            joined.limbs += part.limbs
        else:
            joined.limbs.append(part.grown(stem))
    return joined


def passes(forest: Forest, budget: Budget, shape: Shape) -> tuple[Pass, ...]:
    """The passes that read the forest, none beyond the budget unless one token is."""
    return tuple(_passes([(0, limb) for limb in limbs(forest)], budget, shape, 0, 0))


def needed(found: Sequence[Pass], nodes: Collection[int]) -> tuple[Pass, ...]:
    """The passes that read at these nodes or lead to one that does, whole.

    So what is read has the same company as if all were, and the same last digits.
    """
    kept = []
    for one in found:
        then = needed(one.then, nodes)
        if then or any(node in nodes for limb in one.limbs for node in limb.nodes):
            kept.append(replace(one, then=then))
    return tuple(kept)


def _passes(
    growing: Sequence[tuple[int, Limb]], budget: Budget, shape: Shape, seen: int, held: int
) -> Iterator[Pass]:
    """Passes for limbs, each with the row it grows from.

    `seen` counts the columns before them, `held` the bytes of the caches that are kept meanwhile.
    """
    for rows, stem, tail in _of_one_size(growing, budget, shape, seen, held):
        new = stem + tail
        kept = held + shape.cache(len(rows), seen + new)
        children = [(row, child) for row, (_, limb) in enumerate(rows) for child in limb.limbs]
        yield Pass(
            limbs=tuple(limb for _, limb in rows),
            parents=tuple(parent for parent, _ in rows),
            stem=stem,
            tail=tail,
            chunks=((0, new),) if len(rows) > 1 else chunks(stem, tail, budget, shape, seen, held),
            then=tuple(_passes(children, budget, shape, seen + new, kept)),
        )


def _of_one_size(
    growing: Sequence[tuple[int, Limb]], budget: Budget, shape: Shape, seen: int, held: int
) -> Iterator[tuple[list[tuple[int, Limb]], int, int]]:
    """Limbs that fit one pass, smallest first, with the columns of their stems and tails."""
    rows: list[tuple[int, Limb]] = []
    stem = tail = nodes = 0
    for parent, limb in sorted(growing, key=lambda one: (len(one[1].nodes), one[1].stem)):
        count, wider, longer = len(rows) + 1, max(stem, limb.stem), max(tail, limb.tail)
        new = wider + longer
        memory = (
            held + shape.memory(count, new, seen + new, longer) + shape.cache(count, seen + new)
        )
        fits = (
            count * new <= min(budget.tokens, MOST_TOKENS)
            and memory <= budget.memory
            and count * new <= (1 + MOST_PADDING) * (nodes + len(limb.nodes))
        )
        if rows and not fits:
            yield rows, stem, tail
            rows, nodes, wider, longer = [], 0, limb.stem, limb.tail
        rows.append((parent, limb))
        stem, tail, nodes = wider, longer, nodes + len(limb.nodes)
    if rows:
        yield rows, stem, tail
