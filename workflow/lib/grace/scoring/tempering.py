"""A measured query's distribution as experiment 1 samples: at its temperature, within its top_p.

Sampling at temperature T draws every token from p^(1/T), normalised over the whole vocabulary at
its place. Of a place the record holds the tokens that continue an option; the others are known by
their mass alone. That mass bounds the sum of their powers, and so everything computed here.
docs/temperature.md has the derivation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from grace.scoring.records import Record, distribution

#: More tokens than any vocabulary in use has.
MOST_TOKENS = 2**20
#: More terminators than any model in use has; records hold the sum of their probabilities.
MOST_TERMINATORS = 8
#: By how much the probabilities of a vocabulary may miss 1 because they are rounded.
ROUNDING = 1e-6


class Sampled(NamedTuple):
    """A distribution as it is sampled.

    `bound` is the greatest total variation distance between `probabilities` and what they can be,
    given all that was measured; 0 where that leaves nothing open.
    """

    probabilities: dict[str, float]
    bound: float


@dataclass
class _Place:
    """What follows a prefix: the tokens that continue an option, or the end of one.

    `edges` are (lowest probability, highest probability, order among equals, what follows).
    `option` is the option whose text is complete here and has nothing more to be read.
    """

    option: int | None = None
    options: set[int] = field(default_factory=set)
    children: dict[int, tuple[float, _Place]] = field(default_factory=dict)
    end: tuple[float, _Place] | None = None

    def edges(self) -> list[tuple[float, float, int, _Place]]:
        found = [
            (probability, probability, token, place)
            for token, (probability, place) in self.children.items()
        ]
        if self.end is not None:
            probability, place = self.end
            found.append((probability / MOST_TERMINATORS, probability, -1, place))
        return found


class Shares(NamedTuple):
    """A share of the draws at a place: the estimate, and the least and most that it can be."""

    at: float
    lowest: float
    highest: float

    def then(self, other: Shares) -> Shares:
        """Of one after the other."""
        return Shares(*(mine * theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Weights:
    """Of what follows a prefix, up to a factor: of each edge, and of all other tokens together.

    `at` are those of the estimate. `lowest` and `highest` need not be reached together.
    """

    at: list[float]
    lowest: list[float]
    highest: list[float]
    other_at: float
    other_lowest: float
    other_highest: float

    @property
    def certain(self) -> bool:
        """Whether the edges' own weights are known, whatever the others have."""
        return self.lowest == self.highest

    def shares(self, edge: int) -> Shares:
        """Of the draws, one edge's share."""
        return self._all_shares[edge]

    @cached_property
    def _all_shares(self) -> list[Shares]:
        """Every edge's share: each option asks for all of them, twice."""
        return [self._share(edge) for edge in range(len(self.at))]

    def _share(self, edge: int) -> Shares:
        def share(mine: list[float], rivals: list[float], other: float) -> float:
            rest = math.fsum(w for i, w in enumerate(rivals) if i != edge) + other
            return mine[edge] / (mine[edge] + rest) if mine[edge] > 0 else 0.0

        return Shares(
            share(self.at, self.at, self.other_at),
            share(self.lowest, self.highest, self.other_highest),
            share(self.highest, self.lowest, self.other_lowest),
        )


@dataclass
class _Branch:
    """Where texts part, or one is complete: `option`.

    `after` holds, for each edge, the share of draws that get from it to the next branch, and that.
    `without` is what `_pair` found, by `high`, for options none of whose texts come by here.
    """

    option: int | None
    options: set[int]
    weights: Weights | None = None
    after: list[tuple[Shares, _Branch]] = field(default_factory=list)
    without: dict[bool, tuple[float, float]] = field(default_factory=dict)


def sampled(query: Record, temperature: float, top_p: float) -> Sampled | None:
    """A query's distribution over its options, given that one of them is the answer.

    `query` is a record of `grace.scoring.records`. None where it failed or has only bounds.
    """
    measured = distribution(query)
    if measured is None or (temperature == 1 and top_p == 1):
        return None if measured is None else Sampled(measured, 0.0)
    tree = _tree(query)
    if tree is None:
        return None
    # What is before the first branch concerns all options alike.
    _, root = _compiled(tree, temperature, top_p)
    masses = dict.fromkeys(range(len(measured)), 0.0)
    _add_masses(root, 1.0, masses)
    total = math.fsum(masses.values())
    if not total > 0:
        return None
    estimate = [mass / total for mass in masses.values()]
    lowest = [_extreme(root, at, False, estimate[at]) for at in masses]
    highest = [_extreme(root, at, True, estimate[at]) for at in masses]
    bound = min(
        math.fsum(max(0.0, high - p) for high, p in zip(highest, estimate, strict=True)),
        math.fsum(max(0.0, p - low) for low, p in zip(lowest, estimate, strict=True)),
    )
    # What is left of rounding is no uncertainty.
    return Sampled(dict(zip(measured, estimate, strict=True)), bound if bound > 1e-12 else 0.0)


def _tree(query: Record) -> _Place | None:
    """The options' tokens, every shared prefix once; None where one was not measured."""
    root = _Place()
    for option, record in enumerate(query["options"]):
        for text in record.get("surface_forms", [record]):
            if text["token_logprobs"] is None:
                return None
            place = root
            place.options.add(option)
            for token, logprob in zip(text["token_ids"], text["token_logprobs"], strict=True):
                known = place.children.get(token)
                if known is None:
                    known = place.children[token] = (math.exp(logprob), _Place())
                place = known[1]
                place.options.add(option)
            if query["terminated"]:
                if text["logprob_terminated"] is None:
                    return None
                logprob = text["logprob_terminated"] - text["logprob"]
                place.end = (
                    0.0 if math.isnan(logprob) else math.exp(min(0.0, logprob)),
                    _Place(option=option, options={option}),
                )
            else:
                place.option = option
    return root


def _compiled(place: _Place, temperature: float, top_p: float) -> tuple[Shares, _Branch]:
    """The next branch from a place on, and the share of draws that get there without leaving.

    Places without a choice between options are passed here, so that long options nest no deeper
    than they branch.
    """
    way = Shares(1.0, 1.0, 1.0)
    while True:
        if place.option is not None:
            return way, _Branch(place.option, place.options)
        edges = place.edges()
        own = place_weights([edge[:3] for edge in edges], temperature=temperature, top_p=top_p)
        if len(edges) > 1:
            after = [_compiled(edge[3], temperature, top_p) for edge in edges]
            return way, _Branch(None, place.options, own, after)
        way = way.then(own.shares(0))
        place = edges[0][3]


def place_weights(
    edges: Sequence[tuple[float, float, int]], *, temperature: float, top_p: float
) -> Weights:
    """The weights of known tokens and of all others at one place.

    `edges` are each token's lowest and highest probability and its order among equals.
    """
    missing = 1 - math.fsum(high for _, high, _ in edges)
    fewest, most = max(0.0, missing - ROUNDING), max(0.0, missing) + ROUNDING
    if temperature == 0:
        return _greedy(edges, most)
    beta = 1 / temperature
    # Weights are relative to the greatest, of which powers would all be 0 for a low temperature.
    scale = math.log(max(most, *(high for _, high, _ in edges)))

    def power(mass: float, tokens: int = 1) -> float:
        """Of so many tokens that share a mass evenly."""
        if mass <= 0:
            return 0.0
        return tokens * math.exp(beta * (math.log(mass / tokens) - scale))

    def powers(fewest: float, most: float, tokens: int) -> tuple[float, float]:
        """Least and greatest sum of powers of at most so many tokens with such a mass together."""
        if beta >= 1:
            return power(fewest, tokens), power(most)
        return power(fewest), power(most, tokens)

    at = [power(high) for _, high, _ in edges]
    ranges = [
        (weight, weight) if low == high else powers(high, high, MOST_TERMINATORS)
        for weight, (low, high, _) in zip(at, edges, strict=True)
    ]
    other = powers(fewest, most, MOST_TOKENS)
    weights = Weights(at, [r[0] for r in ranges], [r[1] for r in ranges], other[0], *other)
    return weights if top_p == 1 else _nucleus(edges, weights, most, top_p)


def _greedy(edges: Sequence[tuple[float, float, int]], most: float) -> Weights:
    """All weight on the likeliest token; on any that may be it, where that is open."""
    best = min(range(len(edges)), key=lambda i: (-edges[i][1], edges[i][2]))
    at = [float(i == best) for i in range(len(edges))]
    surely = all(
        (edges[best][0], -edges[best][2]) > (high, -order)
        for i, (_, high, order) in enumerate(edges)
        if i != best
    )
    known = max(low for low, _, _ in edges)
    beyond = float(most >= known)
    if surely:
        highest, lowest = at, [weight * (1 - beyond) for weight in at]
    else:
        highest = [float(high >= known) for _, high, _ in edges]
        lowest = [0.0] * len(edges)
    return Weights(at, lowest, highest, 0.0, 0.0, beyond)


def _nucleus(
    edges: Sequence[tuple[float, float, int]], weights: Weights, most: float, top_p: float
) -> Weights:
    """The weights where only the likeliest tokens that together reach `top_p` may be drawn.

    A token is drawn if those before it, likeliest first, have less than `top_p` together.
    """
    total_at = math.fsum(weights.at) + weights.other_at
    total_lowest = math.fsum(weights.lowest) + weights.other_lowest
    total_highest = math.fsum(weights.highest) + weights.other_highest
    at, lowest, highest = [], [], []
    for i, (low, high, order) in enumerate(edges):
        rivals = [j for j in range(len(edges)) if j != i]
        first_at = [j for j in rivals if (edges[j][1], -edges[j][2]) > (high, -order)]
        first_surely = [j for j in rivals if (edges[j][0], -edges[j][2]) > (high, -order)]
        first_maybe = [j for j in rivals if (edges[j][1], -edges[j][2]) > (low, -order)]
        least = math.fsum(weights.lowest[j] for j in first_surely) / total_highest
        before = math.fsum(weights.highest[j] for j in first_maybe)
        greatest = before / total_lowest
        if most >= low:
            greatest = max(greatest, (before + weights.other_highest) / total_lowest)
        before_at = math.fsum(weights.at[j] for j in first_at)
        at.append(weights.at[i] if before_at < top_p * total_at else 0.0)
        lowest.append(weights.lowest[i] if greatest < top_p else 0.0)
        highest.append(weights.highest[i] if least < top_p else 0.0)
    # Tokens that are certainly likelier than any unknown one.
    ahead = math.fsum(weights.lowest[i] for i, (low, _, _) in enumerate(edges) if low > most)
    other_at = min(weights.other_at, max(0.0, top_p * total_at - math.fsum(weights.at)))
    other = weights.other_highest if ahead / total_highest < top_p else 0.0
    return Weights(at, lowest, highest, min(other_at, other), 0.0, other)


def _add_masses(branch: _Branch, reached: float, found: dict[int, float]) -> None:
    """Add each option's probability, with that of reaching the branch, to `found`."""
    if branch.option is not None:
        found[branch.option] += reached
        return
    assert branch.weights is not None  # only complete options have none
    for edge, (way, after) in enumerate(branch.after):
        _add_masses(after, reached * branch.weights.shares(edge).at * way.at, found)


def _extreme(root: _Branch, option: int, high: bool, estimate: float) -> float:
    """The most (or least) that an option's share of the options' probability can be."""
    own, others = _pair(root, option, high, True)
    # Where no option may be reached at all, the share does not exist.
    return own / (own + others) if own + others > 0 else estimate


def _pair(branch: _Branch, option: int, high: bool, whole: bool) -> tuple[float, float]:
    """The option's probability after a branch, and the others', as far apart as they can be.

    `whole`: all of the option's forms come by here. Then what other tokens take, they take of the
    option and of the others after this branch alike, and the two are weighed by one total.
    """
    if branch.option is not None:
        return (1.0, 0.0) if branch.option == option else (0.0, 1.0)
    if option in branch.options:
        return _weighed(branch, option, high, whole)
    # The same for every such option, so that options with many branches do not take their square.
    if high not in branch.without:
        branch.without[high] = _weighed(branch, option, high, whole)
    return branch.without[high]


def _weighed(branch: _Branch, option: int, high: bool, whole: bool) -> tuple[float, float]:
    """`_pair` at a branch where texts part."""
    own = branch.weights
    assert own is not None  # only complete options have none
    holds = [option in after.options for _, after in branch.after]
    alone = sum(holds) == 1
    pairs = []
    for held, (way, after) in zip(holds, branch.after, strict=True):
        further = whole and held and alone
        mine, theirs = _pair(after, option, high, further)
        toward = way.highest if high else way.lowest
        away = way.lowest if high else way.highest
        pairs.append((mine * toward, theirs * (toward if further else away)))
    if whole and (alone or own.certain):
        gains, losses = (own.highest, own.lowest) if high else (own.lowest, own.highest)
        other = own.other_lowest if high else own.other_highest
        shares = [gains[i] if held else losses[i] for i, held in enumerate(holds)]
        total = math.fsum(shares) + other
        if total <= 0:
            return 0.0, 0.0
        return (
            math.fsum(w * mine for w, (mine, _) in zip(shares, pairs, strict=True)) / total,
            math.fsum(w * theirs for w, (_, theirs) in zip(shares, pairs, strict=True)) / total,
        )
    shares_of = [own.shares(edge) for edge in range(len(pairs))]
    toward_all = [share.highest if high else share.lowest for share in shares_of]
    away_all = [share.lowest if high else share.highest for share in shares_of]
    return (
        math.fsum(w * mine for w, (mine, _) in zip(toward_all, pairs, strict=True)),
        math.fsum(w * theirs for w, (_, theirs) in zip(away_all, pairs, strict=True)),
    )
