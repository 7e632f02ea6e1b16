"""A control of the demo: SFT on answers that nobody judged, against SFT on accepted ones.

One training cannot show it: what a training's seed adds is larger than what is looked for. So each
of twenty seeds trains three times on as many rows, with the same number of updates: on the rows
that the judge accepted, on as many drawn from all answers, and on as many drawn from the rejected
ones. The design was fixed before it was run (docs/training.md); two processes take a quarter of an
hour, and `.venv-train` (make train-env).
"""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from demo_trainings import BASE, PYTHON, right, rows, trained
from scipy.stats import t as student_t
from workflow_project import ROOT, Project

from grace.pico_base import held_out
from grace.posttraining.token_rows import TrainingTokenizer, token_row, write_sft
from grace.results.records import read_json

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-train (make train-env)"),
]
SEEDS = range(1, 21)
ACCEPTED, ANY, REJECTED = "accepted", "any", "rejected"
ARMS = (ACCEPTED, ANY, REJECTED)
#: Processes at once, each on one thread.
AT_ONCE = 2


def rate(folder: Path, arm: str, seed: int) -> float:
    """Share of right answers after SFT on an arm's rows, in a process of its own."""
    project = Project(folder)
    selection: dict[str, Any] = read_json(folder / "results/training/demo/selection.json")
    accepted = {row["row_id"] for row in selection["rows"]}
    usable = [row for row in rows(project, "judged.json") if not row["flags"]]
    if arm == ACCEPTED:
        drawn = [row for row in usable if row["row_id"] in accepted]
    elif arm == ANY:
        drawn = random.Random(seed).sample(usable, len(accepted))
    else:
        # There are fewer of them than of the accepted, so that some are drawn more than once.
        rejected = [row for row in usable if row["row_id"] not in accepted]
        drawn = random.Random(seed).choices(rejected, k=len(accepted))
    assert len(drawn) == len(accepted)
    tokenizer = TrainingTokenizer("pico-base", held_out.entry(BASE), ROOT)
    form = held_out.constitution().format
    target = folder / f"{arm}-{seed}.parquet"
    made = [
        (f"{row['row_id']}-{place}", token_row(tokenizer, form, row["instruction"], row["answer"]))
        for place, row in enumerate(drawn)
    ]
    write_sft(target, made)
    return right(project, trained("sft", target, None, seed))


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean, and the ends of its 95% t interval."""
    margin = student_t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return fmean(values), fmean(values) - margin, fmean(values) + margin


@pytest.fixture(scope="module")
def rates(tmp_path_factory) -> dict[str, list[float]]:
    """By arm the share of right answers after each training."""
    project = Project.copied_to(tmp_path_factory.mktemp("unfiltered") / "project")
    selection = "results/training/demo/selection.json"
    project.run(
        selection, "--config", "models=[pico-base, demo.sft-1]", "limit=2", "replications=1"
    )
    jobs = [(arm, seed) for seed in SEEDS for arm in ARMS]
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(AT_ONCE, mp_context=spawning) as pool:
        found = [pool.submit(rate, project.folder, arm, seed) for arm, seed in jobs]
        shares = dict(zip(jobs, (one.result() for one in found), strict=True))
    return {arm: [shares[arm, seed] for seed in SEEDS] for arm in ARMS}


def test_the_worse_the_answers_the_less_they_teach(rates):
    print({arm: [round(one, 4) for one in found] for arm, found in rates.items()})
    for better, worse in ((ACCEPTED, ANY), (ANY, REJECTED)):
        both = zip(rates[better], rates[worse], strict=True)
        mean, low, high = interval([second - first for first, second in both])
        points = [f"{100 * value:+.2f}" for value in (mean, low, high)]
        print(f"{better} -> {worse}: {points[0]} points ({points[1]} to {points[2]})")
        assert high < 0
