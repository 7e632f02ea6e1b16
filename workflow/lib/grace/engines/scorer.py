"""Experiment 2 in process: packed forests where the model can, copies of the cache where not.

Whether it can is seen, not looked up: the first trials are measured packed and by plain forward
passes, and the values compared.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from grace.config import ScoringConfig
from grace.engines.base import Score, ScoreRequest, finite_score, grouped
from grace.engines.logprobs import TOLERANCE
from grace.engines.packed_scoring import PackedReader
from grace.engines.padded_cache import widened
from grace.engines.row_scoring import score_rows
from grace.errors import EngineError
from grace.scoring.forest import Forest, Result, plant
from grace.scoring.packing import Batch, Budget, Walk, pack, walk

logger = logging.getLogger(__name__)

PACKED = "packed forests"
COPIES = "copies of the cache"
#: Trials measured in both ways before the first is trusted.
WITNESSES = 2
#: Trials that are planned together: enough to share what they begin with, few enough to hold.
SLAB = 256


@dataclass(frozen=True)
class _Planted:
    """Requests and the forest of all of them: a trial's where trials share passes, else one."""

    requests: tuple[ScoreRequest, ...]
    forest: Forest

    @property
    def depth(self) -> int:
        """Tokens of the longest text."""
        return 1 + max(self.forest.depths)

    def results(self, values: Sequence[float]) -> Iterator[tuple[ScoreRequest, Result]]:
        """Each request's result from the forest's reads."""
        return zip(self.requests, self.forest.collect(values), strict=True)


def walks_on(device: torch.device) -> bool:
    """Whether queries follow each other on one cache instead of sharing one pass.

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
        self._walks = walks_on(model.device)
        #: How requests are scored; None before the first.
        self.path: str | None = None
        #: Why, and how large the difference of the self-check was.
        self.reason: str | None = None

    def close(self) -> None:
        """Let go of the model."""
        self._model = None

    def describe(self) -> dict[str, Any]:
        """Facts for the provenance."""
        return {
            "path": self.path,
            "batches": "a query after the other" if self._walks else "trials together",
            "self_check": self.reason,
            "max_batch_tokens": self._budget.tokens,
            "max_batch_mib": self._budget.memory // 2**20,
        }

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Score]:
        """The scores, in any order. Neighbours of one group share what they begin with."""
        groups = grouped(requests)
        while some := list(islice(groups, SLAB)):
            yield from self._score([self._planted(group) for group in some])

    def _planted(self, requests: Sequence[ScoreRequest]) -> list[_Planted]:
        parts = [[request] for request in requests] if self._walks else [requests]
        return [_Planted(tuple(part), plant(part)) for part in parts]

    def _score(self, groups: Sequence[Sequence[_Planted]]) -> Iterator[Score]:
        everything = [planted for group in groups for planted in group]
        if self.path is None:
            first = [planted for group in groups[:WITNESSES] for planted in group]
            self._choose(first, everything)
        if self.path == COPIES:
            requests = [request for planted in everything for request in planted.requests]
            yield from score_rows(self._model, requests)
            return
        for planted, values in self._read(everything):
            # In a forest one query's NaN spreads to others, as 0 × NaN is NaN. Alone it does not.
            if all(map(math.isfinite, values)):
                for request, (tokens, ends) in planted.results(values):
                    yield finite_score(request.key, tokens, ends)
            else:
                for request in planted.requests:
                    yield from score_rows(self._model, [request])

    def _read(self, everything: Sequence[_Planted]) -> Iterator[tuple[_Planted, list[float]]]:
        """Each with the reads of its forest."""
        reader = PackedReader(self._model)
        forests = [planted.forest for planted in everything]
        if self._walks:
            path = walk(forests, self._budget, reader.shape)
            self._log([path])
            for index, values in reader.walk(forests, path):
                yield everything[index], values
        else:
            batches = pack(forests, self._budget, reader.shape)
            self._log(batches)
            for batch in batches:
                for index, values in zip(batch.members, reader.read(forests, batch), strict=True):
                    yield everything[index], values

    def _log(self, plans: Sequence[Batch] | Sequence[Walk]) -> None:
        logger.info(
            "model '%s': %d token-forwards in %d passes",
            self._model_key,
            sum(plan.token_forwards for plan in plans),
            sum(plan.passes for plan in plans),
        )

    def _choose(self, first: Sequence[_Planted], everything: Sequence[_Planted]) -> None:
        """Set `path` and `reason` by measuring some in both ways."""
        try:
            difference = max(
                self._difference(planted, values)
                for planted, values in self._read(self._witnesses(first, everything))
            )
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

    def _witnesses(
        self, first: Sequence[_Planted], everything: Sequence[_Planted]
    ) -> list[_Planted]:
        """The first trials' forests; and the deepest, if it exceeds a window or one pass."""
        reader = PackedReader(self._model)
        reach = min((w for w in reader.windows.values() if w is not None), default=math.inf)
        deepest = max(everything, key=lambda planted: planted.depth)
        forest = deepest.forest
        needed = reader.shape.memory(1, forest.size, forest.size, forest.tail)
        split = forest.size > self._budget.tokens or needed > self._budget.memory
        new = not any(planted is deepest for planted in first)
        return [*first, deepest] if new and (split or deepest.depth > reach) else list(first)

    def _difference(self, planted: _Planted, values: Sequence[float]) -> float:
        """The largest difference from plain passes, over one continuation of each query.

        That is the last of the longest: where sequences are mistaken for one another, the last
        suffers most.
        """
        difference = 0.0
        for request, (tokens, ends) in planted.results(values):
            which = max(
                range(len(request.continuations)), key=lambda i: (len(request.continuations[i]), i)
            )
            ours = (*tokens[which], ends[which])
            for one, other in zip(ours, self._plain(request, which), strict=True):
                if not (math.isfinite(one) and math.isfinite(other)):
                    raise EngineError("a log-probability is not a number")
                difference = max(difference, abs(one - other))
        return difference

    def _plain(self, request: ScoreRequest, which: int) -> list[float]:
        """A continuation's tokens and the end after it, by one pass over plain text.

        A text too long for one pass is read in pieces, on transformers' own cache.
        """
        continuation = request.continuations[which]
        ids = request.prompt_token_ids + continuation
        cost = PackedReader(self._model).shape.memory(1, 1, len(ids), 0)
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
            end = float(rows[-1][sorted(set(request.terminator_ids))].logsumexp(-1))
        return [*read, end]
