"""config/recipes.yaml: how a base model is trained to follow instructions, step by step.

A recipe `r` and its training seed `t` give the model keys `r.sft-t` and `r.dpo-t`, and
`r.online1-t` of its first online round (`grace.posttraining.checkpoints`). docs/training.md says
what each step does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from grace.errors import ConfigError
from grace.settings.explain import explain
from grace.settings.fields import Name, text
from grace.settings.strict import Strict
from grace.settings.yaml_reader import read_yaml

Gate = Literal["sample", "sft", "pairs", "dpo"]
#: The decision points, in the order in which a run comes to them.
GATES: tuple[Gate, ...] = ("sample", "sft", "pairs", "dpo")
#: Rows that one recipe may have at a step.
_MOST = 10_000_000


def _bundled_file(value: str) -> str:
    """Path of a YAML file below the project's root."""
    text(value)
    if value.startswith(("/", "~")) or ".." in value.split("/") or not value.endswith(".yaml"):
        raise ValueError("must be the path of a .yaml file below the project's root, without '..'")
    return value


BundledFile = Annotated[str, AfterValidator(_bundled_file)]
Share = Annotated[float, Field(ge=0, le=1)]


class InstructionsConfig(Strict):
    """Which instructions the model is trained on, and which are kept for evaluation."""

    bank: BundledFile = Field(
        "resources/instructions/verifiable.yaml",
        description="Types of instructions: wordings with values to put into them.",
    )
    train: int = Field(ge=1, le=_MOST, description="Instructions of the training split.")
    evaluation: int = Field(
        1000, ge=1, le=_MOST, description="Instructions kept for evaluation, all types alike."
    )
    sample: int = Field(100, ge=1, le=10_000, description="Rows of each page at a decision point.")
    held_out_types: int = Field(
        3, ge=0, le=100, description="Types of the bank that are never trained on."
    )
    by_base: float = Field(
        0.25, ge=0, le=0.9, description="Share of `train` that the base writes itself."
    )
    draw: int = Field(1, ge=0, le=2**31 - 1, description="Seed of all draws of data.")


class AnswersConfig(Strict):
    """How the base answers instructions, and the trained model its own candidates."""

    shots: int = Field(3, ge=0, le=32, description="Examples before each instruction.")
    temperature: float = Field(0.7, ge=0, le=2, description="Sampling temperature.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; 1 switches it off.")
    max_tokens: int = Field(256, ge=1, le=100_000, description="Most tokens of an answer.")


class JudgeConfig(Strict):
    """How the base judges answers: margin = mean of P(accept) - P(reject), from -1 to 1."""

    shots: int = Field(4, ge=0, le=32, description="Examples before each question.")
    accept: float = Field(0.6, ge=-1, le=1, description="Least margin of an answer to train on.")
    min_option_mass: Share = Field(
        0.8, description="Least probability of the options together; below it nothing was judged."
    )


class SftConfig(Strict):
    """Supervised fine-tuning: LoRA on the accepted answers."""

    method: Literal["lora", "qlora", "auto"] = Field(
        "lora", description="`auto`: lora where the planner says that it fits, else qlora."
    )
    rank: int = Field(16, ge=1, le=512, description="Rank of the adapter, in all stages.")
    alpha: float = Field(32, gt=0, le=1e6, description="Scale of the adapter: alpha over rank.")
    epochs: float = Field(2, gt=0, le=1000, description="Passes over the data.")
    lr: float = Field(1.0e-4, gt=0, le=1, description="Highest learning rate.")
    batch: int = Field(16, ge=1, le=65_536, description="Rows of one update.")
    warmup: Share = Field(0.03, description="Share of the updates in which `lr` rises.")
    max_length: int = Field(
        1024, ge=16, le=1_000_000, description="Most tokens of a row; a longer one is an error."
    )


class HardNegatives(Strict):
    """Shares of pairs whose rejected answer is made, not sampled."""

    refusal: Share = Field(0.1, description="A refusal of the constitution's.")
    hallucination: Share = Field(0.1, description="An accepted answer to another instruction.")
    format: Share = Field(0.1, description="The chosen answer in a form that nobody asked for.")

    @model_validator(mode="after")
    def _leave_some_for_candidates(self) -> Self:
        if self.refusal + self.hallucination + self.format > 0.9:
            raise ValueError("must leave a tenth of the pairs to sampled answers")
        return self


class PairsConfig(Strict):
    """Which answers of the trained model are preferred to which."""

    candidates: int = Field(4, ge=2, le=64, description="Answers sampled to each instruction.")
    min_margin: float = Field(
        0.4, ge=0, le=2, description="Least difference of the margins of a pair."
    )
    hard_negatives: HardNegatives = HardNegatives()
    target: int = Field(15_000, ge=1, le=_MOST, description="Most pairs.")
    max_length_ratio: float = Field(
        1.5, ge=1, le=100, description="Most that one answer of a pair is longer, in tokens."
    )


class DpoConfig(Strict):
    """Direct preference optimisation (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290)."""

    beta: float = Field(0.2, gt=0, le=100, description="How far the model may leave its reference.")
    lr: float = Field(5.0e-6, gt=0, le=1, description="Highest learning rate.")
    epochs: float = Field(1, gt=0, le=1000, description="Passes over the pairs.")
    batch: int = Field(16, ge=1, le=65_536, description="Pairs of one update.")
    warmup: Share = Field(0.03, description="Share of the updates in which `lr` rises.")


class BudgetConfig(Strict):
    """What a recipe may take, over all its seeds: more is not started (docs/training.md)."""

    gpu_hours: float | None = Field(None, gt=0, le=1e6, description="Most hours of GPUs.")
    usd: float | None = Field(None, gt=0, le=1e9, description="Most money; needs `usd_per_hour`.")
    usd_per_hour: float | None = Field(
        None, gt=0, le=1e6, description="Price of an hour of one GPU, in US dollars."
    )

    @model_validator(mode="after")
    def _money_has_a_price(self) -> Self:
        if self.usd is not None and self.usd_per_hour is None:
            raise ValueError("`usd` needs `usd_per_hour`, what an hour of one GPU costs")
        return self


class Recipe(Strict):
    """One entry of config/recipes.yaml."""

    base: Name = Field(
        description="Key of a base model in models.yaml, or of another recipe's checkpoint."
    )
    constitution: BundledFile = Field(
        "resources/constitutions/stage1.yaml",
        description="Principles, examples, the judge's questions, the trained format.",
    )
    seeds: list[Annotated[int, Field(ge=0, le=2**31 - 1)]] = Field(
        [1], min_length=1, max_length=100, description="Training seeds; each is a checkpoint."
    )
    instructions: InstructionsConfig
    answers: AnswersConfig = AnswersConfig()
    judge: JudgeConfig = JudgeConfig()
    sft: SftConfig = SftConfig()
    pairs: PairsConfig = PairsConfig()
    dpo: DpoConfig = DpoConfig()
    online_rounds: int = Field(
        0,
        ge=0,
        le=100,
        description="Rounds of DPO after the first, on pairs by the last checkpoint; each is a"
        " checkpoint of its own.",
    )
    budget: BudgetConfig = BudgetConfig()
    approve: list[Gate] = Field(
        list(GATES), max_length=len(GATES), description="Decision points; `[]` switches them off."
    )

    @field_validator("seeds", "approve")
    @classmethod
    def _distinct(cls, values: list[Any]) -> list[Any]:
        if len(set(values)) < len(values):
            raise ValueError("names one of them more than once")
        return values

    def hyperparameters(self, kind: Literal["sft", "dpo"]) -> dict[str, Any]:
        """What a training is told: rank, alpha, method and length are SFT's for both kinds."""
        shared = self.sft.model_dump(include={"method", "rank", "alpha", "max_length"})
        own = self.sft if kind == "sft" else self.dpo
        return {**shared, **own.model_dump()}

    @model_validator(mode="after")
    def _an_answer_fits(self) -> Self:
        if self.answers.max_tokens >= self.sft.max_length:
            raise ValueError(
                f"`answers.max_tokens` is {self.answers.max_tokens}, but instruction and answer"
                f" together have at most `sft.max_length` tokens, {self.sft.max_length}. Lower the"
                " one or raise the other"
            )
        return self


RecipeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,49}$")]
"""Of a recipe: a folder, and the first part of model keys."""


class Recipes(Strict):
    """config/recipes.yaml: names and recipes."""

    recipes: dict[RecipeName, Recipe]


def load_recipes(path: Path) -> dict[str, Recipe]:
    """The recipes in a file; none where there is no such file. Raises `ConfigError`."""
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        return {}
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: must map names of recipes to recipes; see docs/training.md.")
    try:
        return Recipes.model_validate({"recipes": values}).recipes
    except ValidationError as error:
        raise explain(str(path), error, Recipes, wrapped=True) from None
