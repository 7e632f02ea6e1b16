"""The analyses of studies 1 and 2 on tables that are made: what they read, and running them."""

import csv
import functools
import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
from r_analysis import FIGURES_ASKED, ROOT, Figures, rscript

from grace.pico.trained_on import theory
from grace.studies.analysis_files import SHARED

PUBLISHED = ROOT / "resources/reference/study1_published_tests.csv"
HUMAN = ROOT / "resources/reference/study2_human_cells.csv"
CELLS = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)]
STORIES = ["exams", "letters", "tickets", "fruits", "phones", "seeds"]
GOALS = ["informative", "social", "both"]
UTTERANCES = [(f, a) for f in ("was", "wasn't") for a in ("terrible", "bad", "good", "amazing")]
RSA = {
    (1, 1): [0, 0.144, 0.472, 0.384],
    (2, 1): [0, 0.317, 0.580, 0.103],
    (2, 2): [0, 0, 0.38, 0.62],
    (3, 1): [0, 0.712, 0.282, 0.006],
    (3, 2): [0, 0, 0.98, 0.02],
    (3, 3): [0, 0, 0, 1],
}
COMPARISON = ["model_pairs", "variance_components", "precision"]
TABLES = {
    1: [
        "cells",
        "distances",
        "contrasts",
        "anova",
        "knowledge",
        "cancellation",
        "agreement",
        "quality",
        *COMPARISON,
        "wordings",
    ],
    2: [
        *("cells", "negation", "anova", "glmer", "tests", "human_comparison", "agreement"),
        "quality",
        *COMPARISON,
        "wordings",
    ],
}
FIGURES = {
    1: ["bets", "state3", "forest", "knows", "calibration", "planned"],
    2: ["utterances", "negated", "scatter", "calibration", "planned"],
}
SCORING_TABLES = ("scoring_methods", "scoring_agreement")
DRIVER = f"""
job <- jsonlite::read_json(commandArgs(TRUE)[1])
library(ggplot2)
for (name in unlist(job$sources)) source(name)
{FIGURES_ASKED}
analyse(job$input, job$output, job$params)
"""


def sources(study: int) -> list[str]:
    """The R files of a study's analysis, in order."""
    own = ("models", "figures", "agreement", "scoring", "analysis")
    return [
        *(f"scripts/{name}" for name in SHARED),
        *(f"studies/study{study}/{name}.R" for name in own),
    ]


def launch(
    folder: Path,
    study: int,
    rows: list[dict],
    participants: list[dict] = (),
    *,
    figures: Figures = "none",
    **params,
) -> subprocess.CompletedProcess[str]:
    """Write the study's inputs, run its analysis, and leave its outputs in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ready = pd.DataFrame([as_sampled(study, row) for row in rows])
    job = prepare(folder, study, ready, participants, figures=figures, **params)
    return rscript(DRIVER, str(job))


def prepare(
    folder: Path,
    study: int,
    ready: pd.DataFrame,
    participants: list[dict] = (),
    *,
    figures: Figures,
    **params,
) -> Path:
    """Write the study's inputs and its job, the file that the driver reads."""
    ready.to_csv(folder / "ready.csv", index=False)
    write_references(folder, participants)
    output = {name: str(folder / f"{name}.csv") for name in TABLES[study]}
    output |= {name: str(folder / f"{name}.png") for name in FIGURES[study]}
    job = {
        "sources": sources(study),
        "figures": figures,
        "input": {
            "ready": str(folder / "ready.csv"),
            "reference": str(folder / f"reference_study{study}.csv"),
            "published": str(PUBLISHED),
        },
        "output": output,
        "params": {"seed": 7, "equivalence_margin": 10, **params},
    }
    (folder / "job.json").write_text(json.dumps(job))
    return folder / "job.json"


def as_sampled(study: int, row: dict) -> dict:
    """The row with distributions as sampled: those measured, unless it holds some."""
    if study == 2:
        columns = [f"prob_{frame.replace(chr(39), '')}_{a}" for frame, a in UTTERANCES]
        made = {f"sampled_{name}": row.get(name) for name in columns} | {"sampled_bound": 0}
    else:
        columns = [*(f"state{state}_mean" for state in range(4)), "prob_knowledge_yes"]
        made = {f"sampled_{name}": row.get(name) for name in columns}
        queries = [*(f"state{state}" for state in range(4)), "knowledge"]
        made |= {f"sampled_{query}_bound": 0 for query in queries}
        made |= {f"sampled_state{s}_prob_{p}": None for s in range(4) for p in range(0, 101, 10)}
    return made | row


def analyse(
    folder: Path, study: int, rows: list[dict], *, figures: Figures = "none", **params
) -> dict[str, pd.DataFrame]:
    """The tables of the study's analysis, and the figures asked for."""
    done = launch(folder, study, rows, figures=figures, **params)
    assert done.returncode == 0, done.stderr
    for name in FIGURES[study] if figures != "none" else ():
        picture = (folder / f"{name}.png").read_bytes()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n", name
        assert len(picture) > 5000, name
        if figures == "png":
            continue
        assert (folder / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")
        assert (folder / f"{name}.pdf").read_bytes()[:5] == b"%PDF-"
        assert "drawn_as" in (folder / f"{name}.csv").read_text(encoding="utf-8")
    return {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES[study]}


def write_references(folder: Path, participants: list[dict] = ()) -> None:
    first = [
        {"source": source, "access": a, "observe": o, "state": s, "probability": p}
        for (a, o), row in RSA.items()
        for source in ("rsa", "exact_report")
        for s, p in enumerate(row)
    ]
    pd.DataFrame(first).to_csv(folder / "reference_study1.csv", index=False)
    second = []
    for key, (n, total) in human_counts().items():
        row = dict(zip(("goal", "state", "frame", "assessment"), key, strict=True))
        second.append(row | {"source": "human", "n": n, "total": total, "probability": n / total})
        second.append(row | {"source": "polite_rsa", "probability": polite_rsa()[key]})
    second.extend(participants)
    pd.DataFrame(second).to_csv(folder / "reference_study2.csv", index=False)


@functools.cache
def polite_rsa() -> dict[tuple[str, int, str, str], float]:
    polite = theory("study2")
    lexicon = polite.read_lexicon(HUMAN.with_name("politeness_lexicon.csv"))
    weights = polite.read_weights(HUMAN.with_name("politeness_weights.csv"))
    return {
        (goal, *key): p
        for goal in GOALS
        for key, p in polite.cells(goal, lexicon=lexicon, weights=weights).items()
    }


def human_counts() -> dict[tuple[str, int, str, str], tuple[int, int]]:
    with HUMAN.open() as file:
        return {
            (
                row["goal"],
                int(row["state"]),
                "was" if row["polarity"] == "was" else "wasn't",
                row["adjective"],
            ): (int(row["n"]), int(row["total"]))
            for row in csv.DictReader(file)
        }


def study1_rows(bets, knows, *, draws=4, exps=("exp1", "exp2"), model="m", stories=STORIES):
    """`bets(cell, story, draw)` gives four percentages, those of experiment 2 for draw None."""
    rows = []
    for a, o in CELLS:
        for story in stories:
            scored = bets((a, o), story, None)
            for draw in range(draws):
                said = bets((a, o), story, draw)
                row = {
                    "model_key": model,
                    "model_name": f"org/{model}",
                    "replication": draw % 2,
                    "variant": "seed",
                    "participant_id": draw,
                    "story_shortname": story,
                    "access": a,
                    "observe": o,
                    "response_timestamp": "2025-03-01T10:00:00Z",
                    "Knowledge_A": None,
                    "prob_knowledge_yes": None,
                    "prompt_id": f"{story}-{a}-{o}",
                    "exp1_status": None,
                    "exp2_status": None,
                    "quality_flags": None,
                    "knowledge_option_mass": None,
                }
                for s in range(4):
                    row[f"probability_{s}"] = row[f"state{s}_mean"] = None
                    row[f"state{s}_option_mass"] = None
                if "exp1" in exps:
                    row |= {f"probability_{s}": said[s] for s in range(4)}
                    row |= {"exp1_status": "ok", "Knowledge_A": knows((a, o), story, draw)}
                if "exp2" in exps:
                    row |= {f"state{s}_mean": scored[s] for s in range(4)}
                    row |= {f"state{s}_option_mass": 0.99 - 0.01 * s for s in range(4)}
                    row |= {"exp2_status": "ok", "knowledge_option_mass": 0.97}
                    row["prob_knowledge_yes"] = 0.9 if a == 3 else 0.2
                rows.append(row)
    return rows


def made_bets():
    rng = np.random.default_rng(3)
    story = {name: rng.normal(0, 6, 4) for name in STORIES}
    fixed = {
        (cell, name, draw): np.clip(
            100 * np.array(RSA[cell]) + story[name] + rng.normal(0, 4, 4), 0, 100
        ).round(2)
        for cell in CELLS
        for name in STORIES
        for draw in [None, 0, 1, 2, 3]
    }
    return lambda cell, name, draw: fixed[cell, name, draw]


def knows_made(cell, story, draw):
    return "yes" if (cell[0] == 3) != (draw == 3 and story in ("exams", "letters")) else "no"


def study2_rows(generated, scored, exps=("exp1", "exp2")):
    """`generated` maps (goal, state) to a list of utterance indices; `scored` to eight numbers."""
    rows = []
    for goal in GOALS:
        for state in range(4):
            for i, said in enumerate(generated.get((goal, state), [])):
                row = {
                    "model_key": "m",
                    "model_name": "org/m",
                    "replication": i % 2,
                    "variant": "seed",
                    "Participant_ID": i,
                    "Domain": f"item{i % 12}",
                    "Goal_simplified": goal,
                    "State_number": state,
                    "response_timestamp": "2025-03-01T10:00:00Z",
                    "prompt_id": f"{goal}-{state}-{i % 12}",
                    "exp1_status": "ok" if "exp1" in exps else None,
                    "exp2_status": "ok" if "exp2" in exps else None,
                    "Was_Wasnt": None,
                    "Assessment": None,
                    "quality_flags": None,
                    "option_mass": 0.98,
                }
                if "exp1" in exps and said is not None:
                    row["Was_Wasnt"], row["Assessment"] = UTTERANCES[said]
                for (frame, adjective), p in zip(UTTERANCES, scored[goal, state], strict=True):
                    name = f"prob_{frame.replace(chr(39), '')}_{adjective}"
                    row[name] = p if "exp2" in exps else None
                rows.append(row)
    return rows


def made_choices():
    """Negation falls with the state for every goal: log odds -0.5, less 1.0 a heart over 1.5."""
    rng = np.random.default_rng(11)
    generated, scored = {}, {}
    for goal in GOALS:
        for state in range(4):
            negation = 1 / (1 + math.exp(0.5 + 1.0 * (state - 1.5)))
            plain = rng.dirichlet([1, 1, 1, 1])
            odd = rng.dirichlet([1, 1, 1, 1])
            p = np.concatenate([(1 - negation) * plain, negation * odd])
            scored[goal, state] = p
            generated[goal, state] = [int(x) for x in rng.choice(8, 240, p=p)]
    generated["both", 0][5] = None
    return generated, scored
