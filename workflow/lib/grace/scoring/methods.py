"""A measured query's distribution under each way of scoring its options.

All of them read the same stored log-probabilities, so that another way of scoring asks nothing;
`pmi_null` reads those after the null context, too, which are asked once for all trials.
docs/scoring_methods.md defines them and says where they are from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from grace.scoring.distributions import log_sum, normalised
from grace.scoring.joining import common_prefix
from grace.scoring.records import Record, measure

#: The ways of scoring, the default first.
METHODS = ("whole", "terminated", "mean_token", "first_token", "pmi_design", "pmi_null")
#: Those that compare with what the model says whatever the trial says.
COMPARING = ("pmi_design", "pmi_null")


class MethodScores(NamedTuple):
    """A query's options under one way of scoring.

    `scores` are natural logs, in the options' order, and need not sum to 1 as probabilities;
    `probabilities` are normalised over the options. `alike` is the largest number of options that
    this way of scoring cannot tell apart, whatever the model says; 1 where it can tell all.
    """

    scores: tuple[float, ...]
    probabilities: dict[str, float]
    alike: int


def scored(
    query: Record, method: str, expected: Sequence[float] | None = None
) -> MethodScores | None:
    """A query's options under one of `METHODS`.

    `query` is a record of `grace.scoring.records`; `expected` holds the log-probability (natural
    log) of each option, in order, whatever the trial says, which the method compares with if it is
    `COMPARING`. None where the query failed, has only bounds, or the method lacks what it needs
    (the terminators' log-probabilities; `expected`).
    """
    if query["status"] != "ok":
        return None
    alike = 1
    scores: list[float] | None
    if method == "whole":
        scores = measures(query)
    elif method == "terminated":
        scores = _over_forms(query, [_ended(text) for text in _texts(query)])
    elif method == "mean_token":
        scores = _over_forms(query, [_mean(text) for text in _texts(query)])
    elif method == "first_token":
        firsts = _first_tokens(_texts(query))
        scores = _over_forms(query, _shared([logprob for _, logprob in firsts], firsts))
        alike = _most_alike(query, [token for token, _ in firsts])
    elif method in COMPARING:
        scores = _pointwise(query, expected)
    else:
        raise ValueError(f"no way of scoring is called {method!r}; there are {', '.join(METHODS)}")
    if scores is None or not any(map(math.isfinite, scores)):
        return None
    texts = (option["text"] for option in query["options"])
    return MethodScores(tuple(scores), dict(zip(texts, normalised(scores), strict=True)), alike)


def measures(query: Record) -> list[float]:
    """Each option's log-probability as `whole` takes it; of a query with status `ok` alone."""
    return [measure(option, query["terminated"]) for option in query["options"]]


def _pointwise(query: Record, expected: Sequence[float] | None) -> list[float] | None:
    """Pointwise mutual information of prompt and option, in nats."""
    if expected is None or not all(map(math.isfinite, expected)):
        return None
    return [score - known for score, known in zip(measures(query), expected, strict=True)]


def _forms(option: Record) -> list[Record]:
    """The texts that an option may be written as; mostly one."""
    forms: list[Record] = option.get("surface_forms", [option])
    return forms


def _texts(query: Record) -> list[Record]:
    return [text for option in query["options"] for text in _forms(option)]


def _over_forms(query: Record, scores: Sequence[float | None]) -> list[float] | None:
    """Each option's score from those of its forms, which exclude each other: their sum."""
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return None
    left = iter(known)
    return [log_sum([next(left) for _ in _forms(option)]) for option in query["options"]]


def _ended(text: Record) -> float | None:
    value: float | None = text["logprob_terminated"]
    return value


def _mean(text: Record) -> float | None:
    """Mean log-probability of the text's tokens: the log of their geometric mean."""
    logprob: float | None = text["logprob"]
    return None if logprob is None else logprob / len(text["token_ids"])


def _first_tokens(texts: Sequence[Record]) -> list[tuple[int | None, float | None]]:
    """The first token of each text after those that all begin with, and its log-probability.

    None for a text that ends there; its log-probability is that of the terminators.
    """
    ids = [tuple(text["token_ids"]) for text in texts]
    shared = min(common_prefix(ids[0], each) for each in ids)
    found: list[tuple[int | None, float | None]] = []
    for text, own in zip(texts, ids, strict=True):
        if len(own) > shared:
            known = text["token_logprobs"]
            found.append((own[shared], None if known is None else known[shared]))
        else:
            ended = text["logprob_terminated"]
            found.append((None, None if ended is None else ended - text["logprob"]))
    return found


def _shared(
    logprobs: Sequence[float | None], firsts: Sequence[tuple[int | None, float | None]]
) -> list[float | None]:
    """Texts with the same first token share its probability evenly."""
    counts = Counter(token for token, _ in firsts)
    return [
        None if logprob is None else logprob - math.log(counts[token])
        for logprob, (token, _) in zip(logprobs, firsts, strict=True)
    ]


def _most_alike(query: Record, tokens: Sequence[int | None]) -> int:
    """The largest number of options whose forms begin with the same tokens."""
    left = iter(tokens)
    kinds = Counter(
        tuple(sorted((next(left) or -1) for _ in _forms(option))) for option in query["options"]
    )
    return max(kinds.values())
