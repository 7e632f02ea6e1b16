"""The instructions of a recipe: from its bank of types, and written by the base itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from grace import seeds
from grace.digests import digest
from grace.engines.base import Decoding, Generation, GenerationRequest
from grace.errors import ConfigError, EngineError
from grace.posttraining.instruction_bank import (
    INVENTED,
    BankItem,
    InstructionBank,
    items,
    normalised,
    row_id,
)
from grace.posttraining.overlap import ProtectedTexts
from grace.posttraining.token_rows import TrainingTokenizer
from grace.prompts.messages import context
from grace.settings.training_configs import InstructionsStep

logger = logging.getLogger(__name__)

TRAIN, EVALUATION = "train", "evaluation"
#: Examples before an instruction that the base writes, and how it writes one.
SHOTS = 5
DECODING = Decoding(temperature=1.0, top_p=1.0, max_tokens=64, stop=("\n",))
#: Rounds of asking; each asks for half as many again as are missing.
ROUNDS = 4
_FEWEST_WORDS, _MOST_WORDS = 3, 60

Ask = Callable[[Sequence[GenerationRequest]], Iterator[Generation]]


@dataclass
class Invented:
    """What the base wrote: instructions that can be used, and why others cannot, counted."""

    rows: list[BankItem] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    def drop(self, why: str) -> None:
        self.dropped[why] = self.dropped.get(why, 0) + 1


def in_turn(kinds: Sequence[Sequence[BankItem]], number: int) -> list[BankItem]:
    """The first items of each type in turn, so many in all, or fewer where there are fewer.

    Of those with the same words, from other values or another type, there is the first: an item
    that stood there twice would be asked once and counted twice.
    """
    found: dict[str, BankItem] = {}
    for place in range(max(map(len, kinds), default=0)):
        for kind in kinds:
            if place < len(kind):
                if len(found) == number:
                    return list(found.values())
                found.setdefault(row_id(kind[place].text), kind[place])
    return list(found.values())


def of_evaluation(bank: InstructionBank, config: InstructionsStep) -> list[BankItem]:
    """The items of evaluation, all types alike. Raises `ConfigError` where there are too few."""
    held = bank.held_out(config.held_out_types)
    kinds = [items(one, evaluation=True, held_out=one.name in held) for one in bank.types]
    found = in_turn(kinds, config.evaluation)
    if len(found) < config.evaluation:
        raise ConfigError(
            f"The bank of instructions has {len(found):,} for evaluation, but"
            f" `instructions.evaluation` is {config.evaluation:,}. Lower it, or give the types of"
            " the bank more values."
        )
    return found


def of_training(bank: InstructionBank, config: InstructionsStep, number: int) -> list[BankItem]:
    """So many items of the trained types. Raises `ConfigError` where there are too few."""
    held = bank.held_out(config.held_out_types)
    kinds = [
        items(one, evaluation=False, held_out=False) for one in bank.types if one.name not in held
    ]
    found = in_turn(kinds, number)
    if len(found) < number:
        raise ConfigError(
            f"The bank of instructions has {len(found):,} for training, but {number:,} are needed:"
            f" `instructions.train` is {config.train:,} and the base wrote the others. Lower it,"
            " or give the types of the bank more values."
        )
    return found


def _requests(
    bank: InstructionBank, tokenizer: TrainingTokenizer, seed: int, draws: Iterable[int]
) -> list[GenerationRequest]:
    """One for each draw, after examples of its own."""
    found = []
    for draw in draws:
        order = sorted(bank.invented, key=lambda text: digest([seed, draw, text]))
        examples = "".join(f"Task: {text}\n\n" for text in order[:SHOTS])
        asked = context(f"{examples}Task:")
        ids = tokenizer.render(asked).token_ids
        own = seeds.request_seed(seed, draw, INVENTED)
        found.append(GenerationRequest(str(draw), asked, ids, DECODING, own))
    return found


def invent(
    bank: InstructionBank,
    config: InstructionsStep,
    number: int,
    known: Iterable[BankItem],
    tokenizer: TrainingTokenizer,
    ask: Ask,
    protected: ProtectedTexts,
) -> Invented:
    """So many instructions by the base, or fewer. None is known already or shares 8-grams.

    `known` are all of the bank's, whatever their split.
    """
    found = Invented()
    seen = {normalised(one.text) for one in known} | {normalised(one) for one in bank.invented}
    failed: list[str | None] = []
    for _ in range(ROUNDS):
        missing = number - len(found.rows)
        if missing <= 0:
            break
        draws = range(found.asked, found.asked + missing + missing // 2 + 1)
        found.asked = draws.stop
        answers = {int(one.key): one for one in ask(_requests(bank, tokenizer, config.seed, draws))}
        failed += [answers[draw].error for draw in draws]
        for draw in draws:
            text = (answers[draw].text or "").strip()
            why = _why_not(text, answers[draw], seen, tokenizer, protected)
            if why is not None:
                found.drop(why)
            elif len(found.rows) < number:
                seen.add(normalised(text))
                found.rows.append(BankItem(text, INVENTED, {}))
    if failed and all(failed):
        raise EngineError(f"The base wrote no instruction: each request failed. {failed[0]}")
    if len(found.rows) < number:
        logger.warning(
            "the base wrote %d instructions of %d that can be used; the bank gives the others."
            " Left out: %s", len(found.rows), number, found.dropped,
        )  # fmt: skip
    return found


def _why_not(
    text: str,
    answer: Generation,
    seen: set[str],
    tokenizer: TrainingTokenizer,
    protected: ProtectedTexts,
) -> str | None:
    """Why an instruction that the base wrote is left out; None where it is not."""
    words = len(normalised(text).split())
    if answer.error is not None:
        return "failed"
    if answer.finish_reason != "stop":
        return "cut off"
    if not _FEWEST_WORDS <= words <= _MOST_WORDS or answer.replaced_characters:
        return "no instruction"
    if normalised(text) in seen:
        return "repeated"
    if protected.shared("", text) is not None:
        return "overlap"
    try:
        tokenizer.render(context(text))
    except EngineError:
        return "control token"
    return None


def records(
    training: Iterable[BankItem], evaluation: Iterable[BankItem]
) -> Iterator[dict[str, Any]]:
    """Rows of instructions.json: row_id, type, split, instruction, values."""
    for split, found in ((TRAIN, training), (EVALUATION, evaluation)):
        for item in found:
            yield item.record(split)
