"""Experiment 2 without Grace's scorer: what a person who knows transformers would write.

Each of these ways projects onto the vocabulary only what it reads, and reads no end of the turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, get_layer_types_and_kwargs

from bench.workload import Answers, Asking, Workload


def every_position(model: Any, work: Workload) -> Answers:
    """One pass an option, logits of every token: transformers' default."""
    found: Answers = {}
    for asking, start, texts in _tokenised(work):
        found[asking.key] = [
            (tuple(ids), _sum_of(_forward(model, [ids])[0][start - 1 : -1], ids[start:]))
            for ids in texts
        ]
    return found


def naive(model: Any, work: Workload) -> Answers:
    """One pass an option over all tokens that it follows from, logits of its own alone."""
    found: Answers = {}
    for asking, start, texts in _tokenised(work):
        found[asking.key] = [
            (
                tuple(ids),
                _sum_of(
                    _forward(model, [ids[:-1]], logits_to_keep=len(ids) - start)[0], ids[start:]
                ),
            )
            for ids in texts
        ]
    return found


def one_batch(model: Any, work: Workload) -> Answers:
    """A query's options as the rows of one batch, padded on the right, where nothing looks."""
    found: Answers = {}
    for asking, start, texts in _tokenised(work):
        longest = max(map(len, texts)) - 1
        rows = [[*ids[:-1], *[0] * (longest + 1 - len(ids))] for ids in texts]
        logits = _forward(model, rows, logits_to_keep=longest - start + 1)
        found[asking.key] = _rows_answers(logits, texts, start)
    return found


def copies(model: Any, work: Workload) -> Answers:
    """A query's prompt once, then its options as rows on copies of the prompt's cache."""
    found: Answers = {}
    for asking, start, texts in _tokenised(work):
        cache = DynamicCache(config=model.config)
        first = _forward(model, [texts[0][:start]], past_key_values=cache, logits_to_keep=1)
        logits = first.expand(len(texts), -1, -1)
        longest = max(map(len, texts)) - 1
        if longest > start:
            cache.batch_repeat_interleave(len(texts))
            rows = [[*ids[start:-1], *[0] * (longest + 1 - len(ids))] for ids in texts]
            logits = torch.cat([logits, _forward(model, rows, past_key_values=cache)], 1)
        found[asking.key] = _rows_answers(logits, texts, start)
    return found


def packed(model: Any, work: Workload, *, whole: bool) -> Answers:
    """Prompts and options of a trial as one trie, in one pass under a mask that shows ancestors.

    `whole` reads all tokens of the trie; without, not an option's last: nothing is read after it.
    """
    found: Answers = {}
    for _, group in groupby(_tokenised(work), key=lambda one: one[0].trial):
        trial = list(group)
        tokens: list[int] = []
        parents: list[int] = []
        places: dict[tuple[int, int], int] = {}
        reads: dict[tuple[int, int], int] = {}
        wanted = []
        for asking, start, texts in trial:
            options = []
            for ids in texts:
                node, own = -1, []
                for depth, token in enumerate(ids):
                    if depth >= start:
                        own.append(reads.setdefault((node, token), len(reads)))
                        if not whole and depth == len(ids) - 1:
                            break
                    child = places.setdefault((node, token), len(tokens))
                    if child == len(tokens):
                        tokens.append(token)
                        parents.append(node)
                    node = child
                options.append((tuple(ids), own))
            wanted.append((asking.key, options))
        values = _read_trie(model, tokens, parents, list(reads))
        for key, options in wanted:
            found[key] = [(ids, sum(values[read] for read in own)) for ids, own in options]
    return found


def _read_trie(
    model: Any, tokens: list[int], parents: list[int], reads: Sequence[tuple[int, int]]
) -> list[float]:
    """The log-probability of each read, a token after a node."""
    visible = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    rows, depths = visible.numpy(), [0] * len(tokens)
    for node, parent in enumerate(parents):
        if parent >= 0:
            rows[node] = rows[parent]
            depths[node] = depths[parent] + 1
        rows[node, node] = True
    positions = torch.tensor(depths)
    masks = {}
    config = model.config.get_text_config(decoder=True)
    for kind, options in zip(*get_layer_types_and_kwargs(config), strict=True):
        if kind not in masks:
            seen = visible
            if window := options.get("sliding_window"):
                seen = visible & (positions[:, None] - positions < window)
            zeros = torch.zeros(seen.shape, dtype=model.dtype)
            masks[kind] = zeros.masked_fill_(~seen, -torch.inf)[None, None].to(model.device)
    nodes = sorted({node for node, _ in reads})
    place = {node: index for index, node in enumerate(nodes)}
    logits = _forward(
        model,
        [tokens],
        attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
        position_ids=positions[None].to(model.device),
        logits_to_keep=torch.tensor(nodes, device=model.device),
    )
    logprobs = torch.log_softmax(logits[0].float(), -1)
    at = torch.tensor([(place[node], token) for node, token in reads], device=model.device)
    values: list[float] = logprobs[at[:, 0], at[:, 1]].tolist()
    return values


def _tokenised(work: Workload) -> Iterator[tuple[Asking, int, list[list[int]]]]:
    """Every query with the length of its prompt and the ids of prompt and option, joined."""
    for asking in work.asking():
        prompt = work.render(asking.query)
        texts = work.tokenizer.tokenise_all([prompt.text + one for one in asking.query.options])
        yield asking, len(prompt.token_ids), texts


def _forward(model: Any, rows: Sequence[Sequence[int]], **more: Any) -> Tensor:
    """Logits, [rows, positions, vocabulary]."""
    ids = torch.tensor(rows, device=model.device)
    with torch.inference_mode():
        logits: Tensor = model(input_ids=ids, use_cache="past_key_values" in more, **more).logits
    return logits


def _sum_of(logits: Tensor, ids: Sequence[int]) -> float:
    """The log-probability of `ids`, one after each row of [ids, vocabulary]."""
    logprobs = torch.log_softmax(logits.float(), -1)
    return float(logprobs[range(len(ids)), ids].sum())


def _rows_answers(
    logits: Tensor, texts: Sequence[Sequence[int]], start: int
) -> list[tuple[tuple[int, ...], float]]:
    """Row by row: the option's tokens from its first position on."""
    logprobs = torch.log_softmax(logits.float(), -1)
    return [
        (tuple(ids), float(logprobs[row, range(len(ids) - start), ids[start:]].sum()))
        for row, ids in enumerate(texts)
    ]
