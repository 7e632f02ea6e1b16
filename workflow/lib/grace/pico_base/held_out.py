"""Answers to the bank's held-out instructions, and whether they are right, without a workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from grace.pico_base.documents import BANK, CONSTITUTION, HELD_OUT_TYPES
from grace.pico_base.tasks import WordTask, task_of
from grace.places import located
from grace.posttraining.answers import answer_rows, drawn
from grace.posttraining.asking import AskedModel
from grace.posttraining.constitution import Constitution, read_constitution
from grace.posttraining.instruction_bank import read_bank
from grace.posttraining.instructions import of_evaluation, records
from grace.posttraining.token_rows import TrainingTokenizer
from grace.settings.config import ModelEntry, RequestsConfig
from grace.settings.training_configs import AnswersStep, InstructionsStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grace.engines.journaled import JournaledEngine

ROOT = Path(__file__).parents[4]
#: As a recipe would have them: examples before an instruction and a question, and most tokens.
SHOTS, JUDGE_SHOTS, MAX_TOKENS = 3, 4, 16
Row = Mapping[str, Any]


def held_out_rows(number: int) -> list[Row]:
    """The first instructions of evaluation, all types alike. Raises `ConfigError` if too few."""
    step = InstructionsStep(
        bank="", train=1, evaluation=number, held_out_types=HELD_OUT_TYPES, by_base=0, seed=1,
        model=None,
    )  # fmt: skip
    return list(records([], of_evaluation(read_bank(located(BANK, ROOT), HELD_OUT_TYPES), step)))


def constitution() -> Constitution:
    """The demo's."""
    return read_constitution(located(CONSTITUTION, ROOT), SHOTS, JUDGE_SHOTS)


def entry(folder: Path, adapter: Path | None = None) -> ModelEntry:
    """The entry of pico-base in a folder, with an adapter over it."""
    return ModelEntry(
        name=str(folder), engine="transformers", dtype="float32", prompting="completion",
        gpus=0, max_model_len=2048, adapter=str(adapter) if adapter else None,
    )  # fmt: skip


@contextmanager
def opened(model: ModelEntry) -> Iterator[AskedModel]:
    """A model in this process, on one thread and without a journal."""
    from grace.engines.transformers.model import TransformersEngine

    engine = TransformersEngine("pico-base", model, requests=RequestsConfig(), root=ROOT, threads=1)
    tokenizer = TrainingTokenizer("pico-base", model, ROOT)
    with engine:
        yield AskedModel(tokenizer, cast("JournaledEngine", engine), "held out")


def answered(
    asked: AskedModel,
    rows: Sequence[Row],
    *,
    shots: int = 0,
    temperature: float = 0.0,
    draw: int = 1,
) -> list[Row]:
    """The records of `answer_rows`, with `right` added to each."""
    told = constitution()
    config = AnswersStep(
        model={}, format=told.format, examples=drawn(told.examples, shots, 1),
        temperature=temperature, top_p=1.0, max_tokens=MAX_TOKENS, draws=1, seed=draw,
    )  # fmt: skip
    tasks = tasks_of(rows)
    return [
        {**row, "right": tasks[row["row_id"]].is_right(row["answer"])}
        for row in answer_rows(rows, config, asked)
    ]


def tasks_of(rows: Sequence[Row]) -> dict[str, WordTask]:
    """The tasks of rows of instructions, by `row_id`."""
    types = {one.name: one for one in read_bank(located(BANK, ROOT), HELD_OUT_TYPES).types}
    return {
        row["row_id"]: task_of(types[row["type"]], row["values"], row["instruction"])
        for row in rows
    }
