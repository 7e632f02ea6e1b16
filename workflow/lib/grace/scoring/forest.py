"""A token forest: all sequences of a trial's queries, every shared prefix once.

A node is one token after one prefix, so the number of nodes is the fewest tokens that a model must
read. Nodes stand in the order *stem, tail*: the tail is every node at which something is read, and
whatever follows such a node; a node always stands after its ancestors. Hence logits are needed only
for the last nodes, whatever the queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

from grace.scoring.distributions import log_sum
from grace.scoring.joining import common_prefix

#: Log-probabilities of each continuation's tokens, and of the terminators after it: none where the
#: query names no terminator.
Result = tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]


class TokenQuery(Protocol):
    """What is read after one prompt. Neither the prompt nor a continuation is empty."""

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
class OptionReads:
    """Where one continuation's values stand in the list of reads."""

    tokens: tuple[int, ...]
    terminators: tuple[int, ...]


@dataclass(frozen=True)
class Forest:
    """Nodes, in order, and reads.

    `parents` are nodes, -1 being the root. `depths` are positions in the text, from 0. `enters`
    and `leaves` are a node's interval in a depth-first walk: node k is node q or an ancestor of it
    exactly if `enters[k] <= enters[q] < leaves[k]`. The first `stem` nodes need no logits.
    `queries[i][j]` is for continuation j of query i.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    enters: tuple[int, ...]
    leaves: tuple[int, ...]
    stem: int
    reads: tuple[Read, ...]
    queries: tuple[tuple[OptionReads, ...], ...]

    @property
    def size(self) -> int:
        """Nodes: the fewest tokens that must be read to fill the reads."""
        return len(self.tokens)

    @property
    def tail(self) -> int:
        """Nodes that need logits."""
        return self.size - self.stem

    @cached_property
    def reads_at(self) -> tuple[tuple[int, ...], ...]:
        """For every node, where its reads stand in the list of reads."""
        found: list[list[int]] = [[] for _ in self.tokens]
        for index, read in enumerate(self.reads):
            found[read.node].append(index)
        return tuple(map(tuple, found))

    def reads_of(self, query: int) -> set[int]:
        """Where a query's reads stand in the list of reads."""
        alongs = self.queries[query]
        return {read for along in alongs for read in (*along.tokens, *along.terminators)}

    def nodes_read(self, queries: Iterable[int]) -> set[int]:
        """The nodes after which some queries' tokens are read."""
        return {self.reads[read].node for query in queries for read in self.reads_of(query)}

    def collect(self, values: Sequence[float]) -> list[Result]:
        """Each query's result. `values` holds one natural log-probability for every read."""
        return [self.result(query, values) for query in range(len(self.queries))]

    def result(self, query: int, values: Sequence[float]) -> Result:
        """One query's result, from the values of its own reads, which stand in their places."""
        return (
            tuple(tuple(values[read] for read in along.tokens) for along in self.queries[query]),
            tuple(
                log_sum([values[read] for read in along.terminators])
                for along in self.queries[query]
                if along.terminators
            ),
        )


class ReadCollector:
    """Takes a forest's reads as they come, and gives each query's result once it has all of its."""

    def __init__(self, forest: Forest, queries: Iterable[int]) -> None:
        """Of these queries alone."""
        self._forest = forest
        self._values = [math.nan] * len(forest.reads)
        self._waiting: list[list[int]] = [[] for _ in forest.reads]
        self._missing = {}
        for query in queries:
            own = forest.reads_of(query)
            self._missing[query] = len(own)
            for read in own:
                self._waiting[read].append(query)

    def add(self, reads: Sequence[int], values: Sequence[float]) -> Iterator[tuple[int, Result]]:
        """The queries that these reads complete, with their results."""
        for read, value in zip(reads, values, strict=True):
            self._values[read] = value
        for read in reads:
            for query in self._waiting[read]:
                self._missing[query] -= 1
                if not self._missing[query]:
                    yield query, self._forest.result(query, self._values)


class _TrieBuilder:
    """Nodes in the order in which they are added, which puts every node after its ancestors."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.children: dict[tuple[int, int], int] = {}
        self.reads: dict[Read, int] = {}
        #: The prompt of the query before, and its nodes.
        self._prompt: tuple[int, ...] = ()
        self._path: list[int] = []

    def extend(self, node: int, token: int) -> int:
        """The node of `token` after `node`; -1 is the root."""
        key = (node, token)
        child = self.children.get(key)
        if child is None:
            child = self.children[key] = len(self.tokens)
            self.tokens.append(token)
            self.parents.append(node)
        return child

    def read(self, node: int, token: int) -> int:
        return self.reads.setdefault(Read(node, token), len(self.reads))

    def query(self, query: TokenQuery) -> tuple[OptionReads, ...]:
        # What it shares with the query before has its nodes.
        shared = common_prefix(self._prompt, query.prompt_token_ids)
        del self._path[shared:]
        self._follow(query.prompt_token_ids[shared:])
        self._prompt = query.prompt_token_ids
        prompt_end = self._path[-1]
        terminators = sorted(set(query.terminator_ids))
        found = []
        for continuation in query.continuations:
            node = prompt_end
            along = []
            # Where no end is wanted, nothing is read after a continuation's last token.
            last = len(continuation) - (0 if terminators else 1)
            for place, token in enumerate(continuation):
                along.append(self.read(node, token))
                if place < last:
                    node = self.extend(node, token)
            ends = tuple(self.read(node, token) for token in terminators)
            found.append(OptionReads(tuple(along), ends))
        return tuple(found)

    def _follow(self, tokens: Sequence[int]) -> None:
        """Go on along the path: over nodes that are there, then over new ones, all at once."""
        node = self._path[-1] if self._path else -1
        known = 0
        while known < len(tokens):
            child = self.children.get((node, tokens[known]))
            if child is None:
                break
            self._path.append(child)
            node = child
            known += 1
        rest = tokens[known:]
        new = range(len(self.tokens), len(self.tokens) + len(rest))
        parents = [node, *new][: len(rest)]
        self.tokens += rest
        self.parents += parents
        self.children.update(zip(zip(parents, rest, strict=True), new, strict=True))
        self._path += new

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
        root_free = 0
        for node, parent in enumerate(self.parents):
            if parent < 0:
                enters[node] = root_free
                root_free += sizes[node]
            else:
                depths[node] = depths[parent] + 1
                enters[node] = free[parent]
                free[parent] += sizes[node]
            free[node] = enters[node] + 1
        return depths, enters, [enter + size for enter, size in zip(enters, sizes, strict=True)]


def build_trie(queries: Sequence[TokenQuery]) -> Forest:
    """The forest of some queries, usually those of one trial."""
    builder = _TrieBuilder()
    found = tuple(builder.query(query) for query in queries)
    order, stem = builder.order()
    # The root, -1, stands at the end of the list and is its own place.
    place = [-1] * (len(order) + 1)
    for index, node in enumerate(order):
        place[node] = index
    depths, enters, leaves = builder.intervals()
    return Forest(
        tokens=tuple(builder.tokens[node] for node in order),
        parents=tuple(place[builder.parents[node]] for node in order),
        depths=tuple(depths[node] for node in order),
        enters=tuple(enters[node] for node in order),
        leaves=tuple(leaves[node] for node in order),
        stem=stem,
        reads=tuple(Read(place[read.node], read.token) for read in builder.reads),
        queries=found,
    )


def distinct_prefixes(queries: Sequence[TokenQuery]) -> int:
    """The size of their forest, without building it: the fewest tokens that must be read.

    After the last token of a continuation nothing is read where its query reads no end.
    """
    texts = sorted(
        query.prompt_token_ids + (continuation if query.terminator_ids else continuation[:-1])
        for query in queries
        for continuation in query.continuations
    )
    pairs = zip(texts, [(), *texts], strict=False)
    return sum(len(text) - common_prefix(before, text) for text, before in pairs)


def tokens_one_by_one(queries: Sequence[TokenQuery]) -> int:
    """Tokens that one pass for every continuation would read."""
    return sum(
        len(query.prompt_token_ids) + len(continuation)
        for query in queries
        for continuation in query.continuations
    )
