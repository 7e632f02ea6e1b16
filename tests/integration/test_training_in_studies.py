"""What training changes in the studies: turned pairs, crossed random effects, form, judgement."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from r_analysis import jsd, one, rscript
from scipy import stats

DRIVER = """
for (name in c(
  "common", "statistics", "inference", "item_tests", "variance_components", "planned_precision",
  "model_comparison", "wordings", "training_comparison", "training_studies"
)) source(sprintf("scripts/lib/%s.R", name))
folder <- commandArgs(TRUE)[1]
rows <- read_csv(file.path(folder, "rows.csv"))
training <- list(
  base = "base", models = paste0("r.", rep(c("sft", "dpo"), 3), "-", rep(1:3, each = 2)),
  stages = rep(c("sft", "dpo"), 3), seeds = rep(1:3, each = 2)
)
measures <- list(list(name = "m", scale = 1, range = c(0, 1), rows = rows))
pairs <- cbind(study = "s", model_pairs(measures, 10))
differences <- stage_differences(pairs, training)
write <- function(table, name) write_result(table, file.path(folder, name), names(table))
write(differences, "differences.csv")
write(stages_over_seeds(differences, pairs, training), "seeds.csv")
write(format_changes(differences, training), "formats.csv")
# The same from the items themselves.
crossed <- bind(lapply(names(stage_steps(training$stages)), function(step) {
  bind(lapply(c("few", "zero"), function(variant) {
    own <- rows[rows$variant == variant, ]
    value <- function(model) tapply(own$value[own$model_key == model], own$item[
      own$model_key == model], mean)
    found <- bind(lapply(1:3, function(seed) {
      stages <- stage_steps(training$stages)[[step]]
      models <- vapply(stages, model_of_stage, "", training = training, seed = seed)
      change <- value(models[2]) - value(models[1])
      data.frame(value = unname(change), item = names(change), seed = seed)
    }))
    all <- mean_by_item_and_wording(found$value, found$item, found$seed)
    data.frame(comparison = step, variant = variant, mean = all$estimate, low = all$low,
      high = all$high, sd = all$sd_wording)
  }))
}))
write(crossed, "crossed.csv")
less <- pairs[pairs$model_a != "r.dpo-2" & pairs$model_b != "r.dpo-2", ]
write(stages_over_seeds(stage_differences(less, training), less, training), "two.csv")
cells <- read_csv(file.path(folder, "cells.csv"))
own <- list(
  section = list(label = "s", judged = list(value = "p", outcome = "o", cell = "c")),
  tables = list(cells = cells, quality = data.frame(
    model_key = rep(c("base", "r.sft-1"), 2), variant = "zero",
    experiment = rep(c("exp2", "exp1"), each = 2), option_mass_mean = c(.2, .9, NA, NA),
    option_mass_min = c(.1, .8, NA, NA), usable_percent = c(100, 100, 40, 95)
  ))
)
write(form_and_judgement(own, training), "form.csv")
"""
STEPS = {"base \u2192 SFT": ("base", "sft"), "SFT \u2192 DPO": ("sft", "dpo"),
         "base \u2192 DPO": ("base", "dpo")}  # fmt: skip
FORMATS = ("few", "zero")
BASE = {"a": (0.5, 0.3, 0.2), "b": (0.1, 0.1, 0.8)}
TRAINED = {"a": (0.2, 0.2, 0.6), "b": (0.2, 0.1, 0.7)}


def key(stage: str, seed: int) -> str:
    return "base" if stage == "base" else f"r.{stage}-{seed}"


@pytest.fixture(scope="module")
def scores() -> dict[tuple[str, str], np.ndarray]:
    rng = np.random.default_rng(4)
    item = rng.normal(0.5, 0.1, 12)
    found = {}
    for variant, (stage, seed) in itertools.product(
        FORMATS, [("base", 0), *itertools.product(("sft", "dpo"), (1, 2, 3))]
    ):
        level = {"base": 0, "sft": 0.15, "dpo": 0.2}[stage] + rng.normal(0, 0.05)
        found[variant, key(stage, seed)] = np.clip(item + level + rng.normal(0, 0.06, 12), 0, 1)
    return found


@pytest.fixture(scope="module")
def made(scores, tmp_path_factory) -> dict[str, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("stages")
    pd.DataFrame(
        {
            "label": f"{model} ({variant})", "model_key": model, "model_name": model,
            "variant": variant, "experiment": "exp2", "item": f"i{place:02d}", "cell": "a",
            "prompt": place, "replication": 0, "value": value,
        }
        for (variant, model), values in scores.items()
        for place, value in enumerate(values)
    ).to_csv(folder / "rows.csv", index=False)  # fmt: skip
    pd.DataFrame(
        {"model_key": model, "variant": "zero", "experiment": experiment, "c": cell, "o": outcome,
         "p": share}
        for model, cells in (("base", BASE), ("r.sft-1", TRAINED))
        for experiment, (cell, shares) in itertools.product(("exp1", "exp2"), cells.items())
        for outcome, share in enumerate(shares if experiment == "exp2" else (1, 0, 0))
    ).to_csv(folder / "cells.csv", index=False)  # fmt: skip
    done = rscript(DRIVER, str(folder))
    assert done.returncode == 0, done.stderr
    names = ("differences", "seeds", "formats", "crossed", "two", "form")
    return {name: pd.read_csv(folder / f"{name}.csv") for name in names}


def test_steps_are_later_less_earlier_paired_by_item_with_bh_over_steps_and_seeds(made, scores):
    found = made["differences"]
    assert len(found) == 2 * 3 * 3
    for variant in FORMATS:
        family = found[found["variant"] == variant]
        for seed, (step, (first, second)) in itertools.product((1, 2, 3), STEPS.items()):
            before, after = (scores[variant, key(stage, seed)] for stage in (first, second))
            row = one(family, seed=seed, comparison=step)
            test = stats.ttest_rel(after, before)
            low, high = test.confidence_interval()
            names = ["before", "after", "difference", "ci_low", "ci_high", "p"]
            assert [row[name] for name in names] == pytest.approx(
                [before.mean(), after.mean(), (after - before).mean(), low, high, test.pvalue]
            )
            h = 2 * math.asin(after.mean() ** 0.5) - 2 * math.asin(before.mean() ** 0.5)
            assert row["cohen_h"] == pytest.approx(h)
        assert family["p_bh"].to_numpy() == pytest.approx(
            stats.false_discovery_control(family["p"])
        )


def test_seeds_and_items_are_crossed_random_effects_as_from_the_items_themselves(made):
    for _, expected in made["crossed"].iterrows():
        found = one(made["seeds"], comparison=expected["comparison"], variant=expected["variant"])
        assert [found[n] for n in ("seeds", "mean", "ci_low", "ci_high", "sd_seed")] == (
            pytest.approx([3, *(expected[n] for n in ("mean", "low", "high", "sd"))])
        )


def test_fewer_than_three_seeds_have_no_interval_and_say_so(made):
    two = made["two"].set_index(["variant", "comparison"])
    row = two.loc[("zero", "SFT \u2192 DPO")]
    assert row["seeds"] == 2
    assert math.isnan(row["ci_low"])
    assert "2 training seeds" in row["note"]
    assert (
        two.loc[("zero", "base \u2192 SFT")]["ci_low"]
        < two.loc[("zero", "base \u2192 SFT")]["mean"]
    )


def test_format_is_a_factor_of_the_change(made, scores):
    for step, (first, second) in STEPS.items():
        changes = [
            [(scores[v, key(second, seed)] - scores[v, key(first, seed)]).mean() for v in FORMATS]
            for seed in (1, 2, 3)
        ]
        more = np.array([zero - few for few, zero in changes])
        found = one(made["formats"], comparison=step)
        assert found["formats"] == "zero less few"
        half = stats.t.ppf(0.975, 2) * more.std(ddof=1) / math.sqrt(3)
        assert [found["mean"], found["ci_low"]] == pytest.approx([more.mean(), more.mean() - half])


def test_form_is_option_mass_and_judgement_the_distribution_within_the_options(made):
    base, trained = one(made["form"], model="base"), one(made["form"], model="r.sft-1")
    assert (base["option_mass"], trained["option_mass"]) == (0.2, 0.9)
    assert (base["usable_percent"], trained["usable_percent"]) == (40, 95)
    assert math.isnan(base["jsd_bits"])
    assert trained["n_cells"] == 2
    assert trained["jsd_bits"] == pytest.approx(np.mean([jsd(BASE[c], TRAINED[c]) for c in BASE]))
    assert trained["same_favourite"] == 0.5
