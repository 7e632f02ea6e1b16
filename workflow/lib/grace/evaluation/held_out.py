"""The evaluation of a checkpoint: held-out items, its answers to them, and the verdicts.

No item may be one that anything of the checkpoint was trained on; that is refused by digest, of the
instruction's words and of its type and values, whatever the wording.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grace.digests import digest
from grace.errors import ConfigError
from grace.evaluation.checkers import check
from grace.posttraining.instruction_bank import normalised, row_id
from grace.posttraining.instructions import EVALUATION, TRAIN
from grace.results.records import read_json
from grace.settings.training_configs import EvaluateStep

Row = Mapping[str, Any]
#: What an instruction could not be asked for, or got no answer for.
UNANSWERED = frozenset({"failed", "control token"})


def held_out_items(instructions: Sequence[Row], held_out: Iterable[str]) -> list[Row]:
    """The items of evaluation, in order.

    Raises `ConfigError` where one of them, or its type if that is held out, is trained on.
    """
    items = [row for row in instructions if row["split"] == EVALUATION]
    training = [row for row in instructions if row["split"] == TRAIN]
    kinds = set(held_out)
    for row in training:
        if row["type"] in kinds:
            raise ConfigError(
                f"instructions.json: '{row['instruction'][:200]}' is trained on, though its type"
                f" '{row['type']}' is held out. Delete the file and run again to have it rebuilt."
            )
    told = {_told(row) for row in training if row["values"]}
    refuse_trained(items, {row["row_id"] for row in training}, "instructions.json")
    for row in items:
        if _told(row) in told:
            raise _trained(row, "instructions.json, in other words")
    return items


def _told(row: Row) -> str:
    """Stands for an instruction whatever its wording."""
    return digest([row["type"], {name: normalised(text) for name, text in row["values"].items()}])


def _trained(row: Row, where: str) -> ConfigError:
    return ConfigError(
        f"Evaluation item {row['row_id']} ('{row['instruction'][:200]}') is trained on: it stands"
        f" in {where}. Nothing is evaluated on it. Take it out of the bank, or evaluate with"
        " the bank of the recipe that it was trained in."
    )


def refuse_trained(items: Iterable[Row], trained: set[str], where: str) -> None:
    """Raise `ConfigError` where an item is among instructions given by `row_id`."""
    for row in items:
        if row["row_id"] in trained or row_id(row["instruction"]) in trained:
            raise _trained(row, where)


def trained_rows(path: Path) -> set[str]:
    """The instructions in selection.json or pairs.json, by `row_id`."""
    values = read_json(path)
    return {row["row_id"] for name in ("rows", "pairs") for row in values.get(name, ())}


def verdicts(
    items: Iterable[Row], answers: Iterable[Row], config: EvaluateStep
) -> list[dict[str, Any]]:
    """A row for each item: answer, strict, loose and kind of failure, why it stopped, flags.

    The verdicts are None where there is no answer, or the bank does not say how its type is
    checked.
    """
    found = []
    for item, answer in zip(items, answers, strict=True):
        declared = config.checks.get(item["type"])
        verdict: dict[str, Any] = {"strict": None, "loose": None, "kind": None}
        if declared is not None and not UNANSWERED & set(answer["flags"]):
            truncated = answer["finish_reason"] != "stop"
            verdict = vars(
                check(
                    answer["answer"], item["instruction"], declared, item["values"],
                    truncated=truncated,
                )
            )  # fmt: skip
        found.append(
            {
                "item": item["row_id"],
                "type": item["type"],
                "held_out": item["type"] in config.held_out,
                "instruction": item["instruction"],
                "values": item["values"],
                "answer": answer["answer"],
                **verdict,
                "stop_reason": answer["finish_reason"],
                "flags": answer["flags"],
            }
        )
    return found
