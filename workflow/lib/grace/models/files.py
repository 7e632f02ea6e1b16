"""What is loaded of a model that others made: numbers and text, never code.

Pickled weights (`*.bin`, `*.pt`) run whatever they hold when they are opened; a model's own
Python would run if `trust_remote_code` allowed it. Neither is ever fetched or loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from grace.contents import model_files
from grace.errors import ConfigError, EngineError

SAFE_WEIGHTS = "*.safetensors"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

#: What says of a folder that it is a model: transformers' config, or Mistral's.
_CONFIGS = ("config.json", "params.json")


def check_is_model(folder: Path, where: str) -> None:
    """Raise `ConfigError` for a folder that is no model, before all in it is read for its digest.

    It may be a folder of many models, or somebody's whole home. `where` opens messages.
    """
    if not any((folder / name).is_file() for name in _CONFIGS):
        raise ConfigError(
            f"{where}: {folder} holds no config.json, so it is no model in the transformers format."
            " Correct `name` in config/models.yaml."
        )
    for name in model_files(folder):
        if not name.isprintable():
            raise ConfigError(
                f"{where}: {folder} holds a file called {name!a}, which is no name that records can"
                " hold. Rename or delete it."
            )


def only_pickled(files: Iterable[str]) -> list[str]:
    """The pickled weights among a model's files by name, if it has no others."""
    top = sorted(file for file in files if "/" not in file)
    if any(fnmatch(file, SAFE_WEIGHTS) for file in top):
        return []
    return [file for file in top if any(fnmatch(file, form) for form in _PICKLED)]


def pickled_in(folder: Path) -> list[str]:
    """`only_pickled` of a folder. Raises `OSError`."""
    return only_pickled(path.name for path in folder.iterdir() if path.is_file())


def check_weights(folder: Path, where: str) -> None:
    """Raise `EngineError` for pickled weights and for ones that no digest of the folder holds.

    `where` opens messages. Raises `OSError`.
    """
    if pickled := pickled_in(folder):
        raise EngineError(f"{where}: {why_refused(pickled)}.")
    known = set(model_files(folder))
    for index in sorted(folder.glob(f"{SAFE_WEIGHTS}.index.json")):
        if foreign := sorted(_shards(index, where) - known):
            raise EngineError(
                f"{where}: {index} names weights in {', '.join(foreign[:3])}, where the folder's"
                " digest does not reach: a file in another folder, one that is hidden, or none."
                " Put all of the model's files into its folder and name them there by their plain"
                " names."
            )


def _shards(index: Path, where: str) -> set[str]:
    """The files that an index of weights names."""
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        names = {None}
    if not all(isinstance(name, str) for name in names):
        raise EngineError(
            f"{where}: {index} is no index of weights, which is JSON with a"
            " `weight_map` from names to files."
        )
    return names


def why_refused(pickled: list[str]) -> str:
    """What is wrong with pickled weights, and what to do."""
    return (
        f"its weights are pickled ({', '.join(pickled[:3])}), which can run any code when they are"
        " opened, so they are neither fetched nor loaded. Name a model or `revision` with weights"
        " as *.safetensors, or convert these where you trust them (transformers' `save_pretrained`)"
    )


def advice(error: str) -> str:
    """What to do about an error of transformers' that suggests to run a model's own code."""
    if "trust_remote_code" in error:
        return (
            " Grace runs no code that a model brings along (`trust_remote_code` is always false):"
            " choose a model whose architecture transformers itself has."
        )
    if "safetensors" in error:
        return " Grace loads weights as *.safetensors alone, since pickled ones can run code."
    return ""
