"""Pairs for preference optimisation: best and worst of a trained model's own candidates.

A part of the rejected answers is made instead (hard negatives): a refusal, an accepted answer to
another instruction, the chosen answer in a form that nobody asked for. Lengths are balanced, since
preference optimisation learns length where it can (Park et al. 2024,
https://arxiv.org/abs/2403.19159): neither answer of a pair is much longer, and in as many pairs the
longer one is chosen as is rejected.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grace.digests import digest
from grace.errors import ConfigError
from grace.posttraining.judging import ACCEPTED, verdict
from grace.posttraining.overlap import ProtectedTexts
from grace.posttraining.selection import shown
from grace.posttraining.token_rows import (
    TokenRow,
    TrainingTokenizer,
    UnusableTextError,
    refuse_too_long,
    token_row,
)
from grace.settings.training_configs import PairsStep

logger = logging.getLogger(__name__)
Row = Mapping[str, Any]
SAMPLED, REFUSAL, HALLUCINATION, FORMAT = "sampled", "refusal", "hallucination", "format"


@dataclass(frozen=True)
class PreferencePair:
    """Two answers to an instruction. `rejected_margin` is None of one that was made."""

    row_id: str
    type: str
    instruction: str
    chosen: str
    rejected: str
    kind: str
    chosen_margin: float
    rejected_margin: float | None
    chosen_ids: TokenRow = field(repr=False)
    rejected_ids: TokenRow = field(repr=False)

    @property
    def longer(self) -> int:
        """By how many tokens the chosen answer is longer."""
        return len(self.chosen_ids.answer) - len(self.rejected_ids.answer)

    def record(self) -> dict[str, Any]:
        """The pair as texts, with lengths in tokens."""
        names = ("row_id", "type", "instruction", "chosen", "rejected", "kind", "chosen_margin",
                 "rejected_margin")  # fmt: skip
        return {
            **{name: getattr(self, name) for name in names},
            "chosen_tokens": len(self.chosen_ids.answer),
            "rejected_tokens": len(self.rejected_ids.answer),
        }


@dataclass
class Paired:
    """Pairs, and what became of the instructions that have none."""

    pairs: list[PreferencePair]
    counts: dict[str, int]

    def report(self) -> dict[str, Any]:
        """pairs.json."""
        kinds = Counter(pair.kind for pair in self.pairs)
        return {
            "counts": self.counts,
            "kinds": dict(sorted(kinds.items())),
            "chosen_longer": sum(pair.longer > 0 for pair in self.pairs),
            "rejected_longer": sum(pair.longer < 0 for pair in self.pairs),
            "pairs": [pair.record() for pair in self.pairs],
        }


def make_pairs(
    rows: Sequence[Row], config: PairsStep, tokenizer: TrainingTokenizer, protected: ProtectedTexts
) -> Paired:
    """Pairs of judged candidates, one an instruction at most, `pairs.target` in all.

    Raises `ConfigError` where none is left or one is too long.
    """
    counts: Counter[str] = Counter()
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["row_id"], []).append(row)
    order = sorted(groups, key=lambda name: digest([config.seed, name]))
    best = {name: _best(groups[name], config, protected) for name in order}
    found: list[PreferencePair] = []
    for name in order:
        chosen = best[name]
        if chosen is None:
            counts["none accepted"] += 1
            continue
        kind = _kind(name, config)
        pair = _pair(name, chosen, kind, groups, best, config, tokenizer)
        if isinstance(pair, str):
            counts[pair] += 1
        else:
            found.append(pair)
    balanced = _balanced(found)
    counts["unbalanced lengths"] += len(found) - len(balanced)
    kept = balanced[: config.pairs.target]
    counts["beyond the target"] += len(balanced) - len(kept)
    counts["paired"] = len(kept)
    counts = Counter({name: number for name, number in counts.items() if number})
    if not kept:
        raise ConfigError(
            f"No pair is left: of {len(groups)} instructions {shown(counts)}. Lower"
            " `pairs.min_margin` or `judge.accept`, raise `pairs.candidates` or"
            " `pairs.max_length_ratio`, or look at what the checkpoint answers."
        )
    refuse_too_long(
        (
            (pair.row_id, max(len(pair.chosen_ids.input_ids), len(pair.rejected_ids.input_ids)))
            for pair in kept
        ),
        config.max_length,
    )
    return Paired(kept, dict(sorted(counts.items())))


def _best(rows: Sequence[Row], config: PairsStep, protected: ProtectedTexts) -> Row | None:
    accepted = [
        row
        for row in rows
        if verdict(row, config) == ACCEPTED and protected.shared("", row["answer"]) is None
    ]
    return max(accepted, key=lambda row: (_margin(row), row["answer_id"]), default=None)


def _margin(row: Row) -> float:
    return float(row["judgement"]["margin"])


def _kind(name: str, config: PairsStep) -> str:
    """What the rejected answer of an instruction is to be, drawn by the shares."""
    place = int(digest([config.seed, "kind", name])[:8], 16) / 2**32
    shares = config.pairs.hard_negatives
    for kind in (REFUSAL, HALLUCINATION, FORMAT):
        if place < getattr(shares, kind):
            return kind
        place -= getattr(shares, kind)
    return SAMPLED


def _rejected(
    name: str, chosen: Row, kind: str, groups: Mapping[str, Sequence[Row]],
    best: Mapping[str, Row | None], config: PairsStep,
) -> list[tuple[str, float | None]]:  # fmt: skip
    """Answers that may be rejected, with their margins, the first that fits is taken."""
    if kind == REFUSAL:
        made = list(config.refusals)
    elif kind == FORMAT:
        made = [form.replace("{answer}", chosen["answer"]) for form in config.wrong_formats]
    elif kind == HALLUCINATION:
        others = (row for other, row in best.items() if other != name and row is not None)
        made = [row["answer"] for row in others if row["type"] == chosen["type"]]
    else:
        judged = [
            row
            for row in groups[name]
            if not row["flags"]
            and row["judgement"]["option_mass"] >= config.min_option_mass
            and _margin(chosen) - _margin(row) >= config.pairs.min_margin
        ]
        return [(row["answer"], _margin(row)) for row in sorted(judged, key=_margin)]
    ordered = sorted(set(made), key=lambda text: digest([config.seed, name, text]))
    return [(text, None) for text in ordered]


def _pair(
    name: str, chosen: Row, kind: str, groups: Mapping[str, Sequence[Row]],
    best: Mapping[str, Row | None], config: PairsStep, tokenizer: TrainingTokenizer,
) -> PreferencePair | str:  # fmt: skip
    """The pair of an instruction, or why it has none."""
    try:
        mine = token_row(tokenizer, config.format, chosen["instruction"], chosen["answer"])
    except UnusableTextError as error:
        return error.flag
    why = "margin too small" if kind == SAMPLED else f"no {kind}"
    for text, margin in _rejected(name, chosen, kind, groups, best, config):
        if text == chosen["answer"]:
            continue
        try:
            theirs = token_row(tokenizer, config.format, chosen["instruction"], text)
        except UnusableTextError as error:
            why = error.flag
            continue
        lengths = sorted([len(mine.answer), len(theirs.answer)])
        if lengths[1] > config.pairs.max_length_ratio * lengths[0]:
            why = "lengths too different"
            continue
        return PreferencePair(
            name, chosen["type"], chosen["instruction"], chosen["answer"], text, kind,
            _margin(chosen), margin, mine, theirs,
        )  # fmt: skip
    return why


def _balanced(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    """Pairs of which the longer answer is chosen as often as rejected, in their order.

    Those left over are the ones in which the length differs most.
    """
    longer = [pair for pair in pairs if pair.longer > 0]
    shorter = [pair for pair in pairs if pair.longer < 0]
    most = min(len(longer), len(shorter))
    if not most:
        if longer or shorter:
            side = "chosen" if longer else "rejected"
            logger.warning(
                "in all %d pairs of unlike length the %s answer is the longer one, so that lengths"
                " cannot be balanced; DPO may learn length", len(longer) + len(shorter), side,
            )  # fmt: skip
        return list(pairs)
    left_out = {
        pair.row_id
        for side in (longer, shorter)
        for pair in sorted(side, key=lambda one: (abs(one.longer), one.row_id))[most:]
    }
    return [pair for pair in pairs if pair.row_id not in left_out]
