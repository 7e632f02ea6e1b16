"""What an entry of config/models.yaml may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from grace.engines import registry
from grace.engines.spec import EngineSpec
from grace.settings.explain import nearest
from grace.settings.fields import (
    MAX_REPLICATIONS,
    BaseUrl,
    Billions,
    Devices,
    Gib,
    Kib,
    Length,
    ModelKey,
    Name,
    Revision,
    Source,
    Text,
    Variable,
)
from grace.settings.model_facts import ModelFacts
from grace.settings.reasoning import FORMER_END, ReasoningConfig, instead_of_end
from grace.settings.strict import Strict

if TYPE_CHECKING:
    EngineName = str
else:
    EngineName = Literal[registry.names()]


Dtype = Literal["float32", "bfloat16", "float16"]
#: How a model is asked: in its chat template, by a text that it continues, or in its chat template
#: with its reasoning told from its answers.
Prompting = Literal["chat", "completion", "reasoning"]
#: Whose prompts a model gets.
WordedAs = Literal["chat", "completion"]
#: Methods whose size Grace knows; vLLM has more.
QUANTISATIONS = (
    "awq", "awq_marlin", "bitsandbytes", "fp8", "gptq", "gptq_marlin", "mxfp4",
)  # fmt: skip


class PlacementEntry(Strict):
    """How a model runs on one kind of GPU. What is left out is as in the model's entry."""

    gpus: Devices | None = Field(None, description="GPUs of one pod or machine.")
    tensor_parallel_size: Devices | None = Field(
        None, description="GPUs that share every layer; null for all of them."
    )
    name: Source | None = Field(None, description="Hub id of weights in this quantisation.")
    revision: Revision | None = None
    dtype: Dtype | None = None
    quantization: Name | None = None
    max_model_len: Length | None = None
    cpu: Devices | None = Field(None, description="Cores of the pod.")
    memory_mib: int | None = Field(
        None, ge=1024, le=100_000_000, description="MiB of memory of the pod, without /dev/shm."
    )
    shm_mib: int | None = Field(
        None, ge=0, le=100_000_000, description="MiB of /dev/shm, on top of memory."
    )


class ModelEntry(Strict):
    """One entry of config/models.yaml."""

    name: Source = Field(description="Hub id, or a folder below the project's root.")
    engine: EngineName = "vllm"
    revision: Revision | None = Field(None, description="Hub commit or tag; null takes the newest.")
    dtype: Dtype = "bfloat16"
    quantization: Name | None = Field(None, description="For example `awq`; null for none.")
    max_model_len: Length = Field(4096, description="Prompt and answer together, in tokens.")
    gpus: int = Field(1, ge=0, le=1024, description="GPUs needed; 0 runs on a CPU.")
    tensor_parallel_size: Devices | None = Field(
        None, description="GPUs that share every layer; null for all of them."
    )
    placements: dict[Name, PlacementEntry] = Field(
        default_factory=dict, description="How it runs on other kinds of GPU, by tag."
    )
    replication_parallelism: int | None = Field(
        None,
        ge=1,
        le=MAX_REPLICATIONS,
        description="Replications at once on a cluster; null: 3 on one GPU, else 1.",
    )
    runtime_min: int | None = Field(
        None,
        ge=30,
        le=100_000,
        description="Minutes that one replication may take on a cluster; null: from the estimate.",
    )
    parameters_b: Billions | None = Field(
        None, description="Parameters in billions; says whether it fits a GPU."
    )
    active_parameters_b: Billions | None = Field(
        None, description="Of a mixture of experts, those that one token takes, in billions."
    )
    weights_gib: Gib | None = Field(
        None, description="GiB of weights, where they are published quantised."
    )
    cache_kib_per_token: Kib | None = Field(
        None, description="KiB of key-value cache for a token, at 16 bits a number."
    )
    base_url: BaseUrl | None = Field(None, description="`endpoint` only: the API's base URL.")
    api_key_env: Variable | None = Field(
        None, description="`endpoint` only: environment variable that holds the key, in capitals."
    )
    reports_as: Text | None = Field(
        None, description="`endpoint` only: the model's name in answers, where `name` is an alias."
    )
    tokenizer: Source | None = Field(None, description="Hub id or folder, where it is not `name`.")
    tokenizer_revision: Revision | None = Field(
        None, description="Hub commit or tag of `tokenizer`; null takes the newest."
    )
    adapter: Source | None = Field(
        None, description="Hub id or folder of a LoRA adapter that was trained on `name`."
    )
    adapter_revision: Revision | None = Field(
        None, description="Hub commit or tag of `adapter`; null takes the newest."
    )
    adapter_gib: Gib | None = Field(
        None, description="GiB of an `adapter` of the hub; a folder's is known."
    )
    batch_invariant: bool | None = Field(
        None, description="`vllm` on GPUs only: whether values may not depend on company; slower."
    )
    prompting: Prompting = Field(
        "chat",
        description="`completion` gives a base model texts to continue, with no template;"
        " `reasoning` tells traces from answers, as `reasoning` says.",
    )
    reasoning: ReasoningConfig | None = Field(
        None, description="With `prompting: reasoning` alone: how the model reasons."
    )
    about: ModelFacts | None = Field(None, description="What is known of the model: see below.")
    trained: SkipJsonSchema[ModelKey | None] = Field(
        None, description="The checkpoint of a recipe that it is. Grace sets it; no file may."
    )

    @model_validator(mode="before")
    @classmethod
    def _former_keys_are_told(cls, values: object) -> object:
        if isinstance(values, Mapping) and FORMER_END in values:
            raise ValueError(instead_of_end(values[FORMER_END]))
        return values

    @field_validator("placements", mode="before")
    @classmethod
    def _empty_is_as_the_entry(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return {} if value is None else value
        return {tag: {} if placed is None else placed for tag, placed in value.items()}

    @model_validator(mode="after")
    def _quantisation_has_a_size(self) -> Self:
        if self.engine_spec.is_remote:
            return self
        known = {None, *QUANTISATIONS, self.quantization if self.weights_gib else None}
        own = "give the size of its weights in `weights_gib`"
        elsewhere = "make an entry of its own, with `weights_gib`"
        for where, method, to_do in [
            ("", self.quantization, own),
            *(
                (f" in `placements.{tag}`", placed.quantization, elsewhere)
                for tag, placed in self.placements.items()
            ),
        ]:
            if method not in known:
                raise ValueError(
                    f"`quantization`{where} is '{method}'.{nearest(str(method), QUANTISATIONS)}"
                    f" Grace knows the sizes of {', '.join(QUANTISATIONS)}; for another method of"
                    f" vLLM's, {to_do}"
                )
        return self

    @model_validator(mode="after")
    def _gpus_are_shared_evenly(self) -> Self:
        own = ("", self.gpus, self.tensor_parallel_size)
        others = (
            (f" in `placements.{tag}`", placed.gpus or self.gpus, placed.tensor_parallel_size)
            for tag, placed in self.placements.items()
        )
        for where, gpus, size in [own, *others]:
            if size is not None and gpus % size:
                raise ValueError(
                    f"`tensor_parallel_size`{where} is {size}, but must divide the number of GPUs,"
                    f" which is {gpus}"
                )
        return self

    @model_validator(mode="after")
    def _keys_are_the_engines(self) -> Self:
        for key in self.engine_spec.required_keys:
            if getattr(self, key) is None:
                raise ValueError(f"engine `{self.engine}` needs `{key}`")
        for key, engines in registry.own_keys(ModelEntry.model_fields).items():
            if self.engine not in engines and getattr(self, key) is not None:
                raise ValueError(
                    f"engine `{self.engine}` does not use `{key}`, which is for"
                    f" `{'`, `'.join(engines)}` alone. Take it out, or correct `engine`"
                )
        return self

    @model_validator(mode="after")
    def _batch_invariance_is_possible(self) -> Self:
        if self.batch_invariant and self.gpus == 0:
            raise ValueError(
                "`batch_invariant` is vLLM's mode for GPUs (compute capability 8.0 or more), but"
                " this is to run on the CPU (`gpus: 0`). Take it out, or set `gpus`"
            )
        return self

    @model_validator(mode="after")
    def _adapter_has_its_base(self) -> Self:
        for key in ("adapter_revision", "adapter_gib"):
            if self.adapter is None and getattr(self, key) is not None:
                raise ValueError(f"`{key}` is of an `adapter`, which is missing. Take it out")
        for tag, placed in self.placements.items():
            if self.adapter is not None and placed.name not in (None, self.name):
                raise ValueError(
                    f"`placements.{tag}` names other weights, '{placed.name}', than those of `name`"
                    " that `adapter` was trained on. Take `name` out there, or the whole tag"
                )
        return self

    @model_validator(mode="after")
    def _prompting_is_possible(self) -> Self:
        if (self.reasoning is None) == (self.prompting == "reasoning"):
            raise ValueError(
                "`prompting: reasoning` and the block `reasoning`, which says how the model reasons"
                " (`reasoning: {format: think}`), belong together. Add the one that is missing, or"
                " take the other out"
            )
        if self.prompting == "chat":
            return self
        if self.prompting == "reasoning":
            return self._reasoning_is_possible()
        if self.engine_spec.is_remote:
            raise ValueError(
                f"engine `{self.engine}` makes a chat of whatever it is sent, so its models cannot"
                " be asked with `prompting: completion`. Use the engine `transformers` or `vllm`,"
                " or take `prompting` out"
            )
        return self

    def _reasoning_is_possible(self) -> Self:
        if self.engine_spec.is_remote and not self.thinks:
            raise ValueError(
                f"engine `{self.engine}` leaves the chat template to its server, so that"
                " `reasoning.thinking: false` would change nothing that can be checked. Use the"
                " engine `transformers` or `vllm`, or take it out"
            )
        return self

    @property
    def thinks(self) -> bool:
        """Whether the model is to reason before it answers, in its own format."""
        return self.reasoning is not None and self.reasoning.thinking

    @property
    def wording(self) -> WordedAs:
        """Whose prompts it gets: a reasoning model those of any chat."""
        return "completion" if self.prompting == "completion" else "chat"

    def most_tokens(self, answer: int) -> int:
        """The most tokens that it may sample where an answer has `answer`: its trace counts too."""
        budget = self.reasoning.max_tokens if self.reasoning and self.thinks else 0
        return budget + answer

    @model_validator(mode="after")
    def _is_what_is_known_of_it(self) -> Self:
        if self.about is not None and not self.engine_spec.is_remote:
            # Other weights than the entry's are another model.
            own = [one for one in self.placements.values() if one.name in (None, self.name)]
            longest = max(self.max_model_len, *(one.max_model_len or 0 for one in own), 0)
            if wrong := self.about.why_wrong(self.prompting, longest):
                raise ValueError(wrong)
        return self

    @property
    def engine_spec(self) -> EngineSpec:
        """What the model's engine says of itself."""
        return registry.spec(self.engine)


class Models(Strict):
    """config/models.yaml: model keys and their entries."""

    models: dict[ModelKey, ModelEntry]
