"""Output configurations: exactly that part of the configuration that can change an output's bytes.

Snakemake records each as a param, dumped to plain values, so that only what it changes is stale;
paths, speed and placement are in none. `grace.settings.outputs` makes them of a project.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from grace.settings.config import GenerationConfig, Thresholds


class _OutputConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlanConfig(_OutputConfig):
    """What a plan depends on.

    Every experiment of the replication depends on its plan, so only what makes all of them stale
    belongs here: no prompts, no decoding options. `model` is `Project.model_configs`'.
    """

    model: dict[str, Any]
    replication: int
    seeds: dict[str, int]
    shuffle: bool


class ExperimentConfig(_OutputConfig):
    """What either experiment's records depend on.

    `limit` is the number of trials, `stimuli` the digest of what they ask, `prompts` those of the
    templates, by variant, and `asks` that of the part of the study's declaration that asks.
    """

    model: dict[str, Any]
    study: str
    experiment: str
    replication: int
    base_seed: int
    seed_offset: int
    shuffle: bool
    limit: int
    stimuli: str
    prompts: dict[str, str]
    asks: str


class SamplingConfig(ExperimentConfig):
    """What experiment 1's records depend on."""

    decoding: GenerationConfig


class ThinkingConfig(_OutputConfig):
    """How a model thinks before it is measured: `ReasoningConfig`'s part of experiment 2."""

    traces: int
    max_tokens: int
    temperature: float
    top_p: float
    at_budget: str
    answer_lead: str


class MeasurementConfig(ExperimentConfig):
    """What experiment 2's records depend on; `thinking` where the model thinks before it.

    `terminators` is `scoring.terminators` of the config.
    """

    surface_forms: list[str]
    terminators: str = "all"
    thinking: ThinkingConfig | None = None

    @model_serializer(mode="wrap")
    def _dumped(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        if self.thinking is None:
            del found["thinking"]  # the others are what they were
        if self.terminators == "all":
            del found["terminators"]
        return found


class TableConfig(_OutputConfig):
    """What a study's raw table depends on, the records apart.

    `reads` is the digest of the part of the study's declaration that reads answers.
    """

    reads: str


class ExtractConfig(TableConfig):
    """What the readings of a model depend on: `ExtractionConfig.output_config`."""

    extraction: dict[str, Any]


class StructureConfig(ExtractConfig):
    """What parsing depends on."""

    percentage_tolerance: float


class DecodingConfig(_OutputConfig):
    """How experiment 1 draws a token."""

    temperature: float
    top_p: float


class ProbabilitiesConfig(TableConfig):
    """What the probability tables depend on, the records apart.

    `decoding` is None where no answers are sampled.
    """

    min_option_mass: float
    decoding: DecodingConfig | None


class ValidationConfig(_OutputConfig):
    """What validation depends on, the tables apart.

    `trials` is their number, by study, `reads` as in `TableConfig`; `answers_as` is how a server
    is to name the model; `decoding` is None where no answers are sampled. `min_agreement` is
    `review`'s.
    """

    answers_as: str | None
    decoding: GenerationConfig | None
    min_agreement: float
    thresholds: Thresholds
    trials: dict[str, int]
    reads: dict[str, str]
    variants: list[str]


class ReviewedConfig(_OutputConfig):
    """What agreement with review sheets depends on, sheets and tables apart: `reads` by study."""

    reads: dict[str, str]


class MergeConfig(TableConfig):
    """What merging depends on, the tables apart: what checks a study alone, too.

    `answers_as` is by model, `trials` the study's. `people_models` holds, where people or models of
    people stand among language models, their sources by name, and what their answers depend on.
    """

    people_models: dict[str, Any] = {}

    on_invalid: Literal["fail", "warn"]
    decoding: GenerationConfig | None
    answers_as: dict[str, str | None]
    thresholds: Thresholds
    trials: int
    variants: list[str]


class ReferenceConfig(_OutputConfig):
    """What a study's rows of people and of models of people depend on.

    The declaration's parts, the digests of the files that they name, and that of theory.py.
    """

    people: dict[str, Any] | None
    theory: list[dict[str, Any]]
    files: dict[str, str]
    code: str | None


class FitConfig(ReferenceConfig):
    """What fits of cognitive models to language models depend on, the tables apart.

    `temperature` is experiment 1's, None where no answers are sampled.
    """

    temperature: float | None


class AnalysisConfig(_OutputConfig):
    """What analyses and report depend on: how they compute, and what they say beside the numbers.

    The margin is in percentage points, within which a contrast counts as equivalent to none.
    `origins` is `Project.origins`; `generation` is empty where no answers are sampled;
    `people_models` are the sources of people and models of people among language models, by name.
    """

    seed: int = 1000
    equivalence_margin: int = 10
    origins: dict[str, str]
    generation: dict[str, Any]
    people_models: dict[str, str] = {}


class StudyAnalysisConfig(AnalysisConfig):
    """What one study's analysis depends on; `declaration` is JSON, as R reads it."""

    study: str
    declaration: str


class ReportConfig(AnalysisConfig):
    """What the report depends on; `studies` holds declarations as JSON, by name.

    `price` is that of a million tokens of the model at an API that reads answers, empty for none;
    `trainings` says by recipe which of the run's models are its base and checkpoints.
    """

    studies: dict[str, str]
    price: dict[str, float] = {}
    trainings: dict[str, dict[str, Any]]


class TrialBrowserConfig(_OutputConfig):
    """What the trial browser depends on, tables and records apart.

    `studies` holds by name what decides how trials, answers and people's distributions are read and
    called; `models` are the run's, and `origins` is `Project.origins`.
    """

    studies: dict[str, dict[str, Any]]
    models: list[str]
    origins: dict[str, str]


class PicoConfig(_OutputConfig):
    """What the bundled model depends on: settings, prompts, the simulated people's data."""

    settings: dict[str, Any]
    prompts: str
    people: dict[str, list[str]]
    reference: dict[str, str]
