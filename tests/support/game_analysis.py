"""The generic analysis of a study that is made, a game of reference: what it reads, running it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from r_analysis import FIGURES_ASKED, Figures, rscript

from grace.studies.analysis_files import GENERIC, SHARED

LABELS = ("target", "competitor", "distractor")
ITEMS = [f"item{i}" for i in range(12)]
CELLS = [(role, level) for role in ("production", "interpretation") for level in ("2", "10")]
#: Probability of each label by cell.
TRUTH = {
    ("production", "2"): (0.8, 0.15, 0.05),
    ("production", "10"): (0.6, 0.3, 0.1),
    ("interpretation", "2"): (0.5, 0.4, 0.1),
    ("interpretation", "10"): (0.3, 0.6, 0.1),
}
PEOPLE = dict.fromkeys(CELLS, (60, 30, 10))
TABLES = (
    *("cells", "contrasts", "models", "agreement", "distances", "quality"),
    *("model_pairs", "variance_components", "precision", "wordings"),
)
FIGURES = {
    "distributions": "distributions",
    "by_factor": "responses",
    "people": "people",
    "calibration": "agreement",
    "planned": "precision",
}
DECLARATION = {
    "title": "A game of reference",
    "summary": "Who means what?",
    "stimuli": {
        "key": ["trial"],
        "columns": {"role": "text", "level": {"type": "integer", "levels": [2, 10]}},
    },
    "score": [
        {"name": "choice", "options": {"columns": ["a", "b"]}, "columns": "prob_word_{number}"}
    ],
    "labels": {"query": "choice", "of": dict.fromkeys(LABELS, "…"), "columns": "prob_{label}"},
    "factors": ["role", "level"],
    "item": "item",
    "responses": [
        {"name": "chose the target", "exp1": "choice_label == 'target'", "exp2": "prob_target",
         "range": [0, 1]},
    ],
    "contrasts": [
        {"name": "roles differ", "response": "chose the target", "higher": {"role": "production"},
         "lower": {"role": "interpretation"}, "people": {"t": 5.1, "df": 40}},
        {"name": "nothing", "response": "P(competitor)",
         "higher": {"role": "interpretation", "level": 2},
         "lower": {"role": "interpretation", "level": 10}},
    ],
    "models": [
        {"name": "target by role", "response": "chose the target", "family": "binomial",
         "formula": "response ~ role + level + (1 | item)", "compare": ["role"]},
        {"name": "scored", "response": "chose the target",
         "formula": "response ~ role + (1 | item)"},
    ],
    "people": {"file": "people.csv"},
}  # fmt: skip
SOURCES = [f"scripts/{name}" for name in (*SHARED, *GENERIC.sources, GENERIC.script)]
SOURCED = "\n".join(f'source("{name}")' for name in SOURCES)
DRIVER = f"""
job <- jsonlite::read_json(commandArgs(TRUE)[1])
library(ggplot2)
{SOURCED}
{FIGURES_ASKED}
analyse(job$input, job$output, job$params)
"""


def game_rows(model="m", exps=("exp1", "exp2"), draws=10, seed=1, truth=TRUTH, spread=0.3):
    """Each item stands in every cell; items differ in how much the target is preferred."""
    rng = np.random.default_rng(seed)
    rows = []
    for item in ITEMS:
        shift = rng.normal(0, spread)
        for (role, level), p in truth.items():
            weights = np.array(p) * np.exp([shift, 0, 0])
            weights /= weights.sum()
            for draw in range(draws):
                row = {
                    "model_key": model, "model_name": f"org/{model}", "replication": draw % 2,
                    "variant": "seed", "trial": f"{item}-{role}-{level}", "item": item,
                    "role": role, "level": level, "prompt_id": f"{item}-{role}-{level}",
                    "response_timestamp": "2025-03-01T10:00:00Z", "quality_flags": None,
                    "extraction_errors": None, "exp1_status": None, "exp2_status": None,
                    "choice_label": None, "choice_option_mass": None,
                } | {f"prob_{label}": None for label in LABELS}  # fmt: skip
                if "exp1" in exps:
                    row |= {"exp1_status": "ok", "choice_label": LABELS[rng.choice(3, p=weights)]}
                if "exp2" in exps:
                    row |= {"exp2_status": "ok", "choice_option_mass": 0.4}
                    row |= {f"prob_{label}": x for label, x in zip(LABELS, weights, strict=True)}
                rows.append(row)
    return rows


def people_rows():
    return [
        {"source": "human", "role": role, "level": level, "query": "choice", "outcome": label,
         "n": n, "total": 100, "probability": n / 100}
        for (role, level), counts in PEOPLE.items()
        for label, n in zip(LABELS, counts, strict=True)
    ] + [
        {"source": "rsa", "role": role, "level": level, "query": "choice", "outcome": label,
         "n": None, "total": None, "probability": p}
        for (role, level), probabilities in TRUTH.items()
        for label, p in zip(LABELS, probabilities, strict=True)
    ]  # fmt: skip


def prepare(
    folder: Path, rows, declaration=DECLARATION, reference=None, *, figures: Figures = "none",
    **params,
):  # fmt: skip
    """Write an analysis's inputs and its job."""
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "ready.csv", index=False)
    factors = declaration.get("factors", [])
    columns = ["source", *factors, "query", "outcome", "n", "total", "probability"]
    found = people_rows() if reference is None else reference
    table = pd.DataFrame(found, columns=None if found else columns)
    table.to_csv(folder / "reference.csv", index=False)
    output = {name: str(folder / f"game_{name}.csv") for name in TABLES}
    output |= {name: str(folder / f"figures/game_{file}.png") for name, file in FIGURES.items()}
    job = {
        "figures": figures,
        "input": {key: str(folder / f"{key}.csv") for key in ("ready", "reference")},
        "output": output,
        "params": {
            "seed": 7, "equivalence_margin": 10,
            "declaration": json.dumps(declaration), **params,
        },
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))


def launch(folder: Path, *given, **params):
    prepare(folder, *given, **params)
    return rscript(DRIVER, str(folder / "job.json"))


def analyse(
    folder: Path, rows, declaration=DECLARATION, reference=None, *, figures: Figures = "none",
    **params,
):  # fmt: skip
    done = launch(folder, rows, declaration, reference, figures=figures, **params)
    assert done.returncode == 0, done.stderr
    for file in FIGURES.values() if figures != "none" else ():
        picture = (folder / f"figures/game_{file}.png").read_bytes()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n", file
        assert len(picture) > 5000, file
    return {name: pd.read_csv(folder / f"game_{name}.csv") for name in TABLES}
