"""Token forests through a model: every node is read once, under a mask that shows it its ancestors.

A forest's nodes stand in one row. A 4-D mask lets each node see itself and its ancestors, and
position ids are depths, so that a node's output is that of the plain text that leads to it. Layers
with a sliding window get a mask of their own; the window counts positions in the text, not columns.
transformers hands a 4-D mask, or a dict of them by kind of layer, to the layers as it is
(`masking_utils._preprocess_mask_arguments`, read in 5.23). That a model really heeds it is for
`grace.engines.transformers.scorer` to check.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import Cache, get_layer_types_and_kwargs

from grace.engines.transformers.padded_cache import RoomyLayer, widened
from grace.errors import EngineError
from grace.scoring.forest import Forest
from grace.scoring.packing import Batch, Shape, logits_of
from grace.scoring.subtrees import Pass

#: Heads assumed where a config does not say: many, so that memory is bounded all the same.
_HEADS = 64
#: Numbers that a CPU computes at once; attention over a multiple of them is a sixth faster.
_LANES = 8
#: Logits whose logarithms are taken at once: so many stay near a CPU, in memory that is used again.
_SLICE = 2**20


class PackedReader:
    """Reads forests with a model. Raises `EngineError` where its layers take no such masks."""

    def __init__(self, model: Any) -> None:
        self._model = model
        config = model.config.get_text_config(decoder=True)
        self._layers: int = config.num_hidden_layers
        #: Sliding window by kind of layer; None sees all.
        self.windows = _windows(config)
        self.shape = shape_of(model, len(self.windows))

    def read(self, forests: Sequence[Forest], batch: Batch) -> list[list[float]]:
        """The batch's members' reads: natural logs, in the order of each forest's `reads`."""
        rows = [
            _Row(index, range(forests[index].size), forests[index].stem) for index in batch.members
        ]
        with torch.inference_mode():
            columns = _Columns(_Fields(forests), rows, batch.stem, batch.tail, self._model.device)
            layers = self._new_layers() if len(batch.chunks) > 1 else None
            values = self._forward(columns, batch.chunks, layers)
        found = {index: [math.nan] * len(forests[index].reads) for index in batch.members}
        for (index, read), value in zip(columns.reads, values, strict=True):
            found[index][read] = value
        return list(found.values())

    def read_subtrees(
        self, forest: Forest, passes: Sequence[Pass]
    ) -> Iterator[tuple[list[int], list[float]]]:
        """Indices of a forest's reads with their natural logs, pass by pass."""
        return self._read_subtrees(_Fields([forest]), passes, None)

    def _read_subtrees(
        self, fields: _Fields, passes: Sequence[Pass], before: _Held | None
    ) -> Iterator[tuple[list[int], list[float]]]:
        device = self._model.device
        for one in passes:
            rows = [_Row(0, subtree.nodes, subtree.stem) for subtree in one.subtrees]
            with torch.inference_mode():
                seen, layers = None, None
                if before is not None:
                    parents = torch.tensor(one.parents, device=device)
                    new = one.stem + one.tail
                    blank = -(before.columns.fields.shape[2] + new) % _LANES
                    seen = F.pad(before.columns.fields[:, parents], (0, blank), value=-1)
                    layers = [layer.copied(parents, blank, new) for layer in before.layers]
                elif one.then or len(one.chunks) > 1:
                    layers = self._new_layers()
                columns = _Columns(fields, rows, one.stem, one.tail, device, seen)
                values = self._forward(columns, one.chunks, layers)
            yield [read for _, read in columns.reads], values
            if one.then:
                assert layers is not None
                yield from self._read_subtrees(fields, one.then, _Held(columns, layers))

    def _new_layers(self) -> list[RoomyLayer]:
        return [RoomyLayer() for _ in range(self._layers)]

    def _forward(
        self,
        columns: _Columns,
        chunks: Sequence[tuple[int, int]],
        layers: list[RoomyLayer] | None,
    ) -> list[float]:
        """The values of the columns' reads. Chunks count from the first new column."""
        values = columns.nothing_read()
        cache = None if layers is None else Cache(layers=[*layers])
        for first, last in chunks:
            start, stop = columns.seen + first, columns.seen + last
            masks = {
                kind: columns.mask(start, stop, window, self._model.dtype)
                for kind, window in self.windows.items()
            }
            # Models of one kind of layer take the mask itself.
            mask = masks if len(masks) > 1 else next(iter(masks.values()))
            kept = logits_of(start, stop, columns.seen + columns.stem)
            rows, places = columns.read_places(stop - kept, stop)
            with self._projecting(rows, places) as projected:
                logits = self._model(
                    input_ids=columns.tokens[:, start:stop],
                    attention_mask=mask,
                    position_ids=columns.depths[:, start:stop],
                    past_key_values=cache,
                    use_cache=cache is not None,
                    logits_to_keep=kept,
                ).logits
            columns.fill(
                values, logits[0] if projected else logits[rows, places], stop - kept, stop
            )
        found: list[float] = values.tolist()
        return found

    @contextmanager
    def _projecting(self, rows: Tensor, places: Tensor) -> Iterator[list[bool]]:
        """Lets the model project these places of its rows onto the vocabulary, and no others.

        Padding, and nodes that are only passed through, need no logits, which cost a model with a
        large vocabulary more than all its layers. What is given is empty, and afterwards not where
        the model's output embedding took part: then logits are [1, places, vocabulary].
        """
        projected: list[bool] = []
        head = self._model.get_output_embeddings()

        def chosen(_: Any, hidden: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if len(hidden) != 1 or hidden[0].dim() != 3:
                return None
            projected.append(True)
            return (hidden[0][rows, places][None],)

        if head is None or not len(rows):
            yield projected
            return
        handle = head.register_forward_pre_hook(chosen)
        try:
            yield projected
        finally:
            handle.remove()


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


def shape_of(model: Any, masks: int = 1) -> Shape:
    """What a pass of the model needs memory for."""
    config = model.config.get_text_config(decoder=True)
    heads: int = getattr(config, "num_attention_heads", None) or _HEADS
    pairs: int = getattr(config, "num_key_value_heads", None) or heads
    size: int = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(
        heads=heads,
        vocabulary=model.get_input_embeddings().num_embeddings,
        value_bytes=model.dtype.itemsize,
        masks=masks,
        cached=2 * int(config.num_hidden_layers) * pairs * size,
        layers=int(config.num_hidden_layers),
        width=heads * size,
        weights=sum(weight.numel() for weight in model.parameters()),
    )


class _Row(NamedTuple):
    """Nodes of a forest that stand in one row; the first `stem` of them need no logits."""

    forest: int
    nodes: Sequence[int]
    stem: int


class _Fields:
    """Tokens, depths, enters and leaves of some forests' nodes one after another: [4, nodes]."""

    def __init__(self, forests: Sequence[Forest]) -> None:
        self.forests = forests
        fields = [
            [value for forest in forests for value in getattr(forest, name)]
            for name in ("tokens", "depths", "enters", "leaves")
        ]
        # Padding is at position 0 and has an empty interval: no node sees it.
        self.values = torch.tensor(
            [[*field, pad] for field, pad in zip(fields, (0, 0, -1, -1), strict=True)]
        )
        self.starts = [0, *accumulate(forest.size for forest in forests)]

    def laid_out(self, rows: Sequence[_Row], stem: int, tail: int) -> Tensor:
        """The fields of the rows' nodes: [4, rows, stem + tail]."""
        padding = self.values.shape[1] - 1
        places = []
        for row in rows:
            start = self.starts[row.forest]
            nodes = [start + node for node in row.nodes] if start else list(row.nodes)
            filling = [padding] * (stem - row.stem)
            filled = [*nodes[: row.stem], *filling, *nodes[row.stem :]]
            places.append(filled + [padding] * (stem + tail - len(filled)))
        return self.values[:, torch.tensor(places)]


class _Held(NamedTuple):
    """What the passes that go on from a pass need of it."""

    columns: _Columns
    layers: list[RoomyLayer]


class _Columns:
    """Rows of nodes as tensors of [rows, columns]: stems, padding, tails, padding.

    `before` holds the fields of columns that have been read, [4, rows, columns]. `reads` are the
    forests and the indices in their `reads` of what can be read in the new columns.
    """

    def __init__(
        self,
        forests: _Fields,
        rows: Sequence[_Row],
        stem: int,
        tail: int,
        device: torch.device,
        before: Tensor | None = None,
    ) -> None:
        self._device = device
        self.stem = stem
        self.seen = 0 if before is None else before.shape[2]
        self.reads: list[tuple[int, int]] = []
        places: list[int] = []
        for number, row in enumerate(rows):
            forest = forests.forests[row.forest]
            for column, node in enumerate(row.nodes[row.stem :], self.seen + stem):
                for read in forest.reads_at[node]:
                    self.reads.append((row.forest, read))
                    places += (number, column, forest.reads[read].token)
        fields = forests.laid_out(rows, stem, tail).to(device)
        #: Tokens, depths, enters and leaves.
        self.fields = fields if before is None else torch.cat([before, fields], 2)
        self.tokens, self.depths, self._enters, self._leaves = self.fields
        self._reads = torch.tensor(places, dtype=torch.long, device=device).view(-1, 3).T

    def mask(self, start: int, stop: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """What is added to attention scores: [rows, 1, stop - start, stop], 0 or minus infinity.

        A column sees itself, also if it is padding: a softmax over nothing would be NaN.
        """
        enters = self._enters[:, start:stop, None]
        hidden = (self._enters[:, None, :stop] > enters) | (enters >= self._leaves[:, None, :stop])
        if window is not None:
            hidden |= self.depths[:, start:stop, None] - self.depths[:, None, :stop] >= window
        hidden.diagonal(start, 1, 2).fill_(False)
        mask = torch.zeros(hidden.shape, dtype=dtype, device=self._device)
        # The least number in place of infinity would do, but softmax is slower on it.
        return mask.masked_fill_(hidden, -torch.inf)[:, None]

    def nothing_read(self) -> Tensor:
        """A NaN for every read of all rows."""
        return torch.full((self._reads.shape[1],), torch.nan, dtype=torch.float64)

    def _within(self, first: int, stop: int) -> Tensor:
        """Which reads are after one of the columns from `first` to before `stop`."""
        return (self._reads[1] >= first) & (self._reads[1] < stop)

    def read_places(self, first: int, stop: int) -> tuple[Tensor, Tensor]:
        """Each place once that is read in these columns: rows, and columns counted from `first`."""
        rows, columns, _ = self._reads[:, self._within(first, stop)]
        width = stop - first
        places = torch.unique_consecutive(rows * width + columns - first)
        return places // width, places % width

    def fill(self, values: Tensor, logits: Tensor, first: int, stop: int) -> None:
        """Set the values that can be read in `logits`: those of `read_places`, [places, tokens]."""
        within = self._within(first, stop)
        rows, columns, tokens = self._reads[:, within]
        _, place = torch.unique_consecutive(
            rows * (stop - first) + columns - first, return_inverse=True
        )
        found = torch.empty(len(place), dtype=values.dtype)
        step = max(1, _SLICE // logits.shape[-1])
        for begin in range(0, len(logits), step):
            here = (place >= begin) & (place < begin + step)
            # The largest is taken off first, or a probability near 1 would lose its digits.
            logprobs = torch.log_softmax(widened(logits[begin : begin + step]), -1)
            found[here.cpu()] = logprobs[place[here] - begin, tokens[here]].cpu().to(values.dtype)
        values[within.cpu()] = found
