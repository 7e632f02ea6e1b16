"""Studies that tests declare: a folder with a study.yaml, its trials and its prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from grace.studies.reading import read_study
from grace.studies.study import Study

#: Asks in both experiments which of two words fits, and names nothing but what it must.
DECLARED: dict[str, Any] = {
    "title": "Toy",
    "summary": "Which word?",
    "stimuli": {"key": ["item"], "columns": {"item": "text", "size": "integer"}},
    "variables": {"item": "item", "size": "size"},
    "generate": {
        "template": "exp1.j2",
        "form": r"\s*Answer: (?:big|small)\s*",
        "read": [
            {
                "what": "answer",
                "pattern": r"answer\s*:\s*(?P<answer>\w+)",
                "fields": {"answer": {"levels": ["big", "small"]}},
            }
        ],
        "examples": [{"answer": "Answer: big", "fields": {"answer": "big"}}],
    },
    "score": [
        {
            "name": "answer",
            "template": "exp2.j2",
            "options": ["big", "small"],
            "columns": "prob_{option}",
        }
    ],
    "factors": ["size"],
}
TRIALS = "item,size\nmouse,1\nwhale,9\nhorse,5\n"
TEMPLATE = "Is {{ item }}, whose size is {{ size }}, big or small?"


def write_study(folder: Path, declared: Any = DECLARED, trials: str = TRIALS, **files: str) -> Path:
    """Write a study's folder, and give it back; `people_csv` is the file people.csv."""
    prompts = folder / "prompts" / "seed"
    prompts.mkdir(parents=True, exist_ok=True)
    (folder / "stimuli.csv").write_text(trials, encoding="utf-8")
    for name in ("exp1.j2", "exp2.j2"):
        (prompts / name).write_text(TEMPLATE, encoding="utf-8")
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, encoding="utf-8")
    text = declared if isinstance(declared, str) else yaml.safe_dump(declared, sort_keys=False)
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    return folder


def study_of(folder: Path, declared: Any = DECLARED, **files: str) -> Study:
    """The study of a folder that is written for it. Raises `ConfigError`."""
    return read_study(write_study(folder, declared, **files), folder.name)


def changed(changes: dict[str, Any], declared: Any = DECLARED) -> dict[str, Any]:
    """A declaration with other values at some places, such as `score.0.options`; None: gone."""
    copy: dict[str, Any] = yaml.safe_load(yaml.safe_dump(declared, sort_keys=False))
    for place, value in changes.items():
        *above, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
        held: Any = copy
        for part in above:
            held = held[part]
        if value is None:
            del held[last]
        elif isinstance(held, list) and last == len(held):
            held.append(value)
        else:
            held[last] = value
    return copy
