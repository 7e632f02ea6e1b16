"""Whether pico-base answers the two bundled studies, measured as a run measures it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grace.engines.base import Decoding
from grace.engines.transformers.model import TransformersEngine
from grace.experiments.generation import run_generation
from grace.experiments.measurement import run_scoring
from grace.experiments.trials import Run, trial_prompts
from grace.models.chat import tokenizer_of
from grace.pico.recovery import scored
from grace.pico.settings import TRAINED_ON
from grace.pico.trained_on import study
from grace.pico_base.held_out import ROOT, entry
from grace.settings.config import RequestsConfig
from grace.studies.stimuli import read_trials

KEY = "pico-base"
#: As config/config.yaml has them.
DECODING = Decoding(temperature=0.7, top_p=1.0, max_tokens=256)


@dataclass(frozen=True)
class StudyAnswers:
    """Answers to a study's first trials.

    `option_mass` is the mean over the queries of experiment 2, `divergence` that of the
    Jensen-Shannon divergence in bits between their options and pico's simulated people, `readable`
    the share of experiment 1's answers that can be read.
    """

    trials: int
    option_mass: float
    least_option_mass: float
    divergence: float
    readable: float


def study_answers(folder: Path, trials: int) -> dict[str, StudyAnswers]:
    """Ask a model both experiments of both studies, about the first trials of the stimuli."""
    return {name: _answers(folder, name, trials)[0] for name in TRAINED_ON}


def _answers(folder: Path, name: str, limit: int) -> tuple[StudyAnswers, list[dict[str, Any]]]:
    """The same for one study, with experiment 1's records."""
    asked, model = study(name), entry(folder)
    trials = read_trials(asked.stimuli_file, asked, limit)
    tokenizer = tokenizer_of(KEY, model, ROOT)
    assert tokenizer is not None
    records: dict[str, list[dict[str, Any]]] = {}
    engine = TransformersEngine(KEY, model, requests=RequestsConfig(), root=ROOT, threads=1)
    with engine:
        for experiment in ("exp1", "exp2"):
            run = Run(KEY, model.name, asked, experiment, 0, 42, False)
            items = trial_prompts(run, trials, [asked.variant("seed", model.prompting)])
            found = (
                run_generation(run, items, tokenizer, engine, DECODING)
                if experiment == "exp1"
                else run_scoring(run, items, tokenizer, engine)
            )
            records[experiment] = list(found)
    measured = scored(name, records["exp2"])
    return (
        StudyAnswers(
            trials=len(trials),
            option_mass=measured.mean_option_mass,
            least_option_mass=measured.min_option_mass,
            divergence=measured.mean_divergence,
            readable=_readable(name, records["exp1"]),
        ),
        records["exp1"],
    )


def _readable(name: str, records: Sequence[dict[str, Any]]) -> float:
    read = [study(name).parse(record["response"] or "") for record in records]
    return sum(answer.extraction_errors is None for answer in read) / len(read)
