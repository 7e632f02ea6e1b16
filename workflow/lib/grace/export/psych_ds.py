"""A run's tables as a dataset of Psych-DS (https://psych-ds.github.io): `dataset_description.json`,
JSON-LD in the vocabulary of schema.org, with what each column holds from the codebooks, and the
tables under the names that Psych-DS asks for.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grace
from grace.errors import RecordError
from grace.results.records import replacing, write_json

#: What Psych-DS calls its version of today.
SCHEMA_VERSION = "Psych-DS 1.0.0"
DESCRIPTION = "dataset_description.json"
#: Values of a codebook that say a range of numbers.
_RANGE = re.compile(r"(-?[0-9.]+) to (-?[0-9.]+)")


@dataclass(frozen=True)
class StudyTable:
    """A study's table over models and replications, and its codebook."""

    name: str
    title: str
    table: Path
    codebook: Path

    @property
    def data_name(self) -> str:
        """The table's name in the dataset; Psych-DS takes letters and digits alone."""
        return f"study-{re.sub('[^A-Za-z0-9]', '', self.name)}_data.csv"


def write_dataset(
    folder: Path, studies: Sequence[StudyTable], models: Sequence[str], references: Sequence[str]
) -> None:
    """Write the dataset into an empty folder. Raises `RecordError`.

    `references` are the publications behind the studies, one a line.
    """
    variables: dict[str, dict[str, dict[str, str]]] = {}
    (folder / "data").mkdir(parents=True)
    (folder / "documentation").mkdir()
    names = [study.data_name for study in studies]
    for study in studies:
        if names.count(study.data_name) > 1:
            raise RecordError(
                f"several studies would be data/{study.data_name}, since Psych-DS takes letters and"
                " digits alone: rename one of them in `studies`."
            )
        with study.table.open(encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file, strict=True))
        known = _codebook(study.codebook)
        for column in columns:
            if column not in known:
                raise RecordError(
                    f"{study.codebook}: has no column '{column}' of {study.table}. Delete both"
                    " files and run again."
                )
            variables.setdefault(column, {})[study.name] = known[column]
        shutil.copyfile(study.table, folder / "data" / study.data_name)
        shutil.copyfile(study.codebook, folder / "documentation" / study.codebook.name)
    write_json(folder / DESCRIPTION, description(studies, models, references, variables))
    with replacing(folder / "README.md") as file:
        file.write(_readme(studies))


def description(
    studies: Sequence[StudyTable],
    models: Sequence[str],
    references: Sequence[str],
    variables: Mapping[str, Mapping[str, Mapping[str, str]]],
) -> dict[str, Any]:
    """`dataset_description.json`; `variables` are the codebooks' lines by column and study."""
    titles = "; ".join(study.title for study in studies)
    return {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "name": f"Answers of language models: {titles}",
        "description": (
            f"Answers of language models ({', '.join(models)}) to the trials of {titles}, one row"
            " for each trial, model, replication and prompt variant, made by Grace. No people took"
            " part."
        ),
        "schemaVersion": SCHEMA_VERSION,
        "keywords": ["language models", "pragmatics", *(study.name for study in studies)],
        "measurementTechnique": f"Grace {grace.__version__}",
        **({"citation": list(references)} if references else {}),
        "variableMeasured": [_variable(name, of) for name, of in variables.items()],
    }


def _variable(name: str, of: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """A column as a `PropertyValue`; where studies differ in what it holds, each says it."""

    def joined(key: str) -> str:
        texts = {study: line[key] for study, line in of.items() if line[key]}
        if len(set(texts.values())) <= 1:
            return next(iter(texts.values()), "")
        return "; ".join(f"{study}: {text}" for study, text in texts.items())

    meaning, unit, values = (joined(key) for key in ("meaning", "unit", "values"))
    found: dict[str, Any] = {
        "@type": "PropertyValue",
        "name": name,
        "description": meaning if not joined("source") else f"{meaning} ({joined('source')})",
    }
    if unit:
        found["unitText"] = unit
    if limits := _RANGE.fullmatch(values):
        found["minValue"], found["maxValue"] = (float(one) for one in limits.groups())
    elif values:
        found["value"] = values
    return found


def _codebook(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {line["column"]: line for line in csv.DictReader(file, strict=True)}


def _readme(studies: Iterable[StudyTable]) -> str:
    lines = [
        "# Answers of language models",
        "",
        "A dataset of Psych-DS, made by Grace. `dataset_description.json` says what each column",
        "holds, `documentation/` has the same by study. Rows are told apart by `model_key`,",
        "`replication`, `variant` and `trial_index`.",
        "",
        *(f"- `data/{study.data_name}`: {study.title}" for study in studies),
    ]
    return "\n".join([*lines, ""])
