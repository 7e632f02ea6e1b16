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
from grace.scoring.forest import Forest, Result, plant
from grace.scoring.packing import Batch, Budget, Walk, pack, walk

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
    """The requests of one trial, and their forests: one for all of them, or one for each."""

    requests: tuple[ScoreRequest, ...]
    forests: tuple[Forest, ...]

    @property
    def depth(self) -> int:
        """Tokens of the longest text."""
        return 1 + max(max(forest.depths) for forest in self.forests)

    def results(self, values: Sequence[Sequence[float]]) -> Iterator[tuple[ScoreRequest, Result]]:
        """Each request's result; `values` are the reads of each forest."""
        found = (
            result
            for forest, read in zip(self.forests, values, strict=True)
            for result in forest.collect(read)
        )
        return zip(self.requests, found, strict=True)


def walks_on(device: torch.device) -> bool:
    """Whether the queries of a trial follow each other instead of sharing one pass.

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
        groups = [self._planted(found) for found in _grouped(requests)]
        if not groups:
            return
        if self.path is None:
            self._choose(groups)
        if self.path == COPIES:
            yield from score_rows(self._model, requests)
            return
        for group, values in self._read(groups):
            # In a forest one query's NaN spreads to others, as 0 × NaN is NaN. Alone it does not.
            if all(math.isfinite(value) for read in values for value in read):
                for request, (tokens, ends) in group.results(values):
                    yield finite_score(request.key, tokens, ends)
            else:
                for request in group.requests:
                    yield from score_rows(self._model, [request])

    def _planted(self, requests: Sequence[ScoreRequest]) -> _Group:
        parts = [[request] for request in requests] if self._walks else [requests]
        return _Group(tuple(requests), tuple(plant(part) for part in parts))

    def _read(self, groups: Sequence[_Group]) -> Iterator[tuple[_Group, list[list[float]]]]:
        """Each group with the reads of its forests."""
        reader = PackedReader(self._model)
        if self._walks:
            walks = [walk(group.forests, self._budget, reader.shape) for group in groups]
            self._log(walks)
            for group, path in zip(groups, walks, strict=True):
                yield group, reader.walk(group.forests, path)
        else:
            forests = [group.forests[0] for group in groups]
            batches = pack(forests, self._budget, reader.shape)
            self._log(batches)
            for batch in batches:
                for index, values in zip(batch.members, reader.read(forests, batch), strict=True):
                    yield groups[index], [values]

    def _log(self, plans: Sequence[Batch] | Sequence[Walk]) -> None:
        logger.info(
            "model '%s': %d token-forwards in %d passes",
            self._model_key,
            sum(plan.token_forwards for plan in plans),
            sum(plan.passes for plan in plans),
        )

    def _choose(self, groups: Sequence[_Group]) -> None:
        """Set `path` and `reason` by measuring some groups in both ways."""
        try:
            difference = max(
                self._difference(group, values)
                for group, values in self._read(self._witnesses(groups))
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

    def _witnesses(self, groups: Sequence[_Group]) -> list[_Group]:
        """The first groups; and the longest, if it exceeds a window or one pass."""
        reader = PackedReader(self._model)
        reach = min((w for w in reader.windows.values() if w is not None), default=math.inf)
        longest = max(groups, key=lambda group: group.depth)
        split = any(
            forest.size > self._budget.tokens
            or reader.shape.memory(1, forest.size, forest.size, forest.tail) > self._budget.memory
            for forest in longest.forests
        )
        found = list(groups[:WITNESSES])
        if (split or longest.depth > reach) and not any(group is longest for group in found):
            found.append(longest)
        return found

    def _difference(self, group: _Group, values: Sequence[Sequence[float]]) -> float:
        """The largest difference from plain passes, over one continuation of each query.

        That is the last of the longest: where sequences are mistaken for one another, the last
        suffers most.
        """
        difference = 0.0
        for request, (tokens, ends) in group.results(values):
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
        """A continuation's tokens and the end after it, by one pass over plain text."""
        continuation = request.continuations[which]
        with torch.inference_mode():
            ids = torch.tensor([request.prompt_token_ids + continuation], device=self._model.device)
            logits = self._model(
                input_ids=ids, use_cache=False, logits_to_keep=len(continuation) + 1
            ).logits[0]
            logprobs = torch.log_softmax(widened(logits), -1)
            read: list[float] = logprobs[range(len(continuation)), list(continuation)].tolist()
            end = float(logprobs[-1, sorted(set(request.terminator_ids))].logsumexp(-1))
        return [*read, end]


def _grouped(requests: Sequence[ScoreRequest]) -> Iterator[list[ScoreRequest]]:
    """Runs of neighbours with one group; requests without a group stand alone."""
    for group, found in groupby(requests, key=lambda request: request.group):
        if group is None:
            yield from ([request] for request in found)
        else:
            yield list(found)
