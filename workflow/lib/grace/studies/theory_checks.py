"""How well a fitted cognitive model describes the answers: as a whole, by condition, by item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from grace.studies.theory_likelihood import Array, Fitted, Predict

#: Draws of parameters and answers behind a posterior predictive p.
DRAWS = 300
#: Why a measured distribution has no likelihood of its own.
NOT_DRAWN = "distributions, not draws: they have no likelihood"


def goodness(fitted: Fitted, answers: Array, *, drawn: bool) -> dict[str, float | None]:
    """r² and RMSE over cells and outcomes, divergence in bits, and for draws the deviance from the
    saturated model, its degrees of freedom, and AIC. None where a number does not exist.
    """
    none: dict[str, float | None] = dict.fromkeys(
        ("r2", "rmse", "kl_bits", "deviance", "deviance_df", "aic")
    )
    if fitted.predicted is None:
        return none
    counts = answers.sum(axis=0)
    there = counts.sum(axis=1) > 0
    counts, predicted = counts[there], fitted.predicted[there]
    shares = counts / counts.sum(axis=1, keepdims=True)
    varied = shares.std() > 0 and predicted.std() > 0
    r = float(np.corrcoef(shares.ravel(), predicted.ravel())[0, 1]) if varied else None
    deviance = float(_deviances(counts, predicted).sum())
    found = {
        **none,
        "r2": None if r is None else r**2,
        "rmse": float(np.sqrt(np.mean((shares - predicted) ** 2))),
        "kl_bits": deviance / 2 / float(counts.sum()) / float(np.log(2)),
    }
    if drawn:
        free = sum(each.estimate is not None for each in fitted.parameters)
        free -= sum(
            all(each.estimate is not None for each in fitted.parameters if each.name in group)
            for group in fitted.space.simplices
        )
        likelihood = float((counts * np.log(np.maximum(predicted, 1e-12))).sum())
        found["deviance"] = deviance
        found["deviance_df"] = float(counts.shape[0] * (counts.shape[1] - 1) - free)
        found["aic"] = 2 * free - 2 * likelihood
    return found


def checked(
    predict: Predict,
    fitted: Fitted,
    answers: Array,
    conditions: Sequence[str],
    items: Sequence[str],
    *,
    drawn: bool,
) -> Iterator[dict[str, Any]]:
    """Posterior predictive checks: the discrepancy by condition and by item, in rows of the table.

    Draws: the deviance of the counts, and how often answers drawn from the fitted model deviate as
    much (p), parameters as uncertain as they are. Distributions: the root mean square difference,
    without p.
    """
    if fitted.predicted is None:
        return
    sizes = answers.sum(axis=2)
    by_condition = sizes.sum(axis=0)
    names = [
        *(("by condition", name) for name in ("all", *conditions)),
        *(("by item", name) for name in (("all", *items) if len(items) > 1 else ())),
    ]
    counted = [by_condition.sum(), *by_condition]
    if len(items) > 1:
        counted += [sizes.sum(), *sizes.sum(axis=1)]
    if not drawn:
        values = _differences(answers, fitted.predicted)[: len(names)]
        chances: list[float | None] = [None] * len(names)
    else:
        values = _discrepancies(answers, fitted.predicted)[: len(names)]
        chances = list(_predictive(predict, fitted, answers)[: len(names)])
    for (kind, name), value, chance, n in zip(names, values, chances, counted, strict=True):
        if n:
            yield {
                "parameter": kind, "condition": name, "estimate": float(value),
                "n": round(float(n)), "p": chance,
                "note": "" if drawn else "root mean square difference",
            }  # fmt: skip


def _predictive(predict: Predict, fitted: Fitted, answers: Array) -> Array:
    """The share of draws that deviate as much from their own parameters as the answers do."""
    rng = np.random.default_rng(2)
    sizes = answers.sum(axis=2).round().astype(int)
    seen = np.array(answers.round(), dtype=float)
    more = np.zeros(len(_discrepancies(seen, np.asarray(fitted.predicted))))
    for values in fitted.drawn(rng, DRAWS):
        chances = np.maximum(np.asarray(predict(values), dtype=float), 0)
        chances /= chances.sum(axis=1, keepdims=True)
        again = rng.multinomial(sizes, np.broadcast_to(chances, answers.shape)).astype(float)
        more += _discrepancies(again, chances) >= _discrepancies(seen, chances)
    return more / DRAWS


def _deviances(counts: Array, chances: Array) -> Array:
    """2 sum n ln(share / chance), by row."""
    sizes = np.maximum(counts.sum(axis=-1, keepdims=True), 1e-300)
    expected = np.maximum(sizes * chances, 1e-300)
    safe = np.where(counts > 0, counts, expected)
    found: Array = np.maximum(2 * (counts * np.log(safe / expected)).sum(axis=-1), 0)
    return found


def _discrepancies(answers: Array, chances: Array) -> Array:
    """Deviances: of all, of each condition over items, of all items, of each item."""
    by_condition = _deviances(answers.sum(axis=0), chances)
    by_item = _deviances(answers, np.broadcast_to(chances, answers.shape)).sum(axis=1)
    return np.concatenate([[by_condition.sum()], by_condition, [by_item.sum()], by_item])


def _differences(answers: Array, chances: Array) -> Array:
    """Root mean square differences of shares, in the same order."""

    def gaps(counts: Array) -> Array:
        sizes = counts.sum(axis=-1, keepdims=True)
        found: Array = np.where(sizes > 0, counts / np.where(sizes > 0, sizes, 1) - chances, np.nan)
        return found**2

    def root(values: Array) -> float:
        known = values[np.isfinite(values)]
        return float(np.sqrt(known.mean())) if len(known) else float("nan")

    condition, item = gaps(answers.sum(axis=0)), gaps(answers)
    return np.array(
        [root(condition), *map(root, condition), root(item), *map(root, item)], dtype=float
    )
