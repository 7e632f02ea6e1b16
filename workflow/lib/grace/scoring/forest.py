"""A token forest: all sequences of a trial's queries, every shared prefix once.

A node is one token after one prefix, so the number of nodes is the fewest tokens that a model must
read. Nodes stand in the order *stem, tail*: the tail is every node at which something is read, and
whatever follows such a node; a node always stands after its ancestors. Hence logits are needed only
for the last nodes, whatever the queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from grace.distributions import log_sum
from grace.scoring.joining import common_prefix

#: Log-probabilities of each continuation's tokens, and of the terminators after it.
Result = tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]


class Query(Protocol):
    """What is read after one prompt. None of the sequences is empty."""

    @property
    def prompt_token_ids(self) -> tuple[int, ...]: ...

    @property
    def continuations(self) -> tuple[tuple[int, ...], ...]: ...

    @property
    def terminator_ids(self) -> tuple[int, ...]: ...


class Read(NamedTuple):
    """The log-probability of `token` right after `node` is wanted."""

    node: int
    token: int


@dataclass(frozen=True)
class Along:
    """Where one continuation's values stand in the list of reads."""

    tokens: tuple[int, ...]
    terminators: tuple[int, ...]


@dataclass(frozen=True)
class Forest:
    """Nodes, in order, and reads.

    `depths` are positions in the text, from 0. `enters` and `leaves` are a node's interval in a
    depth-first walk: node k is node q or an ancestor of it exactly if
    `enters[k] <= enters[q] < leaves[k]`. The first `stem` nodes need no logits. `queries[i][j]`
    is for continuation j of query i.
    """

    tokens: tuple[int, ...]
    depths: tuple[int, ...]
    enters: tuple[int, ...]
    leaves: tuple[int, ...]
    stem: int
    reads: tuple[Read, ...]
    queries: tuple[tuple[Along, ...], ...]

    @property
    def size(self) -> int:
        """Nodes: the fewest tokens that must be read to fill the reads."""
        return len(self.tokens)

    @property
    def tail(self) -> int:
        """Nodes that need logits."""
        return self.size - self.stem

    def collect(self, values: Sequence[float]) -> list[Result]:
        """Each query's result. `values` holds one natural log-probability for every read."""
        return [
            (
                tuple(tuple(values[read] for read in along.tokens) for along in query),
                tuple(log_sum([values[read] for read in along.terminators]) for along in query),
            )
            for query in self.queries
        ]


class _Grower:
    """Nodes in the order of their growth, which puts every node after its ancestors."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.children: dict[tuple[int, int], int] = {}
        self.reads: dict[Read, int] = {}

    def grow(self, node: int, token: int) -> int:
        """The node of `token` after `node`; -1 is the ground."""
        key = (node, token)
        child = self.children.get(key)
        if child is None:
            child = self.children[key] = len(self.tokens)
            self.tokens.append(token)
            self.parents.append(node)
        return child

    def read(self, node: int, token: int) -> int:
        return self.reads.setdefault(Read(node, token), len(self.reads))

    def query(self, query: Query) -> tuple[Along, ...]:
        prompt_end = -1
        for token in query.prompt_token_ids:
            prompt_end = self.grow(prompt_end, token)
        terminators = sorted(set(query.terminator_ids))
        found = []
        for continuation in query.continuations:
            node = prompt_end
            along = []
            for token in continuation:
                along.append(self.read(node, token))
                node = self.grow(node, token)
            ends = tuple(self.read(node, token) for token in terminators)
            found.append(Along(tuple(along), ends))
        return tuple(found)

    def order(self) -> tuple[list[int], int]:
        """The nodes, stem before tail, and the size of the stem."""
        in_tail = [False] * len(self.tokens)
        for read in self.reads:
            in_tail[read.node] = True
        for node, parent in enumerate(self.parents):
            in_tail[node] = in_tail[node] or (parent >= 0 and in_tail[parent])
        order = sorted(range(len(in_tail)), key=in_tail.__getitem__)
        return order, in_tail.count(False)

    def intervals(self) -> tuple[list[int], list[int], list[int]]:
        """Depth, first number and end of numbers of every node in a depth-first walk."""
        count = len(self.tokens)
        sizes = [1] * count
        for node in range(count - 1, -1, -1):
            if self.parents[node] >= 0:
                sizes[self.parents[node]] += sizes[node]
        depths, enters, free = [0] * count, [0] * count, [0] * count
        ground = 0
        for node, parent in enumerate(self.parents):
            if parent < 0:
                enters[node] = ground
                ground += sizes[node]
            else:
                depths[node] = depths[parent] + 1
                enters[node] = free[parent]
                free[parent] += sizes[node]
            free[node] = enters[node] + 1
        return depths, enters, [enter + size for enter, size in zip(enters, sizes, strict=True)]


def plant(queries: Sequence[Query]) -> Forest:
    """The forest of some queries, usually those of one trial."""
    grower = _Grower()
    found = tuple(grower.query(query) for query in queries)
    order, stem = grower.order()
    place = {node: index for index, node in enumerate(order)}
    depths, enters, leaves = grower.intervals()
    return Forest(
        tokens=tuple(grower.tokens[node] for node in order),
        depths=tuple(depths[node] for node in order),
        enters=tuple(enters[node] for node in order),
        leaves=tuple(leaves[node] for node in order),
        stem=stem,
        reads=tuple(Read(place[read.node], read.token) for read in grower.reads),
        queries=found,
    )


def distinct_prefixes(queries: Sequence[Query]) -> int:
    """The size of their forest, without planting it: the fewest tokens that must be read."""
    texts = sorted(
        query.prompt_token_ids + continuation
        for query in queries
        for continuation in query.continuations
    )
    pairs = zip(texts, [(), *texts], strict=False)
    return sum(len(text) - common_prefix(before, text) for text, before in pairs)


def tokens_one_by_one(queries: Sequence[Query]) -> int:
    """Tokens that one pass for every continuation would read."""
    return sum(
        len(query.prompt_token_ids) + len(continuation)
        for query in queries
        for continuation in query.continuations
    )
