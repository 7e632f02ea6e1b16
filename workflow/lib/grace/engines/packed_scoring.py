"""Token forests through a model: every node is read once, under a mask that shows it its ancestors.

A forest's nodes stand in one row. A 4-D mask lets each node see itself and its ancestors, and
position ids are depths, so that a node's output is that of the plain text that leads to it. Layers
with a sliding window get a mask of their own; the window counts positions in the text, not columns.
transformers hands a 4-D mask, or a dict of them by kind of layer, to the layers as it is
(`masking_utils._preprocess_mask_arguments`, read in 5.23). That a model really heeds it is for
`grace.engines.scorer` to check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, get_layer_types_and_kwargs

from grace.engines.padded_cache import RoomyLayer, widened
from grace.errors import EngineError
from grace.scoring.forest import Forest
from grace.scoring.packing import Batch, Shape, Walk, logits_of

#: Heads assumed where a config does not say: many, so that memory is bounded all the same.
_HEADS = 64


class PackedReader:
    """Reads forests with a model. Raises `EngineError` where its layers take no such masks."""

    def __init__(self, model: Any) -> None:
        self._model = model
        config = model.config.get_text_config(decoder=True)
        self._layers: int = config.num_hidden_layers
        #: Sliding window by kind of layer; None sees all.
        self.windows = _windows(config)
        self.shape = Shape(
            heads=getattr(config, "num_attention_heads", None) or _HEADS,
            vocabulary=model.get_input_embeddings().num_embeddings,
            value_bytes=model.dtype.itemsize,
            masks=len(self.windows),
        )

    def read(self, forests: Sequence[Forest], batch: Batch) -> list[list[float]]:
        """The batch's members' reads: natural logs, in the order of each forest's `reads`."""
        members = [forests[index] for index in batch.members]
        with torch.inference_mode():
            columns = _Columns(members, batch, self._model.device)
            values = columns.nothing_read()
            cache = None
            if len(batch.chunks) > 1:
                cache = Cache(layers=[RoomyLayer() for _ in range(self._layers)])
            for start, stop in batch.chunks:
                logits = self._forward(columns, start, stop, batch.stem, cache)
                columns.fill(values, logits, stop - logits.shape[1])
            flat = values.tolist()
        ends = [0]
        for forest in members:
            ends.append(ends[-1] + len(forest.reads))
        return [flat[start:stop] for start, stop in pairwise(ends)]

    def walk(self, forests: Sequence[Forest], path: Walk) -> Iterator[tuple[int, list[float]]]:
        """Index and reads of each forest, in the order of the walk."""
        layers = [RoomyLayer() for _ in range(self._layers)]
        cache = Cache(layers=[*layers])
        for step in path.steps:
            forest = forests[step.forest]
            with torch.inference_mode():
                batch = Batch((0,), forest.stem, forest.tail, step.chunks)
                columns = _Columns([forest], batch, self._model.device)
                values = columns.nothing_read()
                for layer in layers:
                    layer.keep(step.chunks[0][0])
                for start, stop in step.chunks:
                    logits = self._forward(columns, start, stop, forest.stem, cache)
                    columns.fill(values, logits, stop - logits.shape[1])
            yield step.forest, values.tolist()

    def _forward(
        self, columns: _Columns, start: int, stop: int, stem: int, cache: Cache | None
    ) -> Tensor:
        """Logits after the last columns of a chunk: [rows, columns, vocabulary]."""
        masks = {
            kind: columns.mask(start, stop, window, self._model.dtype)
            for kind, window in self.windows.items()
        }
        # Models of one kind of layer take the mask itself.
        mask = masks if len(masks) > 1 else next(iter(masks.values()))
        output = self._model(
            input_ids=columns.tokens[:, start:stop],
            attention_mask=mask,
            position_ids=columns.depths[:, start:stop],
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=logits_of(start, stop, stem),
        )
        logits: Tensor = output.logits
        return logits


def _windows(config: Any) -> dict[str, int | None]:
    """Kinds of layers and their sliding windows, in tokens."""
    found: dict[str, int | None] = {}
    for kind, options in zip(*get_layer_types_and_kwargs(config), strict=True):
        if kind == "dummy":  # uses another layer's keys and values
            continue
        window = options.get("sliding_window")
        if (kind, window is None) not in (("full_attention", True), ("sliding_attention", False)):
            raise EngineError(f"there are layers of the kind {kind}")
        if found.setdefault(kind, window) != window:
            raise EngineError("its layers have sliding windows of several sizes")
    return found


class _Columns:
    """A batch's nodes as tensors of [rows, columns]: stems, padding, tails, padding."""

    def __init__(self, forests: Sequence[Forest], batch: Batch, device: torch.device) -> None:
        self._device = device
        shape = (4, len(forests), batch.stem + batch.tail)
        # Padding is at position 0 and has an empty interval: no node sees it.
        fields = torch.zeros(shape, dtype=torch.long)
        fields[2:] = -1
        reads: list[int] = []
        for row, forest in enumerate(forests):
            flat = (*forest.tokens, *forest.depths, *forest.enters, *forest.leaves)
            values = torch.tensor(flat).view(4, -1)
            fields[:, row, : forest.stem] = values[:, : forest.stem]
            fields[:, row, batch.stem : batch.stem + forest.tail] = values[:, forest.stem :]
            shift = batch.stem - forest.stem
            for node, token in forest.reads:
                reads += (row, node + shift, token)
        self.tokens, self.depths, self._enters, self._leaves = fields.to(device)
        self._reads = torch.tensor(reads, device=device).view(-1, 3).T

    def mask(self, start: int, stop: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """What is added to attention scores: [rows, 1, stop - start, stop], 0 or the least number.

        A column sees itself, also if it is padding: a row of nothing but the least number would
        be an average of all.
        """
        enters = self._enters[:, start:stop, None]
        hidden = (self._enters[:, None, :stop] > enters) | (enters >= self._leaves[:, None, :stop])
        if window is not None:
            hidden |= self.depths[:, start:stop, None] - self.depths[:, None, :stop] >= window
        hidden.diagonal(start, 1, 2).fill_(False)
        mask = torch.zeros(hidden.shape, dtype=dtype, device=self._device)
        return mask.masked_fill_(hidden, torch.finfo(dtype).min)[:, None]

    def nothing_read(self) -> Tensor:
        """A NaN for every read of all rows."""
        return torch.full((self._reads.shape[1],), torch.nan, dtype=torch.float64)

    def fill(self, values: Tensor, logits: Tensor, first: int) -> None:
        """Set the values that can be read in `logits`, whose first column is `first`."""
        rows, columns, tokens = self._reads
        within = (columns >= first) & (columns < first + logits.shape[1])
        # The largest is taken off first, or a probability near 1 would lose its digits.
        logits = widened(logits)
        logits = logits.sub_(logits.amax(-1, keepdim=True))
        totals = logits.exp().sum(-1).log()
        rows, columns, tokens = rows[within], columns[within] - first, tokens[within]
        read = logits[rows, columns, tokens] - totals[rows, columns]
        values[within.cpu()] = read.cpu().to(values.dtype)
