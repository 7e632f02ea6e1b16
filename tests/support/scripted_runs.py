"""Runs of the bundled studies that a scripted engine answers, and their tables."""

from pathlib import Path

import pandas as pd
from bundled_studies import ROOT, STUDIES, STUDY2
from engines_for_tests import CharacterTokenizer, ScriptedEngine

from grace.engines.base import Decoding
from grace.experiments.generation import run_generation
from grace.experiments.measurement import run_scoring
from grace.experiments.trials import Run, trial_prompts
from grace.prompts.variants import PromptSet
from grace.results.tables import (
    probability_columns,
    probability_rows,
    raw_columns,
    raw_rows,
    read_rows,
    structured_columns,
    structured_rows,
    write_rows,
)
from grace.studies.stimuli import read_trials

DECODING = Decoding(temperature=0.7, top_p=1.0, max_tokens=16)


def run_of(study: str, experiment: str, replication: int = 0) -> Run:
    return Run("pico", "resources/models/pico", STUDIES[study], experiment, replication, 1000, True)


def items_of(run: Run, limit: int = 12):
    trials = read_trials(ROOT / f"resources/stimuli/{run.study.name}.csv", run.study, limit)
    return trial_prompts(run, trials, [PromptSet(ROOT / "config/prompts/seed")])


def answer(prompt: str, seed: int) -> str:
    """Mostly in the form asked for; one in four is not."""
    return "It wasn't bad" if seed % 4 else 'I would rather not say, "honestly"\n'


def structured(tmp_path: Path, fails=lambda prompt: False) -> pd.DataFrame:
    run = run_of("study2", "exp1")
    engine = ScriptedEngine(answer, fails)
    records = run_generation(run, items_of(run, 40), CharacterTokenizer(), engine, DECODING)
    write_rows(tmp_path / "raw.csv", raw_rows(records, STUDY2), raw_columns(STUDY2))
    rows = list(read_rows(tmp_path / "raw.csv", raw_columns(STUDY2)))
    write_rows(
        tmp_path / "structured.csv",
        structured_rows(rows, STUDY2, 1.0),
        structured_columns(STUDY2),
    )
    return pd.read_csv(tmp_path / "structured.csv")


def probabilities(study: str = "study2", fails=lambda prompt: False) -> pd.DataFrame:
    run = run_of(study, "exp2")
    records = run_scoring(run, items_of(run, 40), CharacterTokenizer(), ScriptedEngine(fails=fails))
    rows = probability_rows(records, run.study, 0.5)
    return pd.DataFrame(list(rows), columns=list(probability_columns(run.study)))
