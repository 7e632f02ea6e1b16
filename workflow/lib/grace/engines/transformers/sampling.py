"""Drawing the next token of every row of a batch.

A draw is a function of the row's own logits, decoding options and uniform number alone, so a row
draws the same token whatever else is in the batch. Tokens are taken in vocabulary order by
inverse CDF: rounding that differs between batches moves a boundary by about 1e-7 and reorders
nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def draw(logits: Tensor, temperatures: Tensor, top_ps: Tensor, uniforms: Tensor) -> Tensor:
    """One token per row.

    Args:
        logits: [rows, vocabulary], any float type, finite or -inf.
        temperatures: [rows]; 0 takes the most probable token.
        top_ps: [rows], in (0, 1]; below 1, only the most probable tokens that together reach it
            may be drawn.
        uniforms: [rows], float64 in [0, 1); not used where the temperature is 0.

    Returns:
        Token ids, [rows].
    """
    logits = logits.float()
    greedy = temperatures == 0
    if bool(greedy.all()):
        return logits.argmax(-1)
    scaled = logits / torch.where(greedy, 1.0, temperatures).float()[:, None]
    probabilities = torch.softmax(scaled, -1)
    if bool((top_ps < 1).any()):
        probabilities = _nucleus(probabilities, top_ps)
    cumulated = probabilities.double().cumsum(-1)
    total = cumulated[:, -1:]
    # Rounding must not carry the target up to the total: no token lies beyond it.
    target = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, total * 0))
    drawn = torch.searchsorted(cumulated, target, right=True)[:, 0]
    return torch.where(greedy, logits.argmax(-1), drawn)


def _nucleus(probabilities: Tensor, top_ps: Tensor) -> Tensor:
    """Zero outside each row's smallest set of most probable tokens that reaches its top_p."""
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.double().cumsum(-1) - ordered
    outside = (before >= top_ps[:, None]) & (top_ps < 1)[:, None]
    return probabilities.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), 0.0)
