"""Experiment 2 in process: packed forests where the model can, copies of the cache where not.

Whether it can is seen, not looked up: the first trials are measured packed and by plain forward
passes, and the values compared.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from grace.engines.base import Score, ScoreRequest, finite_score, grouped
from grace.engines.logprobs import TOLERANCE
from grace.engines.rereading import Rereading, one_option, whole
from grace.engines.transformers.packed_scoring import PackedReader, shape_of
from grace.engines.transformers.padded_cache import widened
from grace.engines.transformers.row_scoring import score_rows
from grace.errors import EngineError
from grace.scoring.forest import ReadCollector, Result, build_trie
from grace.scoring.packing import Batch, Budget, pack
from grace.scoring.subtrees import Pass, costs_of, needed, passes
from grace.settings.config import ScoringConfig

logger = logging.getLogger(__name__)

PACKED = "packed forests"
COPIES = "copies of the cache"
#: How copies of the cache are read again.
PLAIN = "plain passes without a cache, one option a query"
#: Trials measured in both ways before the first is trusted.
SELF_CHECK_TRIALS = 2
#: Trials that are planned together: enough to share what they begin with, few enough to hold.
PLANNING_BATCH = 256


def reads_subtrees(device: torch.device) -> bool:
    """Whether forests are read subtree by subtree instead of a trial as one row.

    A small model on a CPU spends as much on attention that a mask then hides as on everything
    else; an accelerator spends more on starting further passes.
    """
    return device.type == "cpu"


class Scorer:
    """Scores valid requests with a model in this process."""

    def __init__(self, model_key: str, model: Any, config: ScoringConfig) -> None:
        self._model_key = model_key
        self._model = model
        self._budget = Budget(config.max_batch_tokens, config.max_batch_mib * 2**20)
        self._subtrees = reads_subtrees(model.device)
        self._costs = costs_of(shape_of(model))
        #: How requests are scored; None before the first.
        self.path: str | None = None
        #: Why, and how large the difference of the self-check was.
        self.reason: str | None = None

    @cached_property
    def _reader(self) -> PackedReader:
        return PackedReader(self._model)

    def close(self) -> None:
        """Let go of the model."""
        self._model = None
        self.__dict__.pop("_reader", None)

    def describe(self) -> dict[str, Any]:
        """Facts for the provenance."""
        return {
            "path": self.path,
            "batches": "subtrees of forests" if self._subtrees else "trials together",
            **({"costs": asdict(self._costs)} if self._subtrees else {}),
            "self_check": self.reason,
            "max_batch_tokens": self._budget.tokens,
            "max_batch_mib": self._budget.memory // 2**20,
        }

    def score(
        self, requests: Sequence[ScoreRequest], known: Container[str] = frozenset()
    ) -> Iterator[Score]:
        """The scores, in any order. Neighbours of one group share what they begin with.

        Passes are planned for all requests, in the order of what they ask; those that only known
        ones need are left out. So the last digits of a score depend on which requests there are,
        and neither on their order nor on which were answered before.
        """
        groups = iter(sorted(grouped(requests), key=_asked))
        while some := list(islice(groups, PLANNING_BATCH)):
            if any(request.key not in known for group in some for request in group):
                yield from self._score(some, known)

    def reread(self, requests: Sequence[ScoreRequest]) -> Iterator[Rereading]:
        """Valid requests once more, in the other way: none of them is read in a forest.

        What packed forests gave is read by rows on copies of the cache, together with the other
        requests here; what those gave, by plain passes, of which one option each is read.
        """
        if self.path is None:
            self._choose([[request] for request in requests])
        if self.path == PACKED:
            known = {request.key: request for request in requests}
            for score in score_rows(self._model, requests, self._budget):
                yield whole(known[score.key], score, COPIES)
            return
        for request in requests:
            alone, which = one_option(request)
            values, length = self._plain(alone, 0), len(alone.continuations[0])
            score = finite_score(request.key, (tuple(values[:length]),), tuple(values[length:]))
            yield Rereading(score, (which,), PLAIN)

    def _score(
        self, groups: Sequence[Sequence[ScoreRequest]], known: Container[str]
    ) -> Iterator[Score]:
        if self.path is None:
            self._choose(groups)
        if self.path == COPIES:
            requests = [request for group in groups for request in group]
            yield from score_rows(self._model, requests, self._budget, known)
        else:
            yield from self._scores(self._read(groups, known))

    def _scores(self, results: Iterable[tuple[ScoreRequest, Result]]) -> Iterator[Score]:
        for request, (tokens, ends) in results:
            # In a forest one query's NaN spreads to others, as 0 × NaN is NaN. Alone it does not.
            if all(map(math.isfinite, (*ends, *(value for row in tokens for value in row)))):
                yield finite_score(request.key, tokens, ends)
            else:
                yield from score_rows(self._model, [request], self._budget)

    def _read(
        self, groups: Sequence[Sequence[ScoreRequest]], known: Container[str] = frozenset()
    ) -> Iterator[tuple[ScoreRequest, Result]]:
        """Each request that is not known with its result, as soon as it is there."""
        if not groups:
            return
        reader = self._reader
        if self._subtrees:
            requests = [request for group in groups for request in group]
            forest = build_trie(requests)
            wanted = [index for index, one in enumerate(requests) if one.key not in known]
            plan = needed(passes(forest, self._budget, reader.shape), forest.nodes_read(wanted))
            self._log(plan)
            collector = ReadCollector(forest, wanted)
            for reads, values in reader.read_subtrees(forest, plan):
                for query, result in collector.add(reads, values):
                    yield requests[query], result
        else:
            forests = [build_trie(group) for group in groups]
            wanted = [
                index
                for index, group in enumerate(groups)
                if any(request.key not in known for request in group)
            ]
            batches = [
                batch
                for batch in pack(forests, self._budget, reader.shape)
                if not set(wanted).isdisjoint(batch.members)
            ]
            self._log(batches)
            for batch in batches:
                for index, values in zip(batch.members, reader.read(forests, batch), strict=True):
                    results = zip(groups[index], forests[index].collect(values), strict=True)
                    yield from (one for one in results if one[0].key not in known)

    def _log(self, plans: Sequence[Batch] | Sequence[Pass]) -> None:
        logger.info(
            "model '%s': %d token-forwards in %d passes",
            self._model_key,
            sum(plan.token_forwards for plan in plans),
            sum(plan.passes for plan in plans),
        )

    def _choose(self, groups: Sequence[Sequence[ScoreRequest]]) -> None:
        """Set `path` and `reason` by measuring some trials in both ways.

        What is measured here is measured again with all others: a run that goes on would check
        other trials, and leave others out of its passes.
        """
        try:
            trials = self._self_check_trials(groups)
            results = list(self._read([groups[index] for index in trials]))
            difference = max(self._difference(request, result) for request, result in results)
            tolerance = TOLERANCE[str(self._model.dtype).removeprefix("torch.")]
            self.path = PACKED if difference <= tolerance else COPIES
            self.reason = (
                f"largest difference from plain passes {difference:.2g},"
                f" {'within' if self.path == PACKED else 'beyond'} {tolerance:g}"
            )
        except torch.OutOfMemoryError:
            raise
        # A foreign model's code may fail in any way on a mask that it does not expect.
        except Exception as error:
            self.path = COPIES
            found = str(error).strip().splitlines() or [""]
            self.reason = f"refused: {type(error).__name__}: {found[0]}"
        logger.info("model '%s': scores by %s; %s", self._model_key, self.path, self.reason)

    def _self_check_trials(self, groups: Sequence[Sequence[ScoreRequest]]) -> list[int]:
        """The first trials; and the one with the longest text, if that exceeds a window or a pass.

        Where a pass is exceeded is found for the trial as one row, so perhaps too early.
        """
        first = list(range(min(SELF_CHECK_TRIALS, len(groups))))
        deepest = max(range(len(groups)), key=lambda index: _longest(groups[index]))
        if deepest in first:
            return first
        reader = self._reader
        reach = min((w for w in reader.windows.values() if w is not None), default=math.inf)
        forest = build_trie(groups[deepest])
        needed = reader.shape.memory(1, forest.size, forest.size, forest.tail)
        split = forest.size > self._budget.tokens or needed > self._budget.memory
        return [*first, deepest] if split or _longest(groups[deepest]) > reach else first

    def _difference(self, request: ScoreRequest, result: Result) -> float:
        """The largest difference from a plain pass over one continuation.

        That is the last of the longest: where sequences are mistaken for one another, the last
        suffers most.
        """
        tokens, ends = result
        which = max(
            range(len(request.continuations)), key=lambda i: (len(request.continuations[i]), i)
        )
        difference = 0.0
        ours = (*tokens[which], *ends[which : which + 1])
        for one, other in zip(ours, self._plain(request, which), strict=True):
            if not (math.isfinite(one) and math.isfinite(other)):
                raise EngineError("a log-probability is not a number")
            difference = max(difference, abs(one - other))
        return difference

    def _plain(self, request: ScoreRequest, which: int) -> list[float]:
        """A continuation's tokens and the end after it if it is asked for, by one pass over text.

        A text too long for one pass is read in pieces, on transformers' own cache.
        """
        continuation = request.continuations[which]
        ids = request.prompt_token_ids + continuation
        cost = shape_of(self._model).memory(1, 1, len(ids), 0)
        piece = max(1, min(self._budget.tokens, self._budget.memory // cost))
        cache = DynamicCache(config=self._model.config) if piece < len(ids) else None
        rows: list[Tensor] = []
        with torch.inference_mode():
            for start in range(0, len(ids), piece):
                part = torch.tensor([ids[start : start + piece]], device=self._model.device)
                logits = self._model(
                    input_ids=part,
                    past_key_values=cache,
                    use_cache=cache is not None,
                    logits_to_keep=min(part.shape[1], len(continuation) + 1),
                ).logits[0]
                rows = [*rows, *torch.log_softmax(widened(logits), -1)][-len(continuation) - 1 :]
            read = [float(row[token]) for row, token in zip(rows, continuation, strict=False)]
            if request.terminator_ids:
                read.append(float(rows[-1][sorted(set(request.terminator_ids))].logsumexp(-1)))
        return read


def _asked(group: Sequence[ScoreRequest]) -> list[tuple[tuple[int, ...], ...]]:
    """What a group asks, to sort by: neighbours begin alike."""
    return [(tuple(one.prompt_token_ids), *map(tuple, one.continuations)) for one in group]


def _longest(requests: Sequence[ScoreRequest]) -> int:
    """Tokens of the longest text of some requests."""
    return max(
        len(request.prompt_token_ids) + max(map(len, request.continuations)) for request in requests
    )
