"""A model's weights in this process: where they are, on which device, and loaded whole.

torch and transformers are imported when a model is loaded, so that importing this module is cheap.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grace.engines.transformers.adapter import attach
from grace.errors import EngineError, GraceError
from grace.models import adapters, hub
from grace.models.chat import tokenizer_source
from grace.models.files import advice, check_weights
from grace.models.hub import first_line
from grace.models.hub_access import licence_of
from grace.places import located
from grace.settings.config import ModelEntry


@dataclass(frozen=True)
class LoadedModel:
    """A model and its tokeniser; several engines may use them, one after the other."""

    model: Any
    tokenizer: Any
    device: str


#: Kinds of layers whose cache is keys and values a token, or nothing.
PLAIN_LAYERS = {"full_attention", "sliding_attention", "chunked_attention", "dummy"}


def find(model_key: str, entry: ModelEntry, root: Path) -> str:
    """The folder or hub id of the weights; raises `EngineError` where they are not available."""
    folder = located(entry.name, root)
    where = f"model '{model_key}': name '{entry.name}'"
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise EngineError(
                f"{where}: {folder} holds no config.json, so it is no model in the transformers"
                " format. Correct `name` in config/models.yaml."
            )
        check_weights(folder, where)
        return str(folder)
    if entry.name.count("/") > 1 or entry.name.startswith((".", "/", "~")):
        raise EngineError(
            f"{where}: there is no folder {folder}. Correct `name` in config/models.yaml, or put"
            " the model there."
        )
    hub.commit(entry.name, entry.revision, where, licence=licence_of(entry))
    return entry.name


def device(model_key: str, entry: ModelEntry) -> str:
    """`cuda`, `mps` or `cpu`; raises `EngineError` where the model needs a GPU and none is here."""
    import torch

    if entry.gpus == 0:
        return "cpu"
    if entry.gpus > 1:
        raise EngineError(
            f"model '{model_key}' needs {entry.gpus} GPUs, but the engine `transformers` uses one."
            " Set `engine: vllm`, or `gpus: 1` in config/models.yaml."
        )
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    raise EngineError(
        f"model '{model_key}' needs a GPU, and this machine has none that torch can use. Choose"
        " another model, set `gpus: 0` in config/models.yaml to run it on the CPU, or use the"
        " cluster."
    )


def device_name(device: str) -> str:
    """The GPU's name, or what of a CPU decides how numbers are rounded."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    # The instruction set decides which kernels run.
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def load(
    model_key: str, entry: ModelEntry, source: str, root: Path, device: str
) -> tuple[Any, Any]:
    """The model and its tokeniser. Raises `EngineError` where the weights are not whole."""
    import torch
    import transformers

    # Else transformers may ask a bot of the hub to convert pickled weights, and load what it made.
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    tokenizer_name, tokenizer_revision = tokenizer_source(entry, root)
    bars: Any = transformers.utils.logging
    bars_before = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        _refuse_adapter(model_key, entry, source)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            tokenizer_name, revision=tokenizer_revision, trust_remote_code=False
        )
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            source,
            revision=entry.revision,
            dtype=getattr(torch, entry.dtype),
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
        model, found = loaded
        if found["missing_keys"]:
            # transformers would fill these with random numbers.
            raise ValueError(f"the weights lack {', '.join(sorted(found['missing_keys'])[:3])}")
        _refuse_recurrent(model_key, model)
        if entry.adapter is not None:
            where = adapters.where_named(model_key, entry)
            adapter = adapters.read(adapters.folder_of(model_key, entry, root), where)
            attach(model, adapter, getattr(torch, entry.dtype), where)
        model = model.to(device).eval()
    except GraceError:
        raise
    except Exception as error:  # anything that a foreign file or the hub can cause
        raise EngineError(
            f"model '{model_key}': '{entry.name}' cannot be loaded: {first_line(error)}."
            f"{advice(str(error))}"
        ) from error
    finally:
        if bars_before:
            bars.enable_progress_bar()
    return model, tokenizer


def _refuse_adapter(model_key: str, entry: ModelEntry, source: str) -> None:
    """Where PEFT is installed, transformers would load an adapter with whatever base it names."""
    from transformers.utils.peft_utils import find_adapter_config_file

    if find_adapter_config_file(source, revision=entry.revision) is not None:
        raise EngineError(
            f"model '{model_key}': '{entry.name}' is a PEFT adapter, or a model with one in its"
            " folder. Put the base into `name` and the adapter into `adapter` (docs/adapters.md)."
        )


def _refuse_recurrent(model_key: str, model: Any) -> None:
    """Rows of a padded cache need plain keys and values, which recurrent layers lack."""
    from transformers.cache_utils import get_layer_types_and_kwargs

    kinds = set(get_layer_types_and_kwargs(model.config.get_text_config(decoder=True))[0])
    if kinds - PLAIN_LAYERS:
        raise EngineError(
            f"model '{model_key}': the engine `transformers` does not know layers of the"
            f" kind {', '.join(sorted(kinds - PLAIN_LAYERS))}. Set `engine: vllm`."
        )
