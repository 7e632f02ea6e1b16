"""How many times faster than one pass an option a way of reading can be, by what it must read.

Every token takes the model's layers, and every position that is read the projection onto the
vocabulary. A model of few parameters and many tokens spends most of its time on the latter, so that
tokens alone say too much. Attention, masks, softmax and Python are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from bench.workload import Workload
from grace.engines.base import ScoreRequest
from grace.experiments.measurement import plan_scoring
from grace.scoring.forest import build_trie


class Reading(NamedTuple):
    """Tokens that go through the layers, and positions that are projected."""

    tokens: int
    positions: int


def ceilings(model: Any, work: Workload) -> dict[str, dict[str, float]]:
    """By system: what it reads and may gain, in tokens and in multiplications."""
    asked = list(work.asking())
    requests = {
        ends: [work.request(one, grouped=True, ends=ends) for one in asked]
        for ends in (False, True)
    }
    once = _one_by_one(requests[False])
    trials = [{one.key for one in group} for _, group in groupby(asked, key=lambda one: one.trial)]
    found = {"naive": (once, once)}
    for ends, name in ((False, ""), (True, "-ends")):
        each = [_forest([one for one in requests[ends] if one.key in keys]) for keys in trials]
        found[f"per-trial{name}"] = (once, Reading(*map(sum, zip(*each, strict=True))))
        found[f"together{name}"] = (once, _forest(requests[ends]))
        plan = plan_scoring(
            work.study, work.items, work.tokenizer, terminators="all" if ends else "needed"
        )
        by_key = {one.key: one for one in plan.requests}
        every = [by_key[one.key] for trial in plan.trials for one in trial]
        found[f"whole{name}"] = (_one_by_one(every), _forest(plan.requests))
    found["packed"] = (
        once,
        Reading(found["per-trial-ends"][1].tokens, found["per-trial"][1].positions),
    )
    found["packed-lean"] = found["per-trial"]
    head = model.get_output_embeddings().weight.numel()
    layers = _multiplied(model, head)
    return {
        key: {
            "tokens": mine.tokens,
            "positions": mine.positions,
            "by_tokens": theirs.tokens / mine.tokens,
            "by_multiplications": (layers * theirs.tokens + head * theirs.positions)
            / (layers * mine.tokens + head * mine.positions),
        }
        for key, (theirs, mine) in found.items()
    }


def _one_by_one(requests: Sequence[ScoreRequest]) -> Reading:
    """A pass an option, up to the token before its last."""
    options = [(one, ids) for one in requests for ids in one.continuations]
    return Reading(
        sum(len(one.prompt_token_ids) + len(ids) - 1 for one, ids in options),
        sum(len(ids) for _, ids in options),
    )


def _forest(requests: Sequence[ScoreRequest]) -> Reading:
    forest = build_trie(requests)
    return Reading(forest.size, len({read.node for read in forest.reads}))


def _multiplied(model: Any, head: int) -> int:
    """Weights that a token is multiplied with in the layers; of experts, those it is sent to."""
    config = model.config.get_text_config(decoder=True)
    experts: int = getattr(config, "num_local_experts", 0) or 0
    used: int = getattr(config, "num_experts_per_tok", 0) or 0
    total = 0
    for name, weight in model.named_parameters():
        if "embed" in name or "lm_head" in name or weight.dim() < 2:
            continue
        total += (
            weight.numel() * used // experts if ".experts." in name and experts else weight.numel()
        )
    return total
