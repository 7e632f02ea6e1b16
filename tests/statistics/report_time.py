"""How long statistics and report take: `report_time.py RESULTS MODELS REPLICATIONS VARIANTS`.

RESULTS is a folder with a run of studies 1 and 2, whose analysis-ready tables are copied for each
model, variant and replication: generated answers are those of another prompt of the same cell, and
scored probabilities are moved a little, so that models differ. Prints, for each step, seconds, CPU
seconds and the memory of its process at its greatest, as `/usr/bin/time` measures them, and at the
end what two cores need for all: analyses and fits of the studies run side by side, then the report.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import bundled_analyses as bundled
import report_page
from r_analysis import ROOT

TESTS = Path(__file__).parents[1]
CELLS = {1: ["access", "observe"], 2: ["Goal_simplified", "State_number"]}
ANSWERS = {1: r"probability_\d|Knowledge_A", 2: "Was_Wasnt|Assessment"}
SCORED = {1: r"(sampled_)?state\d_mean", 2: "(sampled_)?prob_(was|wasnt)_.*"}
FIT = """
import sys
from pathlib import Path
from bundled_studies import STUDIES
from grace.studies.theory_of_models import write_fits
write_fits(STUDIES[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3]), temperature=0.7)
"""


def many(ready: Path, study: int, models: int, replications: int, variants: int) -> pd.DataFrame:
    """The analysis-ready table with so many models."""
    table = pd.read_csv(ready / f"study{study}.csv", low_memory=False)
    table = table[table["replication"] == table["replication"].min()].reset_index(drop=True)
    rng = np.random.default_rng(3)
    answers = list(table.filter(regex=f"^({ANSWERS[study]})$"))
    cells = list(table.groupby(CELLS[study]).indices.values())
    found = []
    for model in range(models):
        for variant in range(variants):
            for replication in range(replications):
                one = moved(table, study, model, variant)
                at = np.arange(len(one))
                for rows in cells:
                    at[rows] = rng.choice(rows, len(rows))
                one[answers] = table[answers].to_numpy()[at]
                one["replication"] = replication
                one["exp1_request_seed"] = rng.integers(2**40, size=len(one))
                found.append(one)
    return pd.concat(found, ignore_index=True)


def many_ways(ready: Path, study: int, models: int, variants: int) -> pd.DataFrame:
    """The table of ways of scoring with so many models."""
    table = pd.read_csv(ready / f"scoring_methods_study{study}.csv", low_memory=False)
    return pd.concat(
        [moved(table, study, model, variant) for model in range(models) for variant in
         range(variants)], ignore_index=True,
    )  # fmt: skip


def moved(table: pd.DataFrame, study: int, model: int, variant: int) -> pd.DataFrame:
    """The table as another model's in another wording: its probabilities are moved a little."""
    one = table.copy()
    scored = list(table.filter(regex=f"^({SCORED[study]})$"))
    rng = np.random.default_rng([model, variant])
    one[scored] = table[scored] * np.exp(0.3 * rng.normal(size=len(scored)))
    if study == 2:
        for prefix in ("", "sampled_"):
            own = [name for name in scored if name.startswith(prefix + "prob_")]
            one[own] = one[own].div(one[own].sum(axis=1), axis=0)
    else:
        one[scored] = one[scored].clip(upper=100)
    one["model_key"] = one["model_name"] = f"m{model:02}"
    one["variant"] = f"v{variant}"
    one["prompt_id"] = one["prompt_id"] + f"-{variant}"
    return one


#: Seconds of CPU of each step.
SPENT: dict[str, float] = {}


def timed(what: str, command: Sequence[str | Path]) -> None:
    """Run a command and say what it took."""
    measure = ["/usr/bin/time", "-f", f"{what}: %e s, %U + %S s of CPU, %M KiB"]
    done = subprocess.run(
        [*measure, *map(str, command)], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    last = done.stderr.strip().splitlines()[-1]
    print(last, flush=True)
    SPENT[what] = sum(map(float, re.findall(r"([\d.]+) \+ ([\d.]+) s of CPU", last)[0]))


def rscript(code: str, job: Path | str) -> list[str]:
    return ["Rscript", "--vanilla", "-e", code, str(job)]


def analyse(folder: Path, study: int, results: Path, models: int, replications: int,
            variants: int) -> None:  # fmt: skip
    """What the rules `analysis` and `fit` run."""
    ready = results / "analysis-ready"
    table = many(ready, study, models, replications, variants)
    print(f"study {study}: {len(table)} rows of {models} models", flush=True)
    table.to_csv(folder / "ready.csv", index=False)
    table.to_parquet(folder / "ready.parquet", index=False)
    many_ways(ready, study, models, variants).to_csv(folder / "methods.csv", index=False)
    names = [(name, "csv") for name in (*bundled.TABLES[study], *bundled.SCORING_TABLES)]
    names += [(name, "png") for name in (*bundled.FIGURES[study], "scoring")]
    job = {
        "sources": bundled.sources(study),
        "figures": "whole",
        "input": {
            "ready": str(folder / "ready.csv"),
            "reference": str(ready / f"reference_study{study}.csv"),
            "published": str(bundled.PUBLISHED),
            "scoring_methods": str(folder / "methods.csv"),
        },
        "output": {name: str(folder / f"{name}.{kind}") for name, kind in names},
        "params": {"seed": 7, "equivalence_margin": 10, "generation": report_page.GENERATION},
    }
    (folder / "job.json").write_text(json.dumps(job))
    timed(f"analysis of study {study}", rscript(bundled.DRIVER, folder / "job.json"))
    paths = f"{TESTS / 'support'}:{ROOT / 'workflow/lib'}"
    fit = ["env", f"PYTHONPATH={paths}", sys.executable, "-c", FIT, f"study{study}"]
    timed(f"fit of study {study}", [*fit, folder / "ready.parquet", folder / "fits.csv"])


def main(results: Path, models: int, replications: int, variants: int) -> None:
    """Make the tables, analyse both studies, write the report."""
    with tempfile.TemporaryDirectory() as name:
        made = {study: Path(name) / str(study) for study in (1, 2)}
        for study, folder in made.items():
            folder.mkdir()
            analyse(folder, study, results.resolve(), models, replications, variants)
            report_page.TABLES[study] = [
                *bundled.TABLES[study],
                *bundled.SCORING_TABLES,
                "fits",
            ]
            report_page.FIGURE_FILES[study]["scoring"] = "scoring_methods"

        def run(code: str, job: str) -> subprocess.CompletedProcess[str]:
            timed("report", rscript(code, job))
            return subprocess.CompletedProcess([], 0)

        report_page.rscript = run
        page = report_page.render(Path(name) / "report", made)
        report = SPENT.pop("report")
        beside = max(sum(SPENT.values()) / 2, *SPENT.values())
        print(f"report.html: {page.stat().st_size / 1e6:.1f} MB")
        print(f"two cores: {beside + report:.0f} s, of which the report {report:.0f} s")
        if kept := [Path(path) for path in sys.argv[5:]]:
            shutil.copytree(name, kept[0], dirs_exist_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
