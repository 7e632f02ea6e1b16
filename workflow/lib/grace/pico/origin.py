"""Which models are pico, by what is in their folders, and what a reader must know of them."""

from __future__ import annotations

import json
from pathlib import Path

from grace.contents import model_files
from grace.digests import file_digest
from grace.pico.settings import Settings
from grace.pico_base.settings import BaseSettings
from grace.places import located

#: Where the bundled weights are, from the project's root: pico's, and pico-base's.
BUNDLED = (Path("resources/models/pico"), Path("resources/models/pico-base"))
#: Stands wherever a result of such a model is shown.
ORIGIN = "trained on simulated people: shows the plumbing, not language models"


def origin(folder: Path, root: Path) -> str | None:
    """What a reader must know of where a local model comes from; None where nothing is known.

    A model is pico or pico-base if a file in its folder has the content of the bundled weights,
    under whatever name, or if their trainers left a record there.
    """
    if _trained_here(folder / "training.json"):
        return ORIGIN
    weights = [
        path
        for bundled in BUNDLED
        for path in located(bundled, root).glob("*.safetensors")
        if path.is_file()
    ]
    for path in map(folder.joinpath, model_files(folder) if folder.is_dir() else ()):
        # Sizes first: the weights of other models are large.
        if any(
            path.stat().st_size == known.stat().st_size and file_digest(path) == file_digest(known)
            for known in weights
        ):
            return ORIGIN
    return None


def _trained_here(record: Path) -> bool:
    """Whether a file is the trainer's record of how it made the weights beside it."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        if "pico_base" in found:
            BaseSettings.from_dict(found["pico_base"])
        else:
            Settings.from_dict(found["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return True
