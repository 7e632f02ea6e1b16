"""Runs of the bundled studies under several wordings, on the bundled trials."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import Any

from bundled_studies import ROOT, STUDIES

from grace.engines.answer_keys import AnswerKeys
from grace.engines.journaled import JournaledEngine
from grace.experiments.trials import Run, trial_prompts
from grace.prompts.variants import PromptSet
from grace.studies.stimuli import read_trials
from grace.studies.study import Study
from grace.studies.trials import Trial

PROMPTS = ROOT / "config/prompts"
VARIANTS = sorted(path.name for path in PROMPTS.iterdir() if path.is_dir())


@cache
def all_trials(study: str) -> list[Trial]:
    return read_trials(ROOT / f"resources/stimuli/{study}.csv", STUDIES[study])


def journaled(engine: Any, journal: Any) -> JournaledEngine:
    return JournaledEngine(
        lambda: nullcontext(engine),
        journal,
        keys=AnswerKeys("transformers", "exp1", {}),
        session={"started": "today"},
        label="pico/test",
    )


def trials(study: str, limit: int | None = None) -> list[Trial]:
    return all_trials(study)[:limit]


def variant(study: Study, name: str, limit: int | None = None) -> PromptSet:
    (found,) = study.variants([name], trials(study.name, limit))
    return found


def run_of(study: str, experiment: str) -> Run:
    return Run("pico", "resources/models/pico", STUDIES[study], experiment, 0, 1000, True)


def items_of(run: Run, *variants: str, limit: int = 6) -> list[Any]:
    found = trials(run.study.name, limit)
    return trial_prompts(run, found, run.study.variants(variants, found))
