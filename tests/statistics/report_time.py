"""How long analyses and report take: `report_time.py RESULTS MODELS REPLICATIONS VARIANTS`.

RESULTS is a folder with a run of both studies, whose analysis-ready tables are copied for each
model, variant and replication: generated answers are those of another prompt of the same cell, and
scored probabilities are moved a little, so that models differ. Prints, for each step, seconds, CPU
seconds and the memory of its process at its greatest, as `/usr/bin/time` measures them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import bundled_analyses
import report_page
from r_analysis import ROOT

CELLS = {1: ["access", "observe"], 2: ["Goal_simplified", "State_number"]}
ANSWERS = {1: r"probability_\d|Knowledge_A", 2: "Was_Wasnt|Assessment"}
SCORED = {1: r"(sampled_)?state\d_mean", 2: "(sampled_)?prob_(was|wasnt)_.*"}


def many(ready: Path, study: int, models: int, replications: int, variants: int) -> pd.DataFrame:
    """The table with so many models."""
    table = pd.read_csv(ready / f"study{study}.csv", low_memory=False)
    table = table[table["replication"] == table["replication"].min()].reset_index(drop=True)
    rng = np.random.default_rng(3)
    answers = list(table.filter(regex=f"^({ANSWERS[study]})$"))
    scored = list(table.filter(regex=f"^({SCORED[study]})$"))
    cells = list(table.groupby(CELLS[study]).indices.values())
    found = []
    for model in range(models):
        for variant in range(variants):
            moved = np.exp(0.3 * rng.normal(size=len(scored)))
            for replication in range(replications):
                one = table.copy()
                at = np.arange(len(one))
                for rows in cells:
                    at[rows] = rng.choice(rows, len(rows))
                one[answers] = table[answers].to_numpy()[at]
                one[scored] = table[scored] * moved
                if study == 2:
                    for prefix in ("", "sampled_"):
                        own = [name for name in scored if name.startswith(prefix + "prob_")]
                        one[own] = one[own].div(one[own].sum(axis=1), axis=0)
                else:
                    one[scored] = one[scored].clip(upper=100)
                one["model_key"] = one["model_name"] = f"m{model:02}"
                one["variant"] = f"v{variant}"
                one["prompt_id"] = one["prompt_id"] + f"-{variant}"
                one["replication"] = replication
                one["exp1_request_seed"] = rng.integers(2**40, size=len(one))
                found.append(one)
    return pd.concat(found)


def timed(what: str, code: str, job: Path) -> None:
    """Run R and say what it took."""
    measure = ["/usr/bin/time", "-f", f"{what}: %e s, %U + %S s of CPU, %M KiB"]
    done = subprocess.run(
        [*measure, "Rscript", "--vanilla", "-e", code, str(job)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    print(done.stderr.strip().splitlines()[-1], flush=True)


def analyse(folder: Path, study: int, table: pd.DataFrame) -> None:
    """What the rule of the analysis runs."""
    job = bundled_analyses.prepare(folder, study, table, generation=report_page.GENERATION)
    timed(f"study {study}", bundled_analyses.DRIVER, job)


def main(results: Path, models: int, replications: int, variants: int) -> None:
    """Make the tables, analyse both studies, write the report."""
    with tempfile.TemporaryDirectory() as name:
        made = {study: Path(name) / str(study) for study in (1, 2)}
        for study, folder in made.items():
            folder.mkdir()
            table = many(results / "analysis-ready", study, models, replications, variants)
            print(f"study {study}: {len(table)} rows of {models} models", flush=True)
            analyse(folder, study, table)

        def rscript(code: str, job: str) -> subprocess.CompletedProcess[str]:
            timed("report", code, Path(job))
            return subprocess.CompletedProcess([], 0)

        report_page.rscript = rscript
        page = report_page.render(Path(name) / "report", made)
        print(f"report.html: {page.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
