"""Blocks of config/config.yaml: how answers are asked for, measured, served and judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from grace.settings import server_arguments
from grace.settings.fields import Seconds, SurfaceForms, Text
from grace.settings.strict import Strict


def as_list(value: object) -> object:
    """A single name may stand for a list of one, so that `--config models=pico` works."""
    return [value] if isinstance(value, str) else value


class GenerationConfig(Strict):
    """How experiment 1 samples its answers."""

    temperature: float = Field(0.7, ge=0, le=2, description="Sampling temperature; 0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; 1 switches it off.")
    max_tokens: int = Field(
        256,
        ge=1,
        le=1_000_000,
        description="Most tokens in one answer; in a chat of several turns, in each turn's.",
    )


class RequestsConfig(Strict):
    """How requests travel. None of these can change an answer."""

    concurrency: int = Field(64, ge=1, le=10_000, description="Requests in flight at once.")
    timeout_s: Seconds = Field(300, description="Seconds one request may take.")
    attempts: int = Field(4, ge=1, le=20, description="Tries per request, the first included.")
    backoff_s: float = Field(
        1.0,
        ge=0,
        le=3600,
        description="First wait between tries in seconds; doubles, with jitter.",
    )


class ScoringConfig(Strict):
    """What experiment 2 measures, and how much of it shares a forward pass.

    The limits of a pass concern the engine `transformers` and change answers by no more than the
    rounding of sums.
    """

    surface_forms: Annotated[SurfaceForms, BeforeValidator(as_list)] = Field(
        ["{}"],
        min_length=1,
        max_length=20,
        description="Ways of writing an option, `{}`, whose probabilities are summed.",
    )

    terminators: Literal["all", "needed"] = Field(
        "all",
        description="After which options the end of the turn is read: all of them, or where a query"
        " needs it; the latter leaves out the way of scoring `terminated`.",
    )
    reread: float = Field(
        0.01,
        ge=0.01,
        le=1,
        description="Share of experiment 2's queries read again; 20 at least of a model's run.",
    )
    max_batch_tokens: int = Field(
        8192, ge=1, le=100_000_000, description="Tokens in one forward pass, padding included."
    )
    max_batch_mib: int = Field(
        1024,
        ge=1,
        le=100_000_000,
        description="MiB that a pass may take: masks, attention, logits, copies of its cache.",
    )


class ServingConfig(Strict):
    """The process that holds a model for a run's jobs on this machine: of vLLM or transformers."""

    environment: Text = Field(
        ".venv-serve", description="Virtual environment that holds vLLM (`make serve-env`)."
    )
    idle_s: Seconds = Field(300, description="Seconds without a user after which it stops.")
    start_timeout_s: Seconds = Field(900, description="Seconds a start may take.")
    port: int | None = Field(None, ge=1, le=65535, description="Fixed port; null takes a free one.")
    extra_args: Annotated[list[str], AfterValidator(server_arguments.check)] = Field(
        default_factory=list, description="Further arguments for the vLLM server; no secrets."
    )


class ReviewConfig(Strict):
    """The sheet on which a person checks how answers were read (`snakemake review_sheet`)."""

    answers: int = Field(
        50, ge=1, le=10_000, description="Answers on it, spread over studies and models."
    )
    min_agreement: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Least share of checked answers read as the person reads them; a replication"
        " fails the check where its 95 % interval lies below.",
    )


class TrainingConfig(Strict):
    """How recipes are trained; config/recipes.yaml says what."""

    environment: Text = Field(
        ".venv-train", description="Virtual environment that trains adapters (`make train-env`)."
    )


class Thresholds(Strict):
    """Limits that validation holds results to."""

    max_failure_rate: float = Field(
        0.01, ge=0, le=1, description="Most requests that may fail, as a share."
    )
    min_schema_pass: float = Field(
        0.95, ge=0, le=1, description="Least share of answers that parse and are in range."
    )
    probability_tolerance: float = Field(
        0.01, ge=0, le=1, description="How far a distribution may sum from 1."
    )
    percentage_tolerance: float = Field(
        1.0, ge=0, le=100, description="How far four percentages may sum from 100."
    )
    min_option_mass: float = Field(
        0.5, ge=0, le=1, description="Below this summed option mass a query is flagged."
    )
    max_low_mass_rate: float = Field(
        0.05, ge=0, le=1, description="Most queries that may be flagged, as a share."
    )
    max_bounds_rate: float = Field(
        1.0, ge=0, le=1, description="Most queries of which only bounds are known, as a share."
    )
