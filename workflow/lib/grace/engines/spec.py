"""What an engine says of itself: the class that its `engine.py` holds, one instance an engine.

A module of that name is read whenever the configuration is, so it imports what computes (torch,
transformers, an HTTP client) in its methods only. The whole of Grace asks these properties, and
no one asks for an engine by its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from grace.engines.base import Engine
    from grace.engines.opening import Runtime
    from grace.settings.config import ModelEntry

#: What an answer may depend on beside its request: the names of `ModelIdentity.values`.
IDENTITY = frozenset(
    {
        "model", "tokenizer", "dtype", "quantization", "max_model_len", "server_arguments",
        "base_url", "reasoning", "batch_invariant", "version", "adapter",
    }
)  # fmt: skip
#: Keys of an entry that engines have which can put an adapter on a base.
ADAPTER_KEYS = frozenset({"adapter", "adapter_revision", "adapter_gib"})


class EngineSpec(ABC):
    """An engine, unopened. What is not said here has the default of one in this process."""

    #: Name of its folder, and what `engine` in config/models.yaml is.
    name: ClassVar[str]
    #: By experiment. Raise one where the same request now gets another answer; the journal's
    #: answers of the former number are then asked again.
    answer_version: ClassVar[Mapping[str, int]]
    #: By experiment, the names of `IDENTITY` that its answers depend on; they are in the journal's
    #: keys. What an entry does not set is left out of them.
    depends_on: ClassVar[Mapping[str, frozenset[str]]] = {"exp1": IDENTITY, "exp2": IDENTITY}
    #: Modules of its folder, such as `scoring.py`, that experiment 1's answers do not come from.
    #: All else that `engine.py` imports, wherever the import stands, is behind both.
    scoring_modules: ClassVar[tuple[str, ...]] = ()

    #: Somebody else computes: its model is a name and no files here, messages are sent and not
    #: token ids, its length and version are its server's to know, and its tokeniser may be unknown.
    is_remote: ClassVar[bool] = False
    #: It starts a server on this machine, which takes `serving.extra_args`.
    runs_server: ClassVar[bool] = False
    #: Not each job loads the model: a process holds it that the jobs of a run share.
    keeps_model: ClassVar[bool] = False
    #: Whether `gpus` of an entry are GPUs of ours.
    uses_gpus: ClassVar[bool] = True
    #: It can leave out the ends of options (`scoring.terminators: needed`).
    reads_without_ends: ClassVar[bool] = False
    #: It can hold an answer to a JSON schema (`GenerationRequest.schema`).
    holds_to_schema: ClassVar[bool] = False
    #: MB that a job needs whose model computes on cores.
    cpu_memory_mb: ClassVar[int] = 4000
    #: Keys of an entry that only engines which name them here may be given.
    own_keys: ClassVar[frozenset[str]] = frozenset()
    #: Those of them without which it cannot be asked.
    required_keys: ClassVar[tuple[str, ...]] = ()

    @property
    def in_process(self) -> bool:
        """Whether Grace's own code computes: in the job, or in a process that jobs share."""
        return not (self.is_remote or self.runs_server)

    @property
    def loads_once(self) -> bool:
        """Whether a job finds the model loaded that a job before it has asked."""
        return self.runs_server or self.keeps_model

    def gpus(self, entry: ModelEntry) -> int:
        """GPUs of ours that a model computes on."""
        return entry.gpus if self.uses_gpus else 0

    def computes_on_cores(self, entry: ModelEntry) -> bool:
        """Whether a model's jobs take all cores that there are."""
        return not (self.is_remote or self.gpus(entry))

    def why_unfit(self, gpus: int, quantization: str | None) -> str | None:
        """Why it cannot compute on so many GPUs, or quantised so; None where it can."""
        return None

    def advice_on_fit(self) -> str | None:
        """What to do, up to the model's name, where a model fits no GPU; None: as for any."""
        return None

    def check_positions(self, model_key: str, entry: ModelEntry, positions: int) -> None:
        """Raise `EngineError` where a model of fewer positions than `max_model_len` is refused."""
        return

    def answers_as(self, model_key: str, entry: ModelEntry) -> str | None:
        """How its server is to name the model in each answer; None where there is no server."""
        return None

    @abstractmethod
    def version(self, entry: ModelEntry, runtime: Runtime) -> str | None:
        """Version of what would compute the answers, read without starting it.

        None for somebody else's server. Raises `EngineError` where it is not installed.
        """

    def preflight(self, model_key: str, entry: ModelEntry, runtime: Runtime) -> None:
        """Check, without loading a model, that it can run here. Raises `EngineError`."""
        return

    @abstractmethod
    def open(self, model_key: str, entry: ModelEntry, runtime: Runtime) -> Engine:
        """The engine for a model, not yet entered. Raises `EngineError`."""
