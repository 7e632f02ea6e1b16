"""A project with a tiny random base, a recipe of a few rows, and a stand-in for its trainings.

The stand-in takes the place of `.venv-train/bin/python -m grace.training` and of nothing else: it
reads the rows, and writes an adapter with random weights that follow from data, seed and parent.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import yaml
from workflow_project import ROOT, Project

from grace.posttraining.constitution import Constitution

BASE = {
    "name": "models/base", "engine": "transformers", "dtype": "float32", "gpus": 0,
    "prompting": "completion", "max_model_len": 6144,
}  # fmt: skip
RECIPE = {
    "base": "base",
    "constitution": "resources/constitutions/tiny.yaml",
    "seeds": [1, 2],
    "instructions": {
        "bank": "resources/instructions/tiny.yaml", "train": 12, "evaluation": 6, "sample": 5,
        "held_out_types": 1, "by_base": 0,
    },
    "answers": {"shots": 1, "max_tokens": 4, "temperature": 1.0},
    "judge": {"shots": 2, "accept": -1, "min_option_mass": 0},
    "sft": {"rank": 2, "alpha": 4, "epochs": 1, "max_length": 512},
    "pairs": {
        "candidates": 3, "min_margin": 0, "max_length_ratio": 50, "target": 10,
        "hard_negatives": {"refusal": 0.3, "hallucination": 0, "format": 0.1},
    },
    "dpo": {"beta": 0.2},
    "approve": [],
}  # fmt: skip
BANK = {
    "types": [
        {
            "name": name,
            "training": [f"{verb} {{word}} and {{other}}."],
            "evaluation": [f"Now it is {{word}}, then {{other}}: {verb.lower()}."],
            "check": {"rule": "exact", "text": asked},
            "values": {
                "word": ["lamp", "stone", "paper", "bread", "fork"],
                "other": ["tree", "river", "cloud", "shoe", "glass"],
            },
        }
        for name, verb, asked in (
            ("copy", "Copy", "{word} and {other}"),
            ("swap", "Swap", "{other} and {word}"),
            ("first", "Take", "{word}"),
        )
    ],
    "invented": ["Name a bird.", "Name a tree.", "Count to six."],
}
CONSTITUTION = {
    "principles": [{"name": "does-it", "text": "A good answer does what is asked."}],
    # A random model never writes these; its answers end where they are cut.
    "format": {"prompt": "Task: {instruction}\nAnswer:", "stop": ["a", "e", "n", "t"]},
    "examples": [{"instruction": "Copy sun.", "answer": "sun"}],
    "judge": {
        "accepting": "Is it right?",
        "rejecting": "Is it wrong?",
        "examples": [
            {"instruction": "Copy fog.", "answer": "fog", "accept": True},
            {"instruction": "Copy hay.", "answer": "oats", "accept": False},
        ],
    },
    "refusals": ["I cannot."],
    "wrong_formats": ["Sure: {answer}"],
}
_COMMAND = """#!/bin/sh
exec {python} {script} "$@"
"""


def add_recipe(project: Project, name: str = "demo", **changes: object) -> None:
    """Give a project the tiny base, and a recipe with these changes."""
    from tiny_model import build_tiny_model  # torch, which other users of this do not need

    folder = project.folder
    build_tiny_model(folder / "models/base", template=None, positions=6144)
    _write(folder / "resources/constitutions/tiny.yaml", CONSTITUTION)
    _write(folder / "resources/instructions/tiny.yaml", BANK)
    _write(folder / "config/recipes.yaml", {name: {**RECIPE, **changes}})
    with (folder / "config/models.yaml").open("a", encoding="utf-8") as file:
        file.write(f"\n{yaml.safe_dump({'base': BASE})}")
    command = folder / ".venv-train/bin/python"
    command.parent.mkdir(parents=True)
    script = ROOT / "tests/support/training_stand_in.py"
    command.write_text(_COMMAND.format(python=sys.executable, script=script), encoding="utf-8")
    command.chmod(0o755)


def _write(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def constitution() -> Constitution:
    """The tiny one."""
    return Constitution.model_validate(CONSTITUTION)


def copied(project: Project, folder: Path) -> Project:
    """A copy of a project with all that it has made."""
    shutil.copytree(project.folder, folder, symlinks=True)
    return Project(folder)
