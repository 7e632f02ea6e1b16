"""The model card of a checkpoint: README.md beside its adapter, in the hub's form. Pure.

Mitchell et al. 2019 (https://arxiv.org/abs/1810.03993): what it is, what it was made of and how,
what is known of it, what it is for and what not. Texts that a model or a person wrote are shown so
that neither Markdown nor HTML takes them for a command.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from grace.foreign_text import for_log
from grace.posttraining.checkpoints import SFT, kind_of_stage, round_of

#: Rows of the data that are shown, and characters of each text.
SHOWN_ROWS, SHOWN_CHARACTERS = 3, 300
#: All that Markdown or HTML may take for a command within a cell or a point of a list.
_MARKS = re.compile(r"[\\`*_{}\[\]()#!|<>&~$^@]|:(?=//)|(?<=www)\.")


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Attributes:
        key: Of the model, such as `bootstrap.sft-1`.
        base: Name of the base, `commit` its commit on the hub, `weights` its files' digests.
        licence: Of the base, as the registry has it.
        record: grace_adapter.json.
        training: training.json.
        curve: The last row of training_curve.csv.
        data: Counts of the rows or pairs, and some of them.
        costs: The rows of costs.json that led to this checkpoint.
        rates: Rows of the evaluation's rates that are this checkpoint's; none before it.
        contaminated: Training texts that share eight words with evaluation or stimuli.
    """

    key: str
    stage: str
    seed: int
    base: str
    licence: str | None
    principles: Sequence[str]
    hyperparameters: Mapping[str, Any]
    record: Mapping[str, Any]
    digests: Mapping[str, str]
    training: Mapping[str, Any]
    curve: Mapping[str, str]
    data: Mapping[str, Any]
    costs: Sequence[Mapping[str, Any]]
    rates: Sequence[Mapping[str, str]] = ()


def literal_markdown(value: object, most: int = SHOWN_CHARACTERS) -> str:
    """A text on one line in which nothing is mark-up."""
    text = " ".join(for_log(str(value)).split())
    if len(text) > most:
        text = f"{text[:most]}… ({len(text)} characters)"
    return _MARKS.sub(lambda found: f"&#{ord(found[0])};", text)


def model_card(facts: CardFacts) -> str:
    """The card."""
    front = {
        "library_name": "peft",
        "base_model": facts.base,
        "pipeline_tag": "text-generation",
        "license": facts.licence or "unknown",
        "tags": ["lora", kind_of_stage(facts.stage), "grace"],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=False)}---",
        f"# {literal_markdown(facts.key)}",
        _what(facts),
        "## Intended use\n\n"
        "Research: to compare how a base model and its trained checkpoints answer the same"
        " questions. It is asked by completion, in the format that it was trained in"
        " (`constitution` below), and with nothing but its own base.",
        _limits(facts),
        "## Training data\n\n" + _data(facts),
        "## Training\n\n" + _table(("setting", "value"), sorted(_settings(facts).items())),
        "## Evaluation\n\n" + _evaluation(facts),
        "## Costs\n\n" + _costs(facts),
        "## Digests (SHA-256)\n\n" + _table(("file", "digest"), _digests(facts)),
    ]
    return "\n\n".join(parts) + "\n"


def _what(facts: CardFacts) -> str:
    parent = facts.record.get("parent")
    began = f"; it began with the adapter {parent[:16]}…" if parent else ""
    number = round_of(facts.stage)
    kind = "supervised fine-tuning" if facts.stage == SFT else "direct preference optimisation"
    kind += f", round {number} of pairs by the checkpoint before it," if number else ""
    told = "\n".join(f"- {literal_markdown(one)}" for one in facts.principles)
    return (
        f"A LoRA adapter over {literal_markdown(facts.base)}, trained by {kind} with training"
        f" seed {facts.seed}{began}. The base wrote, answered and judged all its data, after a"
        f" constitution of these principles:\n\n{told}"
    )


def _limits(facts: CardFacts) -> str:
    return (
        "## Limits\n\n"
        "- One training seed is one draw: say nothing of the method from this checkpoint alone.\n"
        "- Its answers were judged by its own base and by no person, but for the samples at the"
        " decision points. What the base misjudges is in it.\n"
        "- It was trained to follow instructions of a few verifiable types, and not to be safe,"
        " truthful or polite; nothing of that was measured here.\n"
        f"- The licence is that of its base ({literal_markdown(facts.licence or 'not known')}):"
        " it applies to this adapter, too."
    )


def _data(facts: CardFacts) -> str:
    counts = _table(("rows", "number"), sorted(facts.data.get("counts", {}).items()))
    found = facts.data.get("pairs") or facts.data.get("rows") or []
    names = ("instruction", "chosen", "rejected") if facts.data.get("pairs") else (
        "instruction", "answer")  # fmt: skip
    some = [[literal_markdown(row.get(name, "")) for name in names] for row in found[:SHOWN_ROWS]]
    text = f"{len(found):,} {'pairs' if facts.data.get('pairs') else 'rows'}.\n\n{counts}"
    return f"{text}\n\nThe first of them:\n\n{_cells(names, some)}" if some else text


def _settings(facts: CardFacts) -> dict[str, Any]:
    plan = facts.training.get("plan") or {}
    own = {name: plan[name] for name in ("method", "micro_batch") if name in plan}
    more = {
        f"last step's {name}": facts.curve[name]
        for name in ("step", "loss", "reward_margin", "reward_accuracy")
        if facts.curve.get(name)
    }
    seconds = facts.training.get("seconds")
    return {
        **facts.hyperparameters, **own, "training seed": facts.seed, **more,
        **({"seconds": seconds} if seconds is not None else {}),
    }  # fmt: skip


def _evaluation(facts: CardFacts) -> str:
    if not facts.rates:
        return "Not evaluated in this run."
    names = list(facts.rates[0])
    return _cells(names, [[literal_markdown(row[name]) for name in names] for row in facts.rates])


def _costs(facts: CardFacts) -> str:
    rows = [
        (
            str(row["step"]) + ("" if row["seed"] is None else f", seed {row['seed']}"),
            f"{row['hours']:.3f} hours, {row['gpu_hours']:.3f} GPU-hours"
            + ("" if row["usd"] is None else f", {row['usd']:.2f} USD")
            + (f" ({row['note']})" if row["note"] else ""),
        )
        for row in facts.costs
    ]
    return "Steps of all seeds are counted whole.\n\n" + _table(("step", "taken"), rows)


def _digests(facts: CardFacts) -> list[tuple[str, str]]:
    base = facts.record.get("base") or {}
    trained = facts.record.get("trained") or {}
    found = [(name, value) for name, value in facts.digests.items()]
    found += [(f"base: {name}", value) for name, value in (base.get("weights") or {}).items()]
    if base.get("commit"):
        found.append(("base: commit on the hub", base["commit"]))
    if facts.record.get("parent"):
        found.append(("adapter before it", facts.record["parent"]))
    return found + [(name, trained[name]) for name in ("data", "recipe") if name in trained]


def _table(head: Sequence[str], rows: Iterable[tuple[str, Any]]) -> str:
    return _cells(head, [[literal_markdown(cell) for cell in row] for row in rows])


def _cells(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [
        f"| {' | '.join(head)} |", f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]  # fmt: skip
    return "\n".join(lines)
