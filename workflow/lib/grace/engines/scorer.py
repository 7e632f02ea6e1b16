"""Experiment 2 in process: packed forests where the model can, copies of the cache where not.

Whether it can is seen, not looked up: the first trials are measured packed and by plain forward
passes, and the values compared.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from grace.config import ScoringConfig
from grace.engines.base import Score, ScoreRequest, finite_score
from grace.engines.packed_scoring import PackedReader
from grace.engines.padded_cache import widened
from grace.engines.row_scoring import score_rows
from grace.errors import EngineError
from grace.scoring.forest import Forest, plant
from grace.scoring.packing import Batch, Budget, pack

logger = logging.getLogger(__name__)

PACKED = "packed forests"
COPIES = "copies of the cache"
#: Trials measured in both ways before the first is trusted.
WITNESSES = 2
#: How far log-probabilities of the two may differ, by dtype: its rounding over a deep model, far
#: below what a wrong mask does.
TOLERANCE = {"float64": 1e-6, "float32": 1e-3, "float16": 0.1, "bfloat16": 0.5}


@dataclass(frozen=True)
class _Group:
    """The requests of one trial, and their forest."""

    requests: tuple[ScoreRequest, ...]
    forest: Forest


class Scorer:
    """Scores valid requests with a model in this process."""

    def __init__(self, model_key: str, model: Any, config: ScoringConfig) -> None:
        self._model_key = model_key
        self._model = model
        self._budget = Budget(config.max_batch_tokens, config.max_batch_mib * 2**20)
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
            "self_check": self.reason,
            "max_batch_tokens": self._budget.tokens,
            "max_batch_mib": self._budget.memory // 2**20,
        }

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Score]:
        """The scores, in any order. Neighbours of one group share a forest."""
        groups = [_Group(tuple(found), plant(found)) for found in _grouped(requests)]
        if not groups:
            return
        if self.path is None:
            self._choose(groups)
        if self.path == COPIES:
            yield from score_rows(self._model, requests)
            return
        reader = PackedReader(self._model)
        forests = [group.forest for group in groups]
        batches = pack(forests, self._budget, reader.shape)
        logger.info(
            "%d forests of %d tokens in %d batches (%d passes): %d token-forwards with padding",
            len(forests),
            sum(forest.size for forest in forests),
            len(batches),
            sum(len(batch.chunks) for batch in batches),
            sum(batch.token_forwards for batch in batches),
        )
        for batch in batches:
            members = [groups[index] for index in batch.members]
            for group, values in zip(members, reader.read(forests, batch), strict=True):
                yield from self._scores(group, values)

    def _scores(self, group: _Group, values: Sequence[float]) -> Iterator[Score]:
        """The group's scores. What is no number is measured again, each continuation alone.

        In a forest one query's NaN spreads to all others: 0 × NaN is NaN.
        """
        if all(map(math.isfinite, values)):
            for request, (tokens, ends) in zip(
                group.requests, group.forest.collect(values), strict=True
            ):
                yield finite_score(request.key, tokens, ends)
        else:
            for request in group.requests:
                yield from score_rows(self._model, [request])

    def _choose(self, groups: Sequence[_Group]) -> None:
        """Set `path` and `reason` by measuring some groups in both ways."""
        try:
            difference = self._difference(groups)
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

    def _difference(self, groups: Sequence[_Group]) -> float:
        """The largest difference between packed and plain log-probabilities."""
        reader = PackedReader(self._model)
        forests = [group.forest for group in groups]
        batches = pack(forests, self._budget, reader.shape)
        chosen = self._witnesses(forests, batches, reader)
        difference = 0.0
        for batch in pack([forests[i] for i in chosen], self._budget, reader.shape):
            members = [groups[chosen[i]] for i in batch.members]
            values = reader.read([forests[i] for i in chosen], batch)
            for group, packed in zip(members, values, strict=True):
                difference = max(difference, self._group_difference(group, packed))
        return difference

    @staticmethod
    def _witnesses(
        forests: Sequence[Forest], batches: Sequence[Batch], reader: PackedReader
    ) -> list[int]:
        """The first groups; and the deepest, where it is read in chunks or exceeds a window."""
        deepest = max(range(len(forests)), key=lambda i: max(forests[i].depths))
        chunked = {i for batch in batches if len(batch.chunks) > 1 for i in batch.members}
        reach = min((w for w in reader.windows.values() if w is not None), default=math.inf)
        found = list(range(min(WITNESSES, len(forests))))
        if deepest not in found and (deepest in chunked or max(forests[deepest].depths) >= reach):
            found.append(deepest)
        return found

    def _group_difference(self, group: _Group, packed: Sequence[float]) -> float:
        """Compares one continuation of each query, the last of the longest."""
        difference = 0.0
        for request, (tokens, _), along in zip(
            group.requests, group.forest.collect(packed), group.forest.queries, strict=True
        ):
            which = max(
                range(len(request.continuations)), key=lambda i: (len(request.continuations[i]), i)
            )
            ends = [packed[read] for read in along[which].terminators]
            for one, other in zip(
                (*tokens[which], *ends), self._plain(request, which), strict=True
            ):
                if not (math.isfinite(one) and math.isfinite(other)):
                    raise EngineError("a log-probability is not a number")
                difference = max(difference, abs(one - other))
        return difference

    def _plain(self, request: ScoreRequest, which: int) -> list[float]:
        """A continuation's tokens and the terminators after it, by one pass over plain text."""
        continuation = request.continuations[which]
        with torch.inference_mode():
            ids = torch.tensor([request.prompt_token_ids + continuation], device=self._model.device)
            logits = self._model(
                input_ids=ids, use_cache=False, logits_to_keep=len(continuation) + 1
            ).logits[0]
            logprobs = torch.log_softmax(widened(logits), -1)
            read: list[float] = logprobs[range(len(continuation)), list(continuation)].tolist()
            ends: list[float] = logprobs[-1, sorted(set(request.terminator_ids))].tolist()
        return read + ends


def _grouped(requests: Sequence[ScoreRequest]) -> Iterator[list[ScoreRequest]]:
    """Runs of neighbours with one group; requests without a group stand alone."""
    for group, found in groupby(requests, key=lambda request: request.group):
        if group is None:
            yield from ([request] for request in found)
        else:
            yield list(found)
