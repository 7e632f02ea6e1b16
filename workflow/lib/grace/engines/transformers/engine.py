"""The engine `transformers`, as Grace finds it."""

from __future__ import annotations

import ast
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from grace.engines.spec import ADAPTER_KEYS, EngineSpec
from grace.errors import EngineError

if TYPE_CHECKING:
    from grace.engines.base import Engine
    from grace.engines.opening import Runtime
    from grace.settings.config import ModelEntry

_BOTH = frozenset({"model", "tokenizer", "dtype", "version", "adapter"})


class TransformersSpec(EngineSpec):
    """A model on the CPU or on one GPU: of jobs in a process that those of a run share."""

    name = "transformers"
    keeps_model = True
    answer_version = {"exp1": 1, "exp2": 1}
    depends_on = {"exp1": _BOTH | {"max_model_len", "reasoning"}, "exp2": _BOTH}
    scoring_modules = ("scorer.py",)
    own_keys = ADAPTER_KEYS
    holds_to_schema = True
    reads_without_ends = True

    def why_unfit(self, gpus: int, quantization: str | None) -> str | None:
        if gpus <= 1 and not quantization:
            return None
        own = f"{gpus} GPUs" if gpus > 1 else str(quantization)
        return f"the engine `transformers` uses one GPU and plain weights, but this is {own}"

    def advice_on_fit(self) -> str:
        return "Use the engine `vllm`, or give it `gpus: 1` where one is enough in `placements` of"

    def version(self, entry: ModelEntry, runtime: Runtime) -> str:
        peft = f", peft {_peft_version()}" if entry.adapter is not None else ""
        return f"{version('transformers')}, torch {_torch_version()}{peft}"

    def preflight(self, model_key: str, entry: ModelEntry, runtime: Runtime) -> None:
        from grace.engines.transformers import model

        model.preflight(model_key, entry, runtime.root)

    def open(self, model_key: str, entry: ModelEntry, runtime: Runtime) -> Engine:
        from grace.engines.transformers.model import TransformersEngine
        from grace.engines.transformers.shared import SharedEngine
        from grace.runs import startup

        if startup.current_run() is None:  # nobody to share it with, nor whose end would end it
            return TransformersEngine(
                model_key,
                entry,
                requests=runtime.requests,
                scoring=runtime.scoring,
                root=runtime.root,
                threads=runtime.threads,
            )
        return SharedEngine(model_key, entry, self.version(entry, runtime), runtime)


def _peft_version() -> str:
    try:
        return version("peft")
    except PackageNotFoundError:
        raise EngineError(
            "peft, which loads adapters, is not installed. Run `make setup`."
        ) from None


def _torch_version() -> str:
    """What `torch.__version__` is, which says more than the package's; torch takes seconds."""
    found = importlib.util.find_spec("torch")
    for folder in (found.submodule_search_locations or []) if found else []:
        for node in ast.parse((Path(folder) / "version.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
                return str(ast.literal_eval(node.value))
    raise EngineError("torch is not installed. Run `make setup`.")
