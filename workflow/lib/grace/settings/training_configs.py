"""Output configurations of the steps of training: of each, what can change its outputs' bytes.

As in `grace.settings.output_configs`; `grace.settings.training_outputs` makes them of a project.
`model` is what `Project.training_config` says of the model that is asked or trained.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from grace.posttraining.constitution import (
    AnsweredExample,
    JudgedExample,
    TrainedFormat,
)
from grace.posttraining.declared_checks import DeclaredCheck
from grace.settings.recipes import PairsConfig


class _StepConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InstructionsStep(_StepConfig):
    """`bank` is the digest of the bank's content; `model` None where the base writes none."""

    bank: str
    train: int
    evaluation: int
    held_out_types: int
    by_base: float
    seed: int
    model: dict[str, Any] | None


class AnswersStep(_StepConfig):
    """`draws` answers to each instruction, after these examples."""

    model: dict[str, Any]
    format: TrainedFormat
    examples: list[AnsweredExample]
    temperature: float
    top_p: float
    max_tokens: int
    draws: int
    seed: int


class JudgeStep(_StepConfig):
    """The question in both polarities, after these principles and examples."""

    model: dict[str, Any]
    principles: list[str]
    accepting: str
    rejecting: str
    examples: list[JudgedExample]


class Acceptance(_StepConfig):
    """When a judged answer is accepted."""

    accept: float
    min_option_mass: float


class SampleStep(Acceptance):
    """How many rows a person reads."""

    rows: int
    seed: int


class RowsStep(Acceptance):
    """What decides the token ids of rows."""

    model: dict[str, Any]
    format: TrainedFormat
    max_length: int


class PairsStep(RowsStep):
    """What decides the pairs."""

    pairs: PairsConfig
    refusals: list[str]
    wrong_formats: list[str]
    sample: int
    seed: int


class TrainStep(_StepConfig):
    """What decides an adapter beside its data and its parent."""

    stage: Literal["sft", "dpo"]
    model: dict[str, Any]
    hyperparameters: dict[str, Any]
    seed: int


class EvaluateStep(_StepConfig):
    """How `evaluated` answers, and how answers are checked, by type; None for what is not."""

    evaluated: str
    answers: AnswersStep
    checks: dict[str, DeclaredCheck | None]
    held_out: list[str]


class CompareStep(_StepConfig):
    """What is compared, and of which checkpoints there are curves, both in order."""

    evaluated: list[str]
    curves: list[str]


class ContaminationStep(_StepConfig):
    """Digests of the stimuli that training text is compared with, by study."""

    stimuli: dict[str, str]
