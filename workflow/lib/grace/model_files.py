"""What is loaded of a model that others made: numbers and text, never code.

Pickled weights (`*.bin`, `*.pt`) run whatever they hold when they are opened; a model's own
Python would run if `trust_remote_code` allowed it. Neither is ever fetched or loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from grace.errors import ConfigError

SAFE_WEIGHTS = "*.safetensors"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

#: What says of a folder that it is a model: transformers' config, or Mistral's.
_CONFIGS = ("config.json", "params.json")


def check_folder(where: str, folder: Path) -> None:
    """Raise `ConfigError` for a folder that is no model, before all in it is read for its digest.

    It may be a folder of many models, or somebody's whole home.
    """
    if not any((folder / name).is_file() for name in _CONFIGS):
        raise ConfigError(
            f"{where}: {folder} holds no config.json, so it is no model in the transformers format."
            " Correct `name` in config/models.yaml."
        )
    for path in folder.rglob("*"):
        if not path.name.isprintable():
            raise ConfigError(
                f"{where}: {path.parent} holds a file called {path.name!a}, which is no name that"
                " records can hold. Rename or delete it."
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
