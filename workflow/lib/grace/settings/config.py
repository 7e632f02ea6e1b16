"""The configuration: what a user may write in config/config.yaml, `--config` and models.yaml.

Every model forbids unknown keys. `grace.settings.loading` reads what a user wrote into them. Blocks
and entries have modules of their own (`__all__`), and are to be had from here.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from grace.settings.extraction_config import DEEPSEEK, OWN_BODY, ExtractionConfig
from grace.settings.fields import (
    CsvPath,
    Folder,
    Name,
    Replications,
    Seconds,
    StudyEntry,
    Text,
)
from grace.settings.model_entry import (
    QUANTISATIONS,
    Dtype,
    EngineName,
    ModelEntry,
    Models,
    PlacementEntry,
    Prompting,
    WordedAs,
)
from grace.settings.recipes import Gate
from grace.settings.sections import (
    GenerationConfig,
    RequestsConfig,
    ReviewConfig,
    ScoringConfig,
    ServingConfig,
    Thresholds,
    TrainingConfig,
    as_list,
)
from grace.settings.strict import Strict

__all__ = [
    "DEEPSEEK", "DEFAULT_STUDIES", "OWN_BODY", "QUANTISATIONS", "SHORT_STIMULI", "Config", "Dtype",
    "EngineName", "ExperimentName", "ExtractionConfig", "GenerationConfig", "ModelEntry", "Models",
    "PlacementEntry", "Prompting", "RequestsConfig", "ReviewConfig", "ScoringConfig",
    "ServingConfig", "Thresholds", "TrainingConfig", "WordedAs",
]  # fmt: skip

ExperimentName = Literal["exp1", "exp2"]
#: What a run asks where the config does not say.
DEFAULT_STUDIES = ["study1", "study2"]
SHORT_STIMULI = "_csv"
"""The ending of `study1_csv` and its like, short forms of `stimuli.study1`."""


class Config(Strict):
    """Everything a user may set in config/config.yaml or with `--config`."""

    SHORT_FORMS: ClassVar[tuple[str, ...]] = ("<study>_csv",)

    models: Annotated[list[Name], BeforeValidator(as_list)] = Field(["pico"], min_length=1)
    replications: Replications = Field(
        2, description="A number of replications, or a list of their indices."
    )
    studies: Annotated[list[StudyEntry], BeforeValidator(as_list)] = Field(
        DEFAULT_STUDIES,
        min_length=1,
        description="Bundled studies by name, and folders of your own, such as `./my-study`.",
    )
    experiments: Annotated[list[ExperimentName], BeforeValidator(as_list)] = Field(
        ["exp1", "exp2"], min_length=1
    )
    variants: Annotated[list[Name], BeforeValidator(as_list)] = Field(
        ["seed"], min_length=1, description="Prompt wordings: folders of config/prompts."
    )
    stimuli: dict[str, CsvPath] = Field(
        default_factory=dict,
        description="Files of trials by study; otherwise what the study declares.",
    )
    name: Folder | None = Field(
        None, description="Folder of the study that `snakemake new_study` writes."
    )
    limit: int | None = Field(
        None, ge=1, le=1_000_000_000, description="Only the first so many trials."
    )
    results: Folder = Field("results", description="Folder that all results go to.")
    engine: EngineName | None = Field(
        None, description="Overrides every model's own engine when set."
    )
    gpus: Annotated[list[Name], BeforeValidator(as_list)] = Field(
        default_factory=list,
        description="GPU tags in order of preference; models take their placement on the first.",
    )
    cluster: Name = Field(
        "nrp", description="Entry of config/clusters.yaml that says what tags are."
    )
    base_seed: int = Field(
        1000, ge=0, le=2**53, description="Replication n starts from base_seed + n."
    )
    shuffle: bool = Field(True, description="Shuffle the trial order with the experiment's seed.")
    generation: GenerationConfig = GenerationConfig()
    requests: RequestsConfig = RequestsConfig()
    scoring: ScoringConfig = ScoringConfig()
    serving: ServingConfig = ServingConfig()
    extraction: ExtractionConfig = ExtractionConfig()
    review: ReviewConfig = ReviewConfig()
    training: TrainingConfig = TrainingConfig()
    gate: Gate | None = Field(
        None, description="The decision point that `snakemake approve` approves."
    )
    note: Text | None = Field(None, description="What `snakemake approve` notes beside it.")
    thresholds: Thresholds = Thresholds()
    on_invalid: Literal["fail", "warn"] = Field(
        "fail", description="What a failed threshold does to the run."
    )
    journal_dir: Folder = Field(
        ".grace",
        description="Folder of the journal of answers, and of servers' state.",
    )
    journal_timeout_s: Seconds = Field(
        300, description="Seconds that the journal's volume may take to save answers."
    )

    @field_validator("models", "studies", "experiments", "variants", "gpus")
    @classmethod
    def _distinct(cls, values: list[str]) -> list[str]:
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"names {', '.join(repeated)} more than once")
        return values

    @property
    def replication_indices(self) -> list[int]:
        """The replication numbers to run, from 0."""
        if isinstance(self.replications, int):
            return list(range(self.replications))
        return list(self.replications)
