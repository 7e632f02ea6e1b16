"""How much each step of a recipe asks and trains: from its texts, and from what steps before made.

Before answers are known they are taken to be as long as they may be, and all of them to be trained
on, so that a budget is held against what a step takes at most. Files may be anybody's: what is not
as the steps write it counts as not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from grace.errors import GraceError
from grace.forecast.throughput import Work
from grace.forecast.tokens import StandInTokenizer
from grace.forecast.training_throughput import TrainingWork
from grace.forecast.workload import evenly
from grace.results.records import read_json, read_records
from grace.training.settings import Kind

#: Tokens of an instruction that the base writes, whatever it was allowed.
INVENTED_TOKENS = 20
#: Requests for an instruction by the base that can be used.
INVENTED_REQUESTS = 1.5
#: Tokens that a server computes again of a prompt it knows: half of a block of its cache, and one.
_AGAIN = 9
#: Texts that are counted.
_SOME = 200


@dataclass(frozen=True)
class RecipeTexts:
    """Mean tokens of a recipe's texts, as the stand-in counts them.

    Attributes:
        instruction: An instruction in the trained format, without its answer.
        shown: The examples before it, when the base answers.
        judge: Principles and examples before a judge's question.
        question: The rest of the question, without instruction and answer.
    """

    instruction: float
    shown: float
    judge: float
    question: float


@dataclass(frozen=True)
class Known:
    """What the files of a recipe say; None where they do not.

    Attributes:
        answer, candidate: Mean tokens of an answer, and of a candidate.
        kept: Share of the instructions whose answer is trained on.
        row: Mean ids of a row of SFT.
        paired: Share of the instructions that have a pair.
        pair: Mean ids of a pair, both answers with their prompts.
    """

    answer: float | None = None
    candidate: float | None = None
    kept: float | None = None
    row: float | None = None
    paired: float | None = None
    pair: float | None = None


def known_of(folder: Path, seed: int | None, texts: RecipeTexts) -> Known:
    """What a recipe's folder says, of a training seed or, where it has nothing yet, of another."""
    own = [folder / f"seed-{seed}"] if seed is not None else []
    seeds = [*own, *sorted(path for path in folder.glob("seed-*") if path not in own)]
    selection = _first(_selection, [folder / "selection.json"])
    pairs = _first(_pairs, [path / "pairs.json" for path in seeds])
    return Known(
        answer=_first(_answers, [folder / "answers.json"]),
        candidate=_first(_answers, [path / "candidates.json" for path in seeds]),
        kept=selection[0] if selection else None,
        row=selection[1] if selection else None,
        paired=pairs[0] if pairs else None,
        pair=pairs[1] + 2 * texts.instruction if pairs else None,
    )


def _first(read: Callable[[Path], Any], paths: Iterable[Path]) -> Any:
    """What the first file says that says it; None where none does."""
    for path in paths:
        try:
            if path.is_file():
                return read(path)
        except (GraceError, OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    return None


def _answers(path: Path) -> float:
    """Mean tokens of the answers in a file of records, by the stand-in."""
    count = StandInTokenizer().tokenise
    texts = [str(row["answer"]) for row in read_records(path)]
    return fmean(len(count(text)) + 1 for text in evenly(texts, _SOME))


def _selection(path: Path) -> tuple[float, float]:
    values: Mapping[str, Any] = read_json(path)
    rows = len(values["rows"])
    return rows / sum(map(int, values["counts"].values())), int(values["tokens"]) / rows


def _pairs(path: Path) -> tuple[float, float]:
    """Pairs to an instruction, and tokens of a pair's answers."""
    values: Mapping[str, Any] = read_json(path)
    counts = {str(name): int(number) for name, number in values["counts"].items()}
    possible = counts["paired"] + counts.get("beyond the target", 0)
    lengths = [int(one["chosen_tokens"]) + int(one["rejected_tokens"]) for one in values["pairs"]]
    return possible / sum(counts.values()), fmean(lengths)


@dataclass(frozen=True)
class RecipeNumbers:
    """What of a recipe decides how much there is to do, as plain values.

    `shots_of_base` are examples before an instruction that the base writes, `forms` the ways in
    which each answer is judged.
    """

    train: int
    by_base: float
    shots_of_base: int
    forms: int
    evaluation: int
    max_tokens: int
    candidates: int
    target: int
    sft_epochs: float
    dpo_epochs: float


def asked_work(
    step: str, numbers: RecipeNumbers, texts: RecipeTexts, known: Known, *, served: bool
) -> Work:
    """What a step asks of the base, or of the SFT checkpoint.

    A server keeps what prompts have in common; in process each prompt is read whole.
    """
    if step == "instructions":
        lines = round(numbers.train * numbers.by_base * INVENTED_REQUESTS)
        prompt = (numbers.shots_of_base + 1) * INVENTED_TOKENS
        return _sampled(lines, 0.0, prompt, INVENTED_TOKENS, served)
    answer = known.answer if known.answer is not None else float(numbers.max_tokens)
    if step == "answers":
        return _sampled(numbers.train, texts.shown, texts.instruction, answer, served)
    if step.startswith("evaluate"):
        return _sampled(numbers.evaluation, 0.0, texts.instruction, answer, served)
    drawn = numbers.train * numbers.candidates
    candidate = known.candidate if known.candidate is not None else answer
    if step == "candidates":
        # Those of an instruction have one prompt, which in process is read for each all the same.
        return _sampled(drawn, 0.0, texts.instruction, candidate, served)
    of, length = (numbers.train, answer) if step == "judge" else (drawn, candidate)
    queries = numbers.forms * of
    own = texts.question + texts.instruction + length
    read = own + (_AGAIN if served else texts.judge)
    # Where two words begin differently, their probabilities are read at one place.
    return Work(
        requests=queries, read_tokens=round(queries * read), context=texts.judge + own,
        reads=queries, estimated=True,
    )  # fmt: skip


def _sampled(requests: int, shared: float, prompt: float, length: float, served: bool) -> Work:
    read = prompt + (min(shared, _AGAIN) if served else shared)
    return Work(
        requests=requests, read_tokens=round(requests * read),
        context=shared + prompt + length / 2, reads=0, new_tokens=requests * length,
        estimated=True,
    )  # fmt: skip


def training_work(
    kind: Kind, numbers: RecipeNumbers, texts: RecipeTexts, known: Known, micro_batch: int
) -> TrainingWork:
    """What a training reads."""
    answer = known.answer if known.answer is not None else float(numbers.max_tokens)
    if kind == "sft":
        rows = numbers.train * (known.kept if known.kept is not None else 1.0) * numbers.sft_epochs
        length = known.row if known.row is not None else texts.instruction + answer + 1
        return TrainingWork(kind, rows, rows * length, micro_batch)
    share = known.paired if known.paired is not None else 1.0
    rows = min(numbers.train * share, numbers.target) * numbers.dpo_epochs
    candidate = known.candidate if known.candidate is not None else answer
    both = known.pair if known.pair is not None else 2 * (texts.instruction + candidate + 1)
    return TrainingWork(kind, rows, rows * both, micro_batch)
