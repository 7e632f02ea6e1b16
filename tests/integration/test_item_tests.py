"""Analyses of variance by item, against numpy and scipy."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bundled_analyses import CELLS, STORIES
from r_analysis import one, rscript
from scipy import stats


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
