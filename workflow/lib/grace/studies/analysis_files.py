"""The files of a study's analysis and of its section of the report, from its declaration.

What R reads of a declaration, and which of its files run. Paths of code are as seen from
scripts/, where all code of a job is named from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grace.errors import ConfigError
from grace.studies.analysis_parts import Analysis, Figure
from grace.studies.study import Study

#: What a generic analysis makes.
GENERIC = Analysis(
    script="lib/generic_analysis.R",
    sources=[
        f"lib/generic_{name}.R"
        for name in ("measures", "models", "figures", "agreement", "scoring")
    ],
    tables=[
        *("cells", "contrasts", "models", "agreement", "distances", "quality"),
        *("model_pairs", "variance_components", "precision"),
        *("scoring_methods", "scoring_agreement", "wordings"),
    ],
    figures={
        "distributions": Figure(file="distributions", label="Distributions"),
        "by_factor": Figure(file="responses", label="Responses"),
        "people": Figure(file="people", label="Models and people"),
        "calibration": Figure(file="agreement", label="Experiment 1 against 2"),
        "planned": Figure(file="precision", label="Precision of other designs"),
        "scoring": Figure(file="scoring_methods", label="Ways of scoring"),
    },
)
#: What every analysis sources before the study's own files.
SHARED = tuple(
    f"lib/{name}.R"
    for name in (
        *("common", "statistics", "inference", "people", "item_tests", "mixed_models", "figures"),
        *("agreement", "scoring_methods", "variance_components", "planned_precision"),
        *("model_comparison", "wordings"),
    )
)
#: A study's section of the report where it has none of its own.
SECTION = ("lib/generic_section.R", "lib/generic_section.Rmd")
#: The parts of a declaration that a generic analysis reads, and those that the report does.
_ANALYSED: dict[str, Any] = {
    "title": True,
    "stimuli": {"key": True, "columns": True, "derived": True},
    "generate": {"read": True},
    **dict.fromkeys(
        (
            "score", "continuations", "labels", "factors", "item", "responses", "contrasts",
            "models", "people", "theory", "figures",
        ),
        True,
    ),
}  # fmt: skip
_REPORTED = {**_ANALYSED, **dict.fromkeys(("summary", "cite", "report"), True)}


#: What is written beside a figure's PNG: two vector formats, and what it shows.
FIGURE_FORMATS = ("svg", "pdf", "csv")


@dataclass(frozen=True)
class FigureFile:
    """A figure: its PNG below <results>/analysis, and how Snakemake's own report shows it."""

    file: str
    caption: Path
    label: str

    def beside(self, kind: str) -> str:
        """The file of another format."""
        return str(Path(self.file).with_suffix(f".{kind}"))


@dataclass(frozen=True)
class AnalysisFiles:
    """What one study's analysis reads, runs and makes."""

    tables: dict[str, str]
    figures: dict[str, FigureFile]
    inputs: dict[str, Path]
    scripts: list[str]
    category: str


def analysis_files(study: Study, root: Path) -> AnalysisFiles:
    """The files of a study's analysis; `root` is the workflow's folder."""
    declared = study.declaration
    generic = declared.analysis == "generic"
    own = GENERIC if isinstance(declared.analysis, str) else declared.analysis
    files = [*own.sources, own.script]
    fitted = generic and any(
        theory.fit is not None and "people" in theory.fit.to for theory in declared.theory
    )
    return AnalysisFiles(
        tables={
            name: f"{study.name}_{name}.csv"
            for name in (*own.tables, *(["theory"] if fitted else []))
        },
        figures={
            name: _figure(study, name, figure, declared.figures.get(name), root)
            for name, figure in own.figures.items()
        },
        inputs={
            name: there(study, path, f"analysis.inputs.{name}") for name, path in own.inputs.items()
        },
        scripts=[*SHARED, *(files if generic else from_scripts(study, files, root, "analysis"))],
        category=declared.report.category or declared.title,
    )


def _figure(
    study: Study, name: str, figure: Figure, declared: Figure | None, root: Path
) -> FigureFile:
    caption = (declared and declared.caption) or figure.caption or ""
    generic = root / f"workflow/report/generic_{name}.rst"
    if caption.endswith(".rst"):
        shown = there(study, caption, f"figures.{name}.caption")
    else:
        shown = generic if generic.is_file() else root / "workflow/report/generic_figure.rst"
    file = figure.file or name
    return FigureFile(
        file=f"figures/{file if file.startswith(f'{study.name}_') else f'{study.name}_{file}'}.png",
        caption=shown,
        label=(declared and declared.label) or figure.label or name,
    )


def there(study: Study, path: str, key: str) -> Path:
    """A file that a declaration names. Raises `ConfigError` where it is not there."""
    found = study.beside(path)
    if not found.is_file():
        raise ConfigError(
            f"{study.source}: key '{key}' names '{path[:200]}', but there is no file {found}."
        )
    return found


def from_scripts(study: Study, files: Iterable[str], root: Path, key: str) -> list[str]:
    """Files of a study's folder as seen from the workflow's scripts/."""
    return [os.path.relpath(there(study, name, key), root / "scripts") for name in files]


def section_files(study: Study, root: Path) -> tuple[list[str], str]:
    """R files that define a study's section of the report, and its text."""
    report = study.declaration.report
    if report.section is None:
        return [SECTION[0]], SECTION[1]
    (section,) = from_scripts(study, [report.section], root, "report.section")
    return from_scripts(study, report.sources, root, "report.sources"), section


def analysis_settings(study: Study) -> dict[str, str]:
    """What a generic analysis reads of its study; nothing where the study has its own."""
    if study.declaration.analysis != "generic":
        return {}
    return {"study": study.name, "declaration": _as_json(study, _ANALYSED)}


def report_settings(study: Study) -> str:
    """What the report reads of a study, as JSON: keys of a user's file never become R code."""
    return _as_json(study, _REPORTED)


def _as_json(study: Study, parts: dict[str, Any]) -> str:
    declared = study.declaration.model_dump(
        mode="json", by_alias=True, exclude_unset=True, include=parts
    )
    return json.dumps(declared, ensure_ascii=False)
