"""The R analyses on made data whose answers are computed here anew, with numpy and scipy."""

import csv
import functools
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from grace.pico.trained_on import theory
from grace.studies.analysis_files import SHARED

ROOT = Path(__file__).resolve().parents[2]
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
DRIVER = """
job <- jsonlite::read_json(commandArgs(TRUE)[1])
parts <- c("models", "figures", "agreement", "analysis")
own <- sprintf("../studies/study%d/%s.R", job$study, parts)
library(ggplot2)
for (name in c(unlist(job$shared), own)) {
  source(file.path(job$scripts, name))
}
analyse(job$input, job$output, job$params)
"""


def rscript(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert shutil.which("Rscript"), "R is missing: install the packages of envs/r-packages.txt"
    command = ["Rscript", "--vanilla", "-e", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)


def launch(
    folder: Path, study: int, rows: list[dict], participants: list[dict] = (), **params
) -> subprocess.CompletedProcess[str]:
    """Write the study's inputs, run its analysis, and leave its outputs in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([as_sampled(study, row) for row in rows]).to_csv(folder / "ready.csv", index=False)
    write_references(folder, participants)
    output = {name: str(folder / f"{name}.csv") for name in TABLES[study]}
    output |= {name: str(folder / f"{name}.png") for name in FIGURES[study]}
    job = {
        "scripts": str(ROOT / "scripts"),
        "shared": SHARED,
        "study": study,
        "input": {
            "ready": str(folder / "ready.csv"),
            "reference": str(folder / f"reference_study{study}.csv"),
            "published": str(PUBLISHED),
        },
        "output": output,
        "params": {"seed": 7, "equivalence_margin": 10, **params},
    }
    (folder / "job.json").write_text(json.dumps(job))
    return rscript(DRIVER, str(folder / "job.json"))


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


def analyse(folder: Path, study: int, rows: list[dict], **params) -> dict[str, pd.DataFrame]:
    done = launch(folder, study, rows, **params)
    assert done.returncode == 0, done.stderr
    for name in FIGURES[study]:
        picture = (folder / f"{name}.png").read_bytes()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n", name
        assert len(picture) > 5000, name
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


@pytest.fixture(scope="module")
def bets():
    return made_bets()


@pytest.fixture(scope="module")
def study1(tmp_path_factory, bets):
    return analyse(tmp_path_factory.mktemp("study1"), 1, study1_rows(bets, knows_made))


def jsd(p, q):
    p, q = np.asarray(p, float) / np.sum(p), np.asarray(q, float) / np.sum(q)
    m = (p + q) / 2
    return sum(
        0.5 * x * math.log2(x / y) for a in (p, q) for x, y in zip(a, m, strict=True) if x > 0
    )


def wilson(n, total):
    interval = stats.binomtest(int(n), int(total)).proportion_ci(method="wilson")
    return interval.low, interval.high


def share_interval(values, items, counted=True):
    """Wilson's interval of the effective number of answers, with t over items, as documented."""
    values, items = np.asarray(values, float), np.asarray(items)
    groups = [values[items == item] for item in sorted(set(items))]
    means, sizes = np.array([g.mean() for g in groups]), np.array([len(g) for g in groups])
    count, p = len(groups), float(np.mean(means))
    if np.ptp(means) < 1e-9:
        assert counted
        effective = sizes.sum()
    else:
        middle = (1 - 2 * p) ** 2
        half = 0.5 if counted else 0
        yes, no = means * sizes + half, (1 - means) * sizes + half
        noise = np.mean(1 / yes + 1 / no) if counted else 0
        spread = np.var(np.log(yes / no), ddof=1)
        seen = spread > noise * stats.chi2.ppf(0.95, count - 1) / (count - 1)
        between = spread - noise
        drawn = np.mean(1 / sizes) / count / (p * (1 - p)) if counted else 0
        plain = np.var(means, ddof=1) / count / (p * (1 - p)) ** 2
        skewed = between / count + middle / 2 * between**2 / (count - 1) + drawn
        error = plain + middle * max(0, skewed - plain) if seen else plain
        effective = 1 / (p * (1 - p) * error)
    q = stats.t.ppf(0.975, count - 1)
    centre = (p + q**2 / (2 * effective)) / (1 + q**2 / effective)
    width = q * math.sqrt(p * (1 - p) / effective + q**2 / (4 * effective**2))
    width /= 1 + q**2 / effective
    return (0 if p <= 0 else centre - width), (1 if p >= 1 else centre + width)


def one(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1, f"{where}: {len(table)} rows"
    return table.iloc[0]


def values(bets, cell, experiment):
    draws = range(4) if experiment == "exp1" else [None]
    return np.array([[bets(cell, story, d) for d in draws] for story in STORIES])


def benjamini_hochberg(p):
    return stats.false_discovery_control(p, method="bh")


def test_cell_means_and_distances(study1, bets):
    for experiment in ("exp1", "exp2"):
        for a, o in CELLS:
            mean = values(bets, (a, o), experiment).mean((0, 1))
            where = {"model_key": "m", "experiment": experiment, "access": a, "observe": o}
            for state in range(4):
                row = one(study1["cells"], **where, state=state)
                assert row["bet"] == pytest.approx(mean[state])
                assert row["n_prompts"] == row["n_items"] == 6
                assert row["n_answers"] == (24 if experiment == "exp1" else 6)
                copies = "" if experiment == "exp1" else "18 copies not counted"
                assert (row["note"] if copies else "") == copies
                by_story = values(bets, (a, o), experiment)[:, :, state].mean(1)
                if (by_story > 0).all() and (by_story < 100).all():
                    limits = np.array(share_interval(by_story / 100, STORIES, counted=False))
                    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(100 * limits))
            row = one(study1["distances"], **where, reference="rsa")
            p, q = mean / mean.sum(), np.array(RSA[a, o]) / sum(RSA[a, o])
            assert row["jsd_bits"] == pytest.approx(jsd(p, q), abs=1e-9)
            assert row["emd_states"] == pytest.approx(np.abs(np.cumsum(p - q)).sum(), abs=1e-9)
            assert row["jsd_low"] <= row["jsd_corrected"] <= row["jsd_high"]


def test_copies_of_an_answer_change_no_interval_and_are_counted_apart():
    """Greedy answers and measurements asked again, and one seed asked twice, are copies."""
    code = """
    for (name in c("common", "statistics", "inference")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    answers <- function(experiment, seeds) data.frame(
      label = "m", experiment = experiment, prompt_id = rep(1:8, 2), item = rep(1:4, 4),
      request_seed = seeds, x = rep(c(0, 0, 1, 1, 0, 1, 0, 1), 2)
    )
    shown <- function(rows, greedy) {
      rows <- collapse_copies(rows, "x", greedy)
      share <- share_by_item(rows$x, rows$item, TRUE)
      cat(nrow(rows), copies_note(rows), share$low, share$high, "", sep = ";")
    }
    shown(answers("exp1", 1:16), FALSE)
    shown(answers("exp1", 1:16)[1:8, ], FALSE)
    shown(answers("exp1", 1:16), TRUE)
    shown(answers("exp1", rep(1:8, 2)), FALSE)
    shown(answers("exp2", 1:16), FALSE)
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    parts = done.stdout.split(";")
    drawn, once, greedy, seeded, measured = (parts[i : i + 4] for i in range(0, 20, 4))
    assert drawn[:2] == ["16", ""]
    assert once[:2] == ["8", ""]
    for copied in (greedy, seeded, measured):
        assert copied[:2] == ["8", "8 copies not counted"]
        assert copied[2:] == once[2:]


def test_jackknife_is_the_t_interval_of_a_mean_and_takes_the_bias_of_a_square():
    code = """
    for (name in c("common", "statistics", "inference")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    x <- matrix(c(10, 20, 40, 50, 70, 90))
    mean <- jackknife(x, function(v) v)
    square <- jackknife(x, function(v) v^2)
    cat(mean$estimate, mean$low, mean$high, square$estimate)
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    mean, low, high, square = map(float, done.stdout.split())
    x = np.array([10, 20, 40, 50, 70, 90])
    expected = stats.ttest_1samp(x, 0).confidence_interval()
    assert mean == pytest.approx(x.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert square == pytest.approx(x.mean() ** 2 - x.var(ddof=1) / 6)


def test_one_answer_an_item_has_the_exact_interval_and_test_by_mid_p():
    code = """
    for (name in c("common", "statistics", "inference")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    for (count in 0:6) {
      share <- share_by_item(rep(c(1, 0), c(count, 6 - count)), 1:6, TRUE)
      cat(share$low, share$high, test_share(share, 0.125), "")
    }
    # Greedy copies of one item differ, so that its mean is half: no count, and no exact interval.
    share <- share_by_item(c(1, 1, 0.5, 0, 0, 0), 1:6, TRUE)
    cat(share$low, share$high, test_share(share, 0.125), share$exact + 0)
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    assert "non-integer" not in done.stderr
    *found, low, high, p, exact = map(float, done.stdout.split())
    assert exact == 0
    assert low < 2.5 / 6 < high
    assert (p >= 0.05) == (low <= 0.125)
    found = np.array(found).reshape(7, 3)
    assert found[2, 1] - 0.1 < high, "no number between two counts has a lower limit than both"

    def below(count, share):
        return stats.binom.cdf(count, 6, share) - stats.binom.pmf(count, 6, share) / 2

    for count, (low, high, p) in enumerate(found):
        assert low == 0 if count == 0 else below(count, low) == pytest.approx(0.975, abs=1e-6)
        assert high == 1 if count == 6 else below(count, high) == pytest.approx(0.025, abs=1e-6)
        assert p == pytest.approx(2 * min(below(count, 0.125), 1 - below(count, 0.125)))
        assert (p >= 0.05) == (low <= 0.125 <= high), "the interval is what the test accepts"
    held = [0.0 <= 0.5 <= high and low <= 0.5 for low, high, _ in found]
    assert sum(stats.binom.pmf(np.flatnonzero(held), 6, 0.5)) == pytest.approx(0.96875)


def test_separated_coefficients_have_no_number_and_the_others_keep_theirs():
    """One cell is never negated: its log odds do not exist, those of the other cells do."""
    code = """
    for (name in c("common", "statistics", "inference", "mixed_models")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    cells <- expand.grid(item = 1:12, b = c("x", "y"), a = c("s", "t"))
    cells$yes <- rep(c(6, 12, 9, 0), each = 12) + rep(c(-2, 0, 2), 16)
    cells$yes[cells$a == "t" & cells$b == "y"] <- 0
    cells$no <- 20 - cells$yes
    for (formula in c("a * b", "a * b + (1 | item)")) {
      f <- as.formula(paste("cbind(yes, no) ~", formula))
      out <- describe_mixed(fit_mixed(f, cells, "binomial"), "binomial", 960, formula)
      cat(is.na(out$estimate[1:4]), round(out$estimate[2], 1), "|", out$note[1], "\\n")
    }
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    for line in done.stdout.splitlines():
        numbers, note = line.split(" | ")
        assert numbers.split()[:4] == ["FALSE", "FALSE", "FALSE", "TRUE"]
        assert float(numbers.split()[4]) == pytest.approx(0.6, abs=0.2)
        assert "separated data" in note
        assert "1 of the 4 coefficients" in note


def test_intervals_cover_and_tests_keep_their_level_in_a_few_simulated_runs():
    """`make test-statistics` makes many runs of all designs, and of all that is simulated."""
    some = "^(shares of counted answers|distances)$"
    command = ["Rscript", "--vanilla", "tests/statistics/run.R", "--quick", "--only", some]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| JSD, 12 items | coverage |" in done.stdout


def test_planned_contrasts(study1, bets):
    published = pd.read_csv(PUBLISHED)
    for experiment in ("exp1", "exp2"):
        table = study1["contrasts"]
        table = table[table["experiment"] == experiment].reset_index(drop=True)
        assert len(table) == len(published) == 8
        p = []
        for (_, plan), (_, row) in zip(published.iterrows(), table.iterrows(), strict=True):
            data = values(bets, (plan["access"], plan["observe"]), experiment)
            d = (data[:, :, plan["state_a"]] - data[:, :, plan["state_b"]]).mean(1)
            expected = stats.ttest_1samp(d, 0)
            assert row["difference"] == pytest.approx(d.mean())
            assert row["t"] == pytest.approx(expected.statistic)
            assert row["df"] == 5
            assert row["p"] == pytest.approx(expected.pvalue)
            low, high = expected.confidence_interval()
            assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
            human_p = 2 * stats.t.sf(abs(plan["t_signed_a_minus_b"]), plan["df"])
            assert row["human_t"] == plan["t_signed_a_minus_b"]
            assert row["human_p_two_sided"] == pytest.approx(human_p)
            holds = plan["t_signed_a_minus_b"] > 0 and human_p < 0.05
            assert row["human_pattern"] == ("holds" if holds else "cancelled")
            sides = (
                stats.ttest_1samp(d, -10, alternative="greater").pvalue,
                stats.ttest_1samp(d, 10, alternative="less").pvalue,
            )
            assert row["p_equivalence"] == pytest.approx(max(sides))
            p.append(expected.pvalue)
        assert table["p_bh"].to_numpy() == pytest.approx(benjamini_hochberg(p))
        sign = np.where(table["difference"] > 0, "holds", "reversed")
        outcome = np.where(table["p_bh"] < 0.05, sign, "undecided")
        outcome = np.where(table["p_equivalence"] < 0.05, "equivalent", outcome)
        assert list(table["model_pattern"]) == list(outcome)
        decided = table[outcome != "undecided"]
        same = (decided["model_pattern"] == "holds") == (decided["human_pattern"] == "holds")
        assert decided["same_pattern"].astype(bool).tolist() == same.tolist()
        assert table[outcome == "undecided"]["same_pattern"].isna().all()


def test_undecided_contrasts_never_agree_and_agreement_has_its_chance():
    code = """
    for (name in c("common", "statistics", "inference")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    cat(contrast_outcome(
      difference = c(20, 20, 1, -20, 5, 12, 0, -30), p = c(.01, .2, .9, .01, .01, NA, NA, NA),
      p_equivalence = c(.9, .6, .02, .9, .01, NA, NA, NA), sd = c(1, 1, 1, 1, 1, 0, 0, NA),
      margin = 10
    ), "")
    found <- decided_agreement(
      c(TRUE, TRUE, FALSE, NA), c(TRUE, TRUE, TRUE, FALSE), c(TRUE, TRUE, FALSE, FALSE)
    )
    cat(found$agree, found$decided, found$chance)
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    *outcomes, agree, decided, chance = done.stdout.split()
    assert outcomes == [
        *("holds", "undecided", "equivalent", "reversed", "equivalent", "holds", "equivalent", "NA")
    ]
    # All three hold in the model and two in people: two agree whichever they are.
    assert (agree, decided, chance) == ("2", "3", "2")


def state3_anova(folder: Path, bets: list[dict]) -> pd.DataFrame:
    keys = {"label": "m", "model_key": "m", "model_name": "m", "variant": "seed"}
    rows = pd.DataFrame([keys | {"experiment": "exp2"} | row for row in bets])
    rows["prompt_id"] = [f"{r.story_shortname}-{r.access}-{r.observe}" for r in rows.itertuples()]
    folder.mkdir(exist_ok=True)
    rows.to_csv(folder / "bets.csv", index=False)
    code = """
    path <- commandArgs(TRUE)[1]
    shared <- sprintf("scripts/lib/%s.R", c("common", "statistics", "inference", "item_tests"))
    for (name in c(shared, "studies/study1/models.R")) source(name)
    bets <- read.csv(file.path(path, "bets.csv"))
    bets <- collapse_copies(bets, "b3")
    write.csv(state3_anova(bets), file.path(path, "anova.csv"))
    """
    done = rscript(code, str(folder))
    assert done.returncode == 0, done.stderr
    return pd.read_csv(folder / "anova.csv")


def made_state3_bets():
    rng = np.random.default_rng(8)
    mean = {(a, o): 40 - 5 * a + 4 * o + 20 * ((a, o) == (3, 2)) for a, o in CELLS}
    return {
        story: {(a, o): mean[a, o] + rng.normal(0, 4) + o * rng.normal(0, 2) for a, o in CELLS}
        for story in STORIES
    }


def bet_rows(made, copies=1, **more):
    return [
        {"story_shortname": story, "access": a, "observe": o, "b3": bet} | more
        for story, bets in made.items()
        for (a, o), bet in bets.items()
        for _ in range(copies)
    ]


def test_anova_tests_each_effect_against_its_spread_over_stories(tmp_path):
    """One contrast: the paired t test; copies of answers change no number but none is counted."""
    made = made_state3_bets()
    table = state3_anova(tmp_path, bet_rows(made, copies=10))
    # What is left of cell 3/2 beside access and observe, each story a number.
    design = np.array(
        [[1, a == 2, a == 3, o == 2, o == 3, (a, o) == (3, 2)] for a, o in CELLS], float
    )
    y = np.array([[bets[cell] for cell in CELLS] for bets in made.values()])
    tested = stats.ttest_1samp(np.linalg.solve(design, y.T)[5], 0)
    row = one(table, term="access:observe")
    assert (row["f"], row["p"]) == pytest.approx((tested.statistic**2, tested.pvalue))
    assert (row["df_num"], row["df_den"], row["n_items"]) == (1, 5, 6)
    assert set(table["n_answers"]) == {36}, "ten rows of each prompt are one answer"
    assert table["note"].str.contains("324 copies not counted").all()

    # Two contrasts: sums of squares of the additive model, the error story by contrast.
    base = design[:, [0, 3, 4]]
    more = design[:, 1:3] - base @ np.linalg.lstsq(base, design[:, 1:3], rcond=None)[0]
    scores = y @ np.linalg.qr(more)[0]
    error = np.sum((scores - scores.mean(0)) ** 2) / 5
    row = one(table, term="access")
    assert row["f"] == pytest.approx(6 * np.sum(scores.mean(0) ** 2) / error)
    assert row["df_num"] == pytest.approx(2 * row["epsilon"])
    assert row["df_den"] == pytest.approx(10 * row["epsilon"])
    assert 0.5 <= row["epsilon"] <= 1
    assert row["p"] == pytest.approx(stats.f.sf(row["f"], row["df_num"], row["df_den"]))


def test_models_are_a_factor_and_each_is_paired_by_story(tmp_path):
    made = made_state3_bets()
    rng = np.random.default_rng(9)
    shift = dict(zip(STORIES, 6 + rng.normal(0, 5, 6), strict=True))
    other = {s: {c: bet + shift[s] for c, bet in bets.items()} for s, bets in made.items()}
    second = {"label": "n", "model_key": "n", "model_name": "n"}
    table = state3_anova(tmp_path, bet_rows(made) + bet_rows(other, **second))
    pooled = table[table["label"] == "all models"]
    tested = stats.ttest_1samp(list(shift.values()), 0)
    row = one(pooled, term="model")
    assert (row["f"], row["p"]) == pytest.approx((tested.statistic**2, tested.pvalue))
    # The two differ by the same in every cell of a story.
    alike = pooled[pooled["term"] != "model"]
    assert list(alike["term"]) == ["model:access", "model:observe", "model:access:observe"]
    assert alike["p"].isna().all()
    assert alike["note"].str.contains("no F exists").all()


def test_anova_says_what_it_leaves_out_and_why_it_has_no_test(tmp_path):
    made = made_state3_bets()
    holed = {story: dict(bets) for story, bets in made.items()}
    del holed[STORIES[0]][3, 2]
    table = state3_anova(tmp_path / "a", bet_rows(holed))
    assert set(table["n_items"]) == {5}
    assert table["note"].str.contains("stories with no usable answer in some cell").all()
    assert table["p"].notna().all()
    table = state3_anova(tmp_path / "b", bet_rows({STORIES[0]: made[STORIES[0]]}))
    assert table["p"].isna().all()
    assert table["note"].str.contains("needs two stories").all()
    full = {s: {c: b for c, b in bets.items() if c[0] == 3} for s, bets in made.items()}
    table = state3_anova(tmp_path / "c", bet_rows(full))
    assert one(table, term="access")["note"] == "only one level of access"
    assert not math.isnan(one(table, term="observe")["p"])


def test_knowledge_and_cancellation(study1, bets):
    said = {
        a: np.array(
            [
                knows_made(cell, story, d) == "yes"
                for cell in CELLS
                if cell[0] == a
                for story in STORIES
                for d in range(4)
            ]
        )
        for a in (1, 2, 3)
    }
    for a in (1, 2, 3):
        row = one(study1["knowledge"], experiment="exp1", access=a)
        assert row["p_knows"] == pytest.approx(said[a].mean())
        assert row["ci_low"] <= row["p_knows"] <= row["ci_high"]
        stories = np.tile(np.repeat(STORIES, 4), len(said[a]) // 24)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(share_interval(said[a], stories))
        row = one(study1["knowledge"], experiment="exp2", access=a)
        assert row["p_knows"] == pytest.approx(0.9 if a == 3 else 0.2)

    def index(keep):
        def side(cell, story):
            return np.mean([
                bets(cell, story, d)[2] - bets(cell, story, d)[3]
                for d in range(4)
                if keep(cell, story, d)
            ])  # fmt: skip

        return np.array([side((3, 2), story) - side((2, 2), story) for story in STORIES])

    def right(cell, story, draw):
        return (knows_made(cell, story, draw) == "yes") == (cell[0] == 3)

    where = {"experiment": "exp1", "word": "two"}
    every = one(study1["cancellation"], filter="all answers", **where)
    by_story = index(lambda *_: True)
    expected = stats.ttest_1samp(by_story, 0)
    limits = expected.confidence_interval()
    assert every["index"] == pytest.approx(by_story.mean())
    assert every["rsa"] == pytest.approx((98 - 2) - (38 - 62))
    assert (every["ci_low"], every["ci_high"]) == pytest.approx((limits.low, limits.high))
    assert (every["n_items"], every["outcome"]) == (6, "holds")
    kept = one(study1["cancellation"], filter="knowledge answered right", **where)
    assert kept["n_full"] == 22
    assert kept["index"] == pytest.approx(index(right).mean())


def test_agreement_and_quality(study1, bets):
    table = study1["agreement"].set_index("measure")["value"]
    pairs = [
        (np.mean([bets(c, s, d) for d in range(4)], axis=0), bets(c, s, None))
        for c in CELLS
        for s in STORIES
    ]
    same = np.mean([np.argmax(g) == np.argmax(e) for g, e in pairs])
    assert table["same favourite state (share of prompts)"] == pytest.approx(same)
    distance = np.mean([jsd(g, e) for g, e in pairs])
    assert table["JSD of bets (bits, mean over prompts)"] == pytest.approx(distance)
    total = np.mean([np.sum(bets(c, s, d)) for c in CELLS for s in STORIES for d in range(4)])
    assert table["sum of the four generated bets (mean, %)"] == pytest.approx(total)
    row = one(study1["quality"], experiment="exp2")
    assert row["trials"] == row["usable"] == 144
    assert row["replications"] == 2
    assert row["option_mass_min"] == pytest.approx(0.96)
    assert pd.isna(row["first_answer"]), "measurements are no answers"
    assert one(study1["quality"], experiment="exp1")["first_answer"] == "2025-03-01T10:00:00Z"


def drawn_bets(rng, sampled):
    """Rows whose bets were drawn from distributions as sampled, of `sampled` bets of 100."""
    steps = np.arange(0, 101, 10)
    rows = study1_rows(lambda *_: [25] * 4, lambda *_: "yes", draws=20)
    means = {}
    for row in rows:
        for state in range(4):
            p = sampled[(row["access"], row["observe"])][state]
            row |= {f"sampled_state{state}_prob_{s}": x for s, x in zip(steps, p, strict=True)}
            row[f"sampled_state{state}_mean"] = means[state] = float(p @ steps)
            row[f"probability_{state}"] = int(rng.choice(steps, p=p))
        row |= {
            "sampled_prob_knowledge_yes": 0.7,
            "Knowledge_A": rng.choice(["yes"] * 7 + ["no"] * 3),
        }
    return rows


def test_bets_are_compared_at_the_temperature_that_they_were_sampled_with(tmp_path):
    rng = np.random.default_rng(2)
    sampled = {cell: [rng.dirichlet([0.5] * 11) for _ in range(4)] for cell in CELLS}
    tables = analyse(
        tmp_path,
        1,
        drawn_bets(rng, sampled),
        bootstrap_draws=20,
        generation={"temperature": 0.7, "top_p": 1, "max_tokens": 9},
    )
    found = tables["agreement"].set_index("measure")
    assert list(found["temperature"]) == [0.7] * 6 + [1] * 2
    for measure in found.index[:4]:
        row = found.loc[measure]
        assert row["sampling_low"] <= row["value"] <= row["sampling_high"], measure
    distance = found.loc["JSD of bets (bits, mean over prompts)"]
    assert distance["value_low"] == pytest.approx(distance["value"])
    assert found.loc["sum of the four scored bets (mean, %)", "value"] == pytest.approx(100)


def test_constant_answers_are_noted_not_tested(tmp_path):
    def same(cell, story, draw):
        return [10, 20, 30, 40]

    rows = study1_rows(same, lambda *_: "yes", exps=("exp1",), stories=STORIES[:2])
    tables = analyse(tmp_path, 1, rows)
    assert set(tables["contrasts"]["experiment"]) == {"exp1"}
    assert tables["contrasts"]["t"].isna().all()
    assert tables["contrasts"]["p"].isna().all()
    assert tables["contrasts"]["note"].str.contains("constant").all()
    first = one(tables["contrasts"], access=3, observe=2)
    assert first["difference"] == pytest.approx(-10)
    assert first["model_pattern"] == "reversed"
    assert tables["anova"]["note"].str.contains("constant data: every cell mean is 40").all()
    assert tables["anova"]["f"].isna().all()
    unanswered = tables["agreement"].iloc[:4]
    assert unanswered["note"].eq("experiment 2 has no usable answer").all()


def test_missing_column_names_file_and_column(tmp_path, bets):
    rows = study1_rows(bets, knows_made, draws=1)
    for row in rows:
        del row["prompt_id"]
    done = launch(tmp_path, 1, rows)
    assert done.returncode != 0
    assert f"{tmp_path / 'ready.csv'}: missing column(s): prompt_id" in done.stderr


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


@pytest.fixture(scope="module")
def choices():
    return made_choices()


@pytest.fixture(scope="module")
def study2(tmp_path_factory, choices):
    return analyse(tmp_path_factory.mktemp("study2"), 2, study2_rows(*choices))


def counts(generated, goal, state):
    said = [x for x in generated[goal, state] if x is not None]
    return np.bincount(said, minlength=8), len(said)


def said(generated, goal, state, options):
    """Whether each answer is one of these, and the answers' domains."""
    known = [(x in options, i % 12) for i, x in enumerate(generated[goal, state]) if x is not None]
    hits, domains = zip(*known, strict=True)
    return np.array(hits, float), np.array(domains)


def by_domain(hits, domains):
    return np.mean([hits[domains == domain].mean() for domain in set(domains)])


def test_proportions_are_those_of_domains(study2, choices):
    generated, scored = choices
    zeros = 0
    for goal in GOALS:
        for state in range(4):
            n, total = counts(generated, goal, state)
            for i, (frame, adjective) in enumerate(UTTERANCES):
                where = {"goal": goal, "state": state, "frame": frame, "assessment": adjective}
                row = one(study2["cells"], model_key="m", experiment="exp1", **where)
                assert (row["n"], row["total"], row["n_items"]) == (n[i], total, 12)
                hits, domains = said(generated, goal, state, [i])
                assert row["proportion"] == pytest.approx(by_domain(hits, domains))
                assert (row["ci_low"], row["ci_high"]) == pytest.approx(
                    share_interval(hits, domains)
                )
                assert row["chance"] == 0.125
                zeros += n[i] == 0 and row["ci_low"] == 0
                row = one(study2["cells"], model_key="m", experiment="exp2", **where)
                assert row["proportion"] == pytest.approx(scored[goal, state][i])
    assert zeros == sum((counts(generated, g, s)[0] == 0).sum() for g in GOALS for s in range(4))


def test_negation_rates_of_model_and_people(study2, choices):
    human = human_counts()
    for goal in GOALS:
        for state in range(4):
            n, total = counts(choices[0], goal, state)
            row = one(study2["negation"], model_key="m", experiment="exp1", goal=goal, state=state)
            hits, domains = said(choices[0], goal, state, [4, 5, 6, 7])
            assert (row["n"], row["total"]) == (n[4:].sum(), total)
            assert row["negation"] == pytest.approx(by_domain(hits, domains))
            assert (row["ci_low"], row["ci_high"]) == pytest.approx(share_interval(hits, domains))
            row = one(study2["negation"], model_key="human", goal=goal, state=state)
            expected = sum(human[goal, state, f, a][0] for f, a in UTTERANCES[4:])
            assert row["n"] == expected
            assert row["total"] == 203


def test_shares_are_tested_by_domain_and_agree_with_their_intervals(study2, choices):
    generated = choices[0]
    plans = [("primary", 0, [4], 1 / 8), ("wasn't amazing", 0, [7], 1 / 8)]
    plans.append(("was or wasn't", 1, [3, 7], 1 / 4))
    table = study2["tests"]
    p = []
    for text, state, options, null in plans:
        n, total = counts(generated, "both", state)
        hits = int(n[options].sum())
        mine = table[(table["model_key"] == "m") & table["test"].str.contains(text, regex=False)]
        row = one(mine, experiment="exp1")
        p.append(row["p"])
        assert (row["n"], row["total"], row["null"]) == (hits, total, null)
        assert (row["p"] < 0.05) == (not row["ci_low"] <= null <= row["ci_high"])
        scored = one(mine, experiment="exp2")
        assert math.isnan(scored["p"])
        assert "the same for every domain" in scored["note"]
        assert scored["proportion"] == pytest.approx(choices[1]["both", state][options].sum())
    mine = table[(table["model_key"] == "m") & (table["experiment"] == "exp1")]
    assert mine["p_bh"].to_numpy() == pytest.approx(benjamini_hochberg(p))
    people = table[(table["model_key"] == "human") & table["test"].str.contains("primary")]
    assert (people["n"].item(), people["total"].item()) == (73, 203)


def test_human_comparison(study2, choices):
    human = {k: n / total for k, (n, total) in human_counts().items()}
    cells = [(goal, state) for goal in GOALS for state in range(4)]
    people = {c: np.array([human[(*c, *u)] for u in UTTERANCES]) for c in cells}
    generated = {
        c: np.array([by_domain(*said(choices[0], *c, [i])) for i in range(8)]) for c in cells
    }
    fitted = {c: np.array([polite_rsa()[(*c, *u)] for u in UTTERANCES]) for c in cells}
    for key, experiment, mine in (
        ("m", "exp1", generated),
        ("m", "exp2", choices[1]),
        ("polite_rsa", "reference", fitted),
    ):
        row = one(study2["human_comparison"], model_key=key, experiment=experiment)
        x = np.concatenate([mine[c] for c in cells])
        y = np.concatenate([people[c] for c in cells])
        assert row["n_cells"] == 96
        assert row["r"] == pytest.approx(np.corrcoef(x, y)[0, 1])
        assert row["rmse"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
        assert row["jsd_bits"] == pytest.approx(np.mean([jsd(mine[c], people[c]) for c in cells]))
        for goal in GOALS:
            rate = [mine[goal, s][4:].sum() for s in range(4)]
            expected = (rate[0] + rate[1] - rate[2] - rate[3]) / 2
            assert row[f"indirectness_{goal}"] == pytest.approx(expected)
    row = one(study2["human_comparison"], model_key="polite_rsa")
    assert row["r"] ** 2 == pytest.approx(0.970, abs=0.001)
    assert row["rmse"] == pytest.approx(0.038, abs=0.001)
    assert row["jsd_bits"] == pytest.approx(0.021, abs=0.001)
    row = one(study2["human_comparison"], model_key="human")
    published = [row[f"indirectness_{goal}"] for goal in ("both", "informative", "social")]
    assert published == pytest.approx([0.70, 0.36, 0.43], abs=0.006)


def test_indirectness_lies_within_its_interval_where_domains_lack_a_state():
    """Eight of twelve domains always negate and lack 0 hearts: the other four alone count."""
    code = """
    for (name in c("common", "statistics", "inference")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    source("studies/study2/analysis.R")
    observed <- lapply(seq_len(nrow(goal_states)), function(i) {
      tilt <- if (goal_states$state[i] < 2) 0:3 - 1.5 else 0
      rate <- c(rep(1, 8), c(0.7, 0.6, 0.2, 0.1)[goal_states$state[i] + 1] + tilt / 100)
      if (goal_states$state[i] == 0) rate[1:8] <- NA
      means <- matrix(cbind(1 - rate, 0, 0, 0, rate, 0, 0, 0), 12)
      list(mean = colMeans(means, na.rm = TRUE), means = means)
    })
    found <- indirectness_by_domain(observed, 12)
    cat(unlist(found$numbers[1:3]), found$note, sep = ";")
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    estimate, low, high, note = done.stdout.split(";", 3)
    assert float(estimate) == pytest.approx(0.5)
    assert float(low) < 0.5 < float(high)
    assert "goal informative, without domains that lack a state: 8" in note


def participants_of(seed=1, people=203):
    """What each of the people said, one answer a cell; who said what is not published."""
    rng = np.random.default_rng(seed)
    rows = []
    for goal in GOALS:
        for state in range(4):
            said = [
                each for each in UTTERANCES for _ in range(human_counts()[goal, state, *each][0])
            ]
            for person, place in enumerate(rng.permutation(len(said))[:people]):
                frame, assessment = said[place]
                rows.append(
                    {"source": "human", "participant": f"p{person}", "goal": goal, "state": state,
                     "frame": frame, "assessment": assessment, "n": 1, "total": 1,
                     "probability": 1}
                )  # fmt: skip
    return rows


def test_people_by_participant_have_a_ceiling_and_models_a_noise_band(tmp_path):
    cells = [(goal, state) for goal in GOALS for state in range(4)]
    exact = {c: np.array([human_counts()[(*c, *u)][0] for u in UTTERANCES]) / 203 for c in cells}
    rng = np.random.default_rng(3)
    # Another 203 people of the same kind, and answers as theirs.
    others = {c: rng.multinomial(203, exact[c]) / 203 for c in cells}
    drawn = {c: [int(x) for x in rng.choice(8, 240, p=others[c])] for c in cells}
    found = analyse(tmp_path, 2, study2_rows(drawn, exact), participants=participants_of())
    comparison = found["human_comparison"]
    halves = one(comparison, model_key="human: half against half")
    assert halves["r"] == pytest.approx(0.9877, abs=0.002)
    assert halves["rmse"] == pytest.approx(0.0345, abs=0.001)
    assert halves["jsd_bits"] == pytest.approx(0.0231, abs=0.001)
    assert "203 participants" in halves["note"]
    spearman_brown = re.search(r"r would be (0\.\d{4}) \(Spearman-Brown\)", halves["note"])
    assert float(spearman_brown[1]) == pytest.approx(2 * halves["r"] / (1 + halves["r"]), abs=1e-4)
    # A model that chooses as such people do lies in the band, a copy of these people below it.
    sampled, copied = (one(comparison, model_key="m", experiment=e) for e in ("exp1", "exp2"))
    for name, column in (("jsd", "jsd_bits"), ("rmse", "rmse"), ("r", "r")):
        assert sampled[f"{name}_noise_low"] <= sampled[column] <= sampled[f"{name}_noise_high"]
    assert copied["rmse"] == pytest.approx(0, abs=1e-12)
    target = np.concatenate([exact[c] for c in cells])
    again = np.hstack([rng.multinomial(203, exact[c], 2000) for c in cells]) / 203
    errors = np.sqrt(np.mean((again - target) ** 2, axis=1))
    limits = np.quantile(errors, [0.025, 0.975])
    assert [copied["rmse_noise_low"], copied["rmse_noise_high"]] == pytest.approx(limits, rel=0.05)
    # Each answered each cell once, so that answers are as independent as people.
    row = one(found["cells"], label="human", experiment="reference", goal="both", state=0,
              frame="wasn't", assessment="terrible")  # fmt: skip
    q, p, size = stats.t.ppf(0.975, 202), 73 / 203, 202
    half = q * math.sqrt(p * (1 - p) / size + q**2 / (4 * size**2)) / (1 + q**2 / size)
    middle = (p + q**2 / (2 * size)) / (1 + q**2 / size)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((middle - half, middle + half))
    people = one(comparison, model_key="human")
    assert (
        people["indirectness_both_low"]
        < people["indirectness_both"]
        < people["indirectness_both_high"]
    )
    assert math.isnan(people["rmse"])


def test_people_who_answer_alike_are_the_units_of_their_interval():
    """Ten answers of each of 30 people, who always say the same: 30 answers, not 300."""
    code = """
    for (name in c("common", "statistics", "inference", "people")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    hits <- rep(c(10, 0), c(12, 18))
    limits <- share_by_participant(hits, rep(10, 30), 0.4)
    keys <- matrix(c("a yes", "b yes", "a no", "b no"), 2)
    own <- data.frame(
      participant = rep(1:30, each = 2), key = paste(c("a", "b"), rep(c("yes", "no"), c(24, 36))),
      n = 10
    )
    people <- people_sample(keys, data.frame(key = c(keys), n = c(120, 120, 180, 180)), own)
    alone <- people_sample(keys, data.frame(key = c(keys), n = c(120, 120, 180, 180)))
    bands <- lapply(list(people, alone), noise_band, c(Inf, Inf), 1)
    few <- people_ceiling(of_cells(people_sample(keys, own[1:2, ], own[1:2, ]), 1:2), 1)
    cat(
      limits$low, limits$high, limits$p, bands[[1]]$rmse_noise_high, bands[[2]]$rmse_noise_high,
      is.na(few$r), few$note
    )
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    low, high, p, by_person, by_answer, missing, *note = done.stdout.split()
    q, size = stats.t.ppf(0.975, 29), 29
    half = q * math.sqrt(0.24 / size + q**2 / (4 * size**2)) / (1 + q**2 / size)
    middle = (0.4 + q**2 / (2 * size)) / (1 + q**2 / size)
    assert [float(low), float(high)] == pytest.approx([middle - half, middle + half], abs=1e-5)
    assert float(p) == pytest.approx(1)
    # Shares of 30 people, all of whose cells go up and down together, or of 300 answers.
    assert float(by_person) == pytest.approx(1.96 * math.sqrt(0.24 / 30), rel=0.15)
    assert float(by_answer) < 0.5 * float(by_person)
    assert (missing, " ".join(note)) == ("TRUE", "too few participants to part into halves")


def test_sampling_floor_of_the_divergence():
    """Bits of n draws against 203 people: 20 .054, 50 .026, 100 .016, 200 .011."""
    people = human_counts()
    rows = [
        [people[goal, state, *u][0] for u in UTTERANCES] for goal in GOALS for state in range(4)
    ]
    code = f"""
    source("scripts/lib/statistics.R")
    counts <- matrix(c({",".join(str(n) for row in rows for n in row)}), ncol = 8, byrow = TRUE)
    for (size in c(20, 50, 100, 200, Inf)) {{
      cat(mean(apply(counts, 1, function(n) jsd_floor(n / sum(n), size, 203, 400, 1))), "")
    }}
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    floors = [float(x) for x in done.stdout.split()]
    assert floors == sorted(floors, reverse=True)
    assert floors[:4] == pytest.approx([0.054, 0.026, 0.016, 0.011], abs=0.001)


def test_mixed_model_recovers_the_log_odds_of_each_state(study2):
    table = study2["glmer"]
    for state in (1, 2, 3):
        step = one(table, kind="coefficient", term=f"state{state}")
        assert step["estimate"] == pytest.approx(-1.0 * state, abs=4 * step["se"])
        assert step["se"] < 0.3
        assert step["n"] == 12 * 240 - 1
    assert set(table["formula"]) == {
        "negation ~ state * goal + (1 | item) + (1 | item:state) + (1 | item:goal)"
    }
    assert set(table["kind"]) == {"coefficient", "random effect (sd)"}
    assert "p" not in table, "a test of 12 items stands in the analysis of variance"
    assert table[table["singular"]]["note"].str.contains("singular fit: no variance left").all()


def test_negation_is_tested_by_domain_in_both_experiments(study2, choices):
    table = study2["anova"]
    state = one(table, experiment="exp1", term="state")
    assert state["p"] < 1e-10
    assert state["df_num"] == pytest.approx(3 * state["epsilon"])
    assert state["df_den"] == pytest.approx(33 * state["epsilon"])
    assert (state["n_items"], state["n_answers"]) == (12, 12 * 240 - 1)
    assert one(table, experiment="exp1", term="goal")["p"] > 0.001
    # The made probabilities depend on the cell alone.
    scored = table[table["experiment"] == "exp2"]
    assert scored["p"].isna().all()
    assert scored["note"].str.contains("no variation between items").all()


AT_SEVEN = {"temperature": 0.7, "top_p": 1, "max_tokens": 9}


def tempered_rows(choices, bound=0.0):
    """Answers drawn from `choices`, which was measured as something flatter."""
    generated, sampled = choices
    flatter = {cell: np.sqrt(p) / np.sqrt(p).sum() for cell, p in sampled.items()}
    rows = study2_rows(generated, flatter)
    for row in rows:
        p = sampled[row["Goal_simplified"], row["State_number"]]
        for (frame, adjective), x in zip(UTTERANCES, p, strict=True):
            row[f"sampled_prob_{frame.replace(chr(39), '')}_{adjective}"] = x
        row["sampled_bound"] = bound
    return rows


def test_utterances_are_compared_at_the_temperature_that_they_were_sampled_with(tmp_path, choices):
    generated, sampled = choices
    tables = analyse(tmp_path, 2, tempered_rows(choices), bootstrap_draws=20, generation=AT_SEVEN)
    found = tables["agreement"]
    assert list(found["temperature"]) == [0.7] * 4
    distance, favourite, hits, chance = (found.iloc[i] for i in range(4))
    shares = {
        cell: np.bincount([x for x in said if x is not None], minlength=8)
        for cell, said in generated.items()
    }
    expected = np.mean([jsd(shares[cell], sampled[cell]) for cell in sampled])
    assert distance["value"] == pytest.approx(expected)
    # Of 240 draws of one of eight: 7 / (8 n ln 2).
    assert distance["sampling_mean"] == pytest.approx(7 / (8 * 240 * math.log(2)), rel=0.1)
    for row in (distance, favourite, hits, chance):
        assert row["sampling_low"] <= row["value"] <= row["sampling_high"], row["measure"]
        assert row["value_low"] == pytest.approx(row["value"])
        assert row["value_high"] == pytest.approx(row["value"])
    assert hits["sampling_mean"] == pytest.approx(
        np.mean([max(p) for p in sampled.values()]), abs=0.01
    )
    assert chance["sampling_mean"] == pytest.approx(
        np.mean([p @ p for p in sampled.values()]), abs=0.01
    )
    cells = tables["cells"].query("experiment == 'exp2'")
    assert cells["proportion"].max() < max(map(max, sampled.values())), "measured at temperature 1"


def test_what_the_residual_leaves_open_holds_every_distribution_that_it_allows(tmp_path, choices):
    bound = 0.02
    tables = analyse(
        tmp_path, 2, tempered_rows(choices, bound), bootstrap_draws=20, generation=AT_SEVEN
    )
    generated, sampled = choices
    found = tables["agreement"]
    assert (found["value_low"] < found["value"]).iloc[0]
    rng = np.random.default_rng(4)
    for _ in range(20):
        said, other = [], []
        for cell, p in sampled.items():
            move = rng.dirichlet([0.2] * 8) - rng.dirichlet([0.2] * 8)
            q = np.clip(p + move * bound / np.abs(move).sum(), 0, None)
            other.append(q / q.sum())
            assert np.abs(other[-1] - p).sum() / 2 <= bound
            said.append([x for x in generated[cell] if x is not None])
        counts = [np.bincount(xs, minlength=8) for xs in said]
        true = [
            np.mean([jsd(n, q) for n, q in zip(counts, other, strict=True)]),
            np.mean([np.argmax(n) == np.argmax(q) for n, q in zip(counts, other, strict=True)]),
            sum((np.array(x) == np.argmax(q)).sum() for x, q in zip(said, other, strict=True))
            / sum(map(len, said)),
            sum(q[x].sum() for x, q in zip(said, other, strict=True)) / sum(map(len, said)),
        ]
        assert (found["value_low"].to_numpy() <= np.array(true) + 1e-12).all()
        assert (found["value_high"].to_numpy() >= np.array(true) - 1e-12).all()


def test_few_rows_of_one_experiment(tmp_path, choices):
    few = {("both", 0): [4, 4, 4]}
    tables = analyse(tmp_path, 2, study2_rows(few, choices[1], exps=("exp2",)))
    assert set(tables["glmer"]["note"]) == {"experiment 1 was not run or has no usable answer"}
    row = one(tables["human_comparison"], model_key="m")
    assert row["n_cells"] == 8
    assert row["note"].startswith("only 8 of the 96 cells have answers; the same for every domain")
    assert math.isnan(row["indirectness_both"])


def test_constant_answers_have_no_mixed_model(tmp_path, choices):
    same = {(goal, state): [2] * 6 for goal in GOALS for state in range(4)}
    tables = analyse(tmp_path, 2, study2_rows(same, choices[1], exps=("exp1",)))
    row = tables["glmer"].iloc[0]
    assert row["note"] == "constant data: none of the 72 answers is negated, so no model exists"
    rate = tables["negation"].query("model_key == 'm'")
    assert (rate["negation"] == 0).all()
    assert (rate["ci_low"] == 0).all()


def test_bets_out_of_range_do_not_count(tmp_path, bets):
    """Read, but not summing to 100 or not percentages: in the sums they are judged by, only."""
    rows = study1_rows(bets, knows_made)
    flags = {0: "exp1_out_of_range", 1: "exp1_unparsed;exp1_out_of_range", 2: "exp1_truncated"}
    for i, flag in flags.items():
        rows[i]["quality_flags"] = flag
    for i in (0, 1):
        rows[i] |= {"probability_0": 40, "probability_1": 40, "probability_2": 40}
        rows[i]["probability_3"] = 40
    rows[3]["probability_0"] = 140
    rows[4]["state0_mean"] = -3
    tables = analyse(tmp_path, 1, rows)
    quality = tables["quality"].set_index("experiment")
    assert quality["usable"].to_dict() == {"exp1": 144 - 3, "exp2": 144 - 1}
    cell = one(tables["cells"], model_key="m", experiment="exp1", access=1, observe=1, state=3)
    assert cell["n_answers"] == 24 - 3
    used = [row["probability_3"] for row in rows[2:24] if row is not rows[3]]
    stories = [np.mean(used[:1]), *(np.mean(used[i : i + 4]) for i in range(1, 21, 4))]
    assert cell["bet"] == pytest.approx(np.mean(stories)), "every story weighs the same"
    shares = one(
        tables["agreement"],
        measure="generated bets adding up to 100 within 1 (share of answers)",
    )
    assert shares["n"] == 144 - 1
    assert shares["value"] < 1


@pytest.mark.parametrize("exps", [("exp1",), ("exp1", "exp2")])
def test_answers_that_never_parse_leave_the_analyses_standing(tmp_path, bets, choices, exps):
    rows = study1_rows(bets, knows_made, exps=exps, draws=1)
    for row in rows:
        row |= {f"probability_{state}": None for state in range(4)} | {"Knowledge_A": None}
    tables = analyse(tmp_path / "1", 1, rows)
    assert one(tables["quality"], experiment="exp1")["usable"] == 0
    assert set(tables["contrasts"]["experiment"]) == set(exps) - {"exp1"}
    nothing = {(goal, state): [None] * 3 for goal in GOALS for state in range(4)}
    tables = analyse(tmp_path / "2", 2, study2_rows(nothing, choices[1], exps))
    assert one(tables["quality"], experiment="exp1")["usable"] == 0
    shown = tables["human_comparison"]
    assert set(shown["experiment"]) - {"reference"} == set(exps) - {"exp1"}
    assert set(shown["model_key"]) >= {"human", "polite_rsa"}


def test_a_model_named_like_people_is_not_taken_for_them(tmp_path, choices):
    code = """
    source("scripts/lib/common.R")
    rows <- data.frame(label = c("human", "human"), experiment = c("exp1", "reference"), x = 1:2)
    cat(reference_rows(rows, "human")$x)
    """
    done = rscript(code)
    assert done.stdout == "2", done.stderr


def test_marking_a_model_changes_no_number(tmp_path, bets):
    plain, marked = (
        analyse(tmp_path / name, 1, study1_rows(bets, knows_made), origins=origins)
        for name, origins in (("plain", {}), ("marked", {"m": "made of something else"}))
    )
    for name in TABLES[1]:
        own = marked[name]
        if "label" in own and len(own):  # no row without a second wording
            assert set(own[own["model_key"] == "m"]["label"]) == {"m \u2020"}
            own["label"] = own["label"].str.removesuffix(" \u2020")
        pd.testing.assert_frame_equal(plain[name], own)


def test_tables_are_read_whole_and_as_they_are(tmp_path):
    """A name may be "NA" or hold quotes; a row too many is no warning."""
    path = tmp_path / "table.csv"
    names = ["NA", 'a "b"', None, 'c ""d""', "e\nf,"]
    table = pd.DataFrame({"name": names, "n": [1, None, 3, 4, 5]})
    table.to_csv(path, index=False)
    code = """
    source("scripts/lib/common.R")
    path <- commandArgs(TRUE)[1]
    cat(jsonlite::toJSON(read_ready(path, "name", "n"), na = "null"))
    cat("1\\n2,3,4,5\\nNA,9", file = path, append = TRUE)
    invisible(read_ready(path, "name", "n"))
    """
    done = rscript(code, str(path))
    rows = json.loads(done.stdout)
    assert [row.get("name") for row in rows] == names
    assert [row.get("n") for row in rows] == [1, None, 3, 4, 5]
    assert done.returncode != 0
    assert str(path) in done.stderr
