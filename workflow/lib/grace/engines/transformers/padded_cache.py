"""Rows of unequal length in one batch: a key-value cache that is padded on the left.

Rows can be dropped, repeated and merged at any time, which is what decoding without batch barriers
and scoring many continuations of one prompt need. The padding is on the left because sliding
windows count columns: a row's tokens must be neighbours. All layers keep every column, also those
with a sliding window, for which the model's mask hides what lies outside the window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

#: Free columns allocated beyond those in use, so that a new token does not copy the whole cache.
ROOM = 32


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values, as views of buffers with free columns on the right.

    `buffers` is None before the first `update`, and stays so in a layer that uses another one's.
    """

    def __init__(self, buffers: tuple[Tensor, Tensor] | None = None, columns: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.buffers = buffers
        if buffers is not None:
            self.lazy_initialization(*buffers)
            self.keys, self.values = self.used(columns)

    def used(self, columns: int) -> tuple[Tensor, Tensor]:
        """The first columns of keys and values: [rows, heads, columns, head size] each."""
        assert self.buffers is not None
        keys, values = self.buffers
        return keys[:, :, :columns], values[:, :, :columns]

    def copied(self, rows: Tensor, blank: int, new: int) -> RoomyLayer:
        """A layer that goes on from these rows of this one: int64, [rows].

        It begins with a copy of their columns and so many `blank` ones, and has room for `new`.
        """
        if self.buffers is None:
            return RoomyLayer()
        used = self.get_seq_length()
        copies = []
        for states in self.used(used):
            copy = states.new_empty(
                (len(rows), states.shape[1], used + blank + new, states.shape[-1])
            )
            copy[:, :, :used] = states if len(states) == 1 else states.index_select(0, rows)
            copy[:, :, used : used + blank] = 0  # masked, but still multiplied
            copies.append(copy)
        return RoomyLayer((copies[0], copies[1]), used + blank)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append columns, [rows, heads, new columns, head size] each; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used = self.get_seq_length()
        columns = used + key_states.shape[-2]
        if self.buffers is None:
            self.buffers = (_room(key_states, columns), _room(value_states, columns))
        elif self.buffers[0].shape[-2] < columns:
            old = self.used(used)
            self.buffers = (_room(key_states, columns), _room(value_states, columns))
            for states, grown in zip(old, self.buffers, strict=True):
                grown[:, :, :used] = states
        for states, buffer in zip((key_states, value_states), self.buffers, strict=True):
            buffer[:, :, used:columns] = states
        self.keys, self.values = self.used(columns)
        return self.keys, self.values


def _room(like: Tensor, columns: int, rows: int | None = None) -> Tensor:
    """Zeros for so many columns and `ROOM` more, with the heads and head size of `like`.

    Zeros, because masked columns are still multiplied (by 0): NaN there would leak.
    """
    rows = like.shape[0] if rows is None else rows
    return like.new_zeros((rows, like.shape[1], columns + ROOM, like.shape[-1]))


class PaddedRows:
    """Rows of a batch that the model has read so far.

    `mask` is [rows, columns], 1 where a column holds a token of the row and 0 where it is padding.
    """

    def __init__(self, model: Any, layers: list[RoomyLayer], mask: Tensor) -> None:
        self._model = model
        self._layers = layers
        self._cache = Cache(layers=[*layers])
        self.mask = mask

    @classmethod
    def read(cls, model: Any, prompts: Sequence[Sequence[int]]) -> tuple[PaddedRows, Tensor]:
        """Read non-empty prompts; returns one row each and the next tokens' logits.

        The logits are [rows, vocabulary].
        """
        columns = max(map(len, prompts))
        ids = torch.zeros((len(prompts), columns), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, columns - len(prompt) :] = torch.tensor(prompt)
            mask[row, columns - len(prompt) :] = 1
        ids, mask = ids.to(model.device), mask.to(model.device)
        count = model.config.get_text_config(decoder=True).num_hidden_layers
        rows = cls(model, [RoomyLayer() for _ in range(count)], mask)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return rows, rows._forward(ids, positions, logits_to_keep=1)[:, -1]

    def extend(self, ids: Tensor) -> Tensor:
        """Append the tokens `ids`, [rows, n], to the rows.

        Returns the logits of what follows each of them, [rows, n, vocabulary].
        """
        positions = self.mask.sum(-1, keepdim=True) + torch.arange(ids.shape[1], device=ids.device)
        self.mask = torch.cat([self.mask, torch.ones_like(ids)], -1)
        return self._forward(ids, positions, logits_to_keep=0)

    def _forward(self, ids: Tensor, positions: Tensor, logits_to_keep: int) -> Tensor:
        output = self._model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        )
        logits: Tensor = output.logits
        return logits

    def select(self, rows: Sequence[int]) -> PaddedRows:
        """A copy of these rows, in this order, without columns that are padding in all of them.

        A row may be named several times; at least one must be.
        """
        index = torch.tensor(rows, device=self.mask.device)
        mask = self.mask.index_select(0, index)
        first = int(mask.any(0).int().argmax())
        mask = mask[:, first:]
        layers = []
        for layer in self._layers:
            if layer.buffers is None:
                layers.append(RoomyLayer())
                continue
            keys, values = (buffer[:, :, first:].index_select(0, index) for buffer in layer.buffers)
            layers.append(RoomyLayer((keys, values), mask.shape[1]))
        return PaddedRows(self._model, layers, mask)

    @classmethod
    def merge(cls, parts: Sequence[PaddedRows]) -> PaddedRows:
        """The rows of all parts, in order, as one batch."""
        if len(parts) == 1:
            return parts[0]
        columns = max(part.mask.shape[1] for part in parts)
        mask = torch.cat(
            [
                torch.nn.functional.pad(part.mask, (columns - part.mask.shape[1], 0))
                for part in parts
            ]
        )
        layers = []
        for same in zip(*(part._layers for part in parts), strict=True):
            if same[0].buffers is None:
                layers.append(RoomyLayer())
                continue
            keys = _room(same[0].buffers[0], columns, len(mask))
            values = _room(same[0].buffers[1], columns, len(mask))
            start = 0
            for part, layer in zip(parts, same, strict=True):
                count, used = part.mask.shape
                for states, buffer in zip(layer.used(used), (keys, values), strict=True):
                    buffer[start : start + count, :, columns - used : columns] = states
                start += count
            layers.append(RoomyLayer((keys, values), columns))
        return cls(parts[0]._model, layers, mask)


def widened(logits: Tensor) -> Tensor:
    """The logits in float32, or wider if they are: what sums over a vocabulary need."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, shortest first.

    Padded to its longest member, a batch has at most `budget` tokens, or it has one member.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
