"""Checkpoints on held-out items: R's rates, paired tests, seeds and errors against scipy's.

The answers are made with known truth; R runs once for all of the file.
"""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from r_analysis import one, rscript
from scipy import stats

DRIVER = """
for (name in c("common", "statistics", "inference", "training_comparison")) {
  source(sprintf("scripts/lib/%s.R", name))
}
job <- jsonlite::read_json(commandArgs(TRUE)[1], simplifyVector = TRUE)
items <- bind(lapply(job$evaluations, read_evaluation))
tests <- evaluation_tests(items)
write <- function(table, name, columns = names(table)) {
  write_result(table, file.path(job$folder, paste0(name, ".csv")), columns)
}
write(evaluation_rates(items), "rates", rate_columns)
write(tests, "tests", test_table_columns)
write(evaluation_seeds(tests), "seeds", seed_columns)
write(evaluation_errors(items), "errors", error_columns)
write(training_losses(bind(Map(
  read_curve, job$curves$path, job$curves$stage, job$curves$seed
))), "losses", loss_columns)
grid <- expand.grid(gained = 0:40, lost = c(0:10, 400))
write(cbind(grid, p = mcnemar_exact(grid$gained, grid$lost)), "mcnemar")
# R's own: the exact test of a share of 1/2, and the score interval.
some <- grid[grid$gained + grid$lost > 0, ]
exact <- mapply(function(x, y) stats::binom.test(x, x + y)$p.value, some$gained, some$lost)
shares <- data.frame(right = c(0, 1, 7, 200, 399, 400), items = c(12, 12, 12, 400, 400, 400))
limits <- mapply(
  function(x, n) suppressWarnings(stats::prop.test(x, n, correct = FALSE)$conf.int),
  shares$right, shares$items
)
ours <- mapply(function(x, n) unlist(wilson(x, n)), shares$right, shares$items)
write(data.frame(
  mcnemar = max(abs(mcnemar_exact(some$gained, some$lost) - exact)),
  wilson = max(abs(unname(ours) - unname(limits)))
), "from_r")
set.seed(15)
# 1,000 items, of which 20 % change, four points more for the better.
drawn <- stats::rmultinom(4000, 1000, c(.12, .08, .80))
# An item that is there twice is refused: paired by its name, one of its verdicts would count.
twice <- rbind(items, items[items$evaluated == "sft-1", ][7, ])
refusal <- conditionMessage(tryCatch(evaluation_tests(twice), error = identity))
stopifnot(grepl("evaluation/sft-1.json holds item 0006 twice", refusal, fixed = TRUE))
cat(mean(mcnemar_exact(drawn[1, ], drawn[2, ]) < .05))
stopifnot(
  # By number, and without the rounds that are not there.
  identical(
    stages_in_order(c("online10", "dpo", "online2", "base")),
    c("base", "sft", "dpo", "online2", "online10")
  ),
  identical(
    names(stage_steps(c("base", "dpo"))), paste(c("base", "SFT", "base"), c("SFT", "DPO", "DPO"),
      sep = " \u2192 ")
  ),
  identical(
    show_evaluated(c("base", "base-few-shot", "sft-1", "dpo-2", "online3-1")),
    c("base", "base, few-shot", "SFT 1", "DPO 2", "online 3, seed 1")
  )
)
alone <- data.frame(
  measure = "strict", part = "all", comparison = "base \u2192 SFT", seed = 1:2,
  difference = c(.4, .5)
)
write(evaluation_seeds(alone), "two_seeds", seed_columns)
"""
TYPES = ("copy", "swap", "first", "last")
STEPS = {
    "base \u2192 SFT": ("base", "sft"),
    "SFT \u2192 DPO": ("sft", "dpo"),
    "DPO \u2192 online 1": ("dpo", "online1"),
    "online 1 \u2192 online 2": ("online1", "online2"),
    "base \u2192 DPO": ("base", "dpo"),
    "base \u2192 online 1": ("base", "online1"),
    "base \u2192 online 2": ("base", "online2"),
}
SEEDS = (1, 2, 3)
KINDS = ("empty", "truncated", "refusal", "another task", "wrong format", "wrong content")


@pytest.fixture(scope="module")
def said() -> dict[str, list[dict]]:
    """400 items of four types; better from stage to stage, and a little by seed."""
    rng = np.random.default_rng(7)
    ease = rng.normal(0, 1, 400)
    levels = {"base": -1.5, "base-few-shot": -0.5}
    levels |= {f"sft-{seed}": 0.9 + 0.1 * seed for seed in SEEDS}
    levels |= {f"dpo-{seed}": 1.8 + 0.1 * seed for seed in SEEDS}
    levels |= {f"online{k}-{seed}": 2 + 0.2 * k for k in (2, 1) for seed in SEEDS}
    found = {}
    for name, level in levels.items():
        right = rng.random(400) < 1 / (1 + np.exp(-level - ease))
        loose = right | (rng.random(400) < 0.1)
        kinds = rng.choice(KINDS, 400)
        found[name] = [
            {
                "item": f"{place:04d}", "type": TYPES[place % 4], "held_out": place % 4 == 3,
                "instruction": "x", "values": {}, "answer": "y", "strict": bool(right[place]),
                "loose": bool(loose[place]),
                "kind": "right" if right[place] else str(kinds[place]),
                "stop_reason": "length" if place % 50 == 0 else "stop", "flags": [],
            }
            for place in range(400)
        ]  # fmt: skip
    # One request failed: no verdict, and the item is left out of what needs one.
    found["sft-2"][5] |= {"strict": None, "loose": None, "kind": None, "stop_reason": None}
    return found


@pytest.fixture(scope="module")
def made(said, tmp_path_factory) -> tuple[dict[str, pd.DataFrame], str]:
    folder = tmp_path_factory.mktemp("evaluation")
    paths = []
    for name, items in said.items():
        paths.append(str(folder / f"{name}.json"))
        values = {"model": f"demo.{name}", "evaluated": name, "shots": 3 * ("few" in name)}
        (folder / f"{name}.json").write_text(json.dumps({**values, "items": items}))
    curve = "step,epoch,loss,learning_rate,seconds,reward_margin,reward_accuracy\n"
    (folder / "sft.csv").write_text(
        curve + "".join(f"{step},0.1,{3 - step / 20},0.001,{step},,\n" for step in range(1, 21))
    )
    (folder / "dpo.csv").write_text(curve + "1,0.1,0.69,0.001,2.5,0.01,0.5\n")
    job = {
        "folder": str(folder), "evaluations": paths,
        "curves": {
            "path": [str(folder / "sft.csv"), str(folder / "dpo.csv")], "stage": ["sft", "dpo"],
            "seed": [1, 1],
        },
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    done = rscript(DRIVER, str(folder / "job.json"))
    assert done.returncode == 0, done.stderr
    names = ("rates", "tests", "seeds", "errors", "losses", "mcnemar", "two_seeds", "from_r")
    return {name: pd.read_csv(folder / f"{name}.csv") for name in names}, done.stdout


def of_part(items: list[dict], part: str) -> list[dict]:
    wanted = {"all": (False, True), "trained types": (False,), "held-out types": (True,)}[part]
    return [item for item in items if item["held_out"] in wanted and item["strict"] is not None]


def test_rates_have_wilsons_intervals(made, said):
    rates = made[0]["rates"]
    for name, measure, part in itertools.product(
        said, ("strict", "loose"), ("all", "trained types", "held-out types")
    ):
        items = of_part(said[name], part)
        found = one(rates, evaluated=name, measure=measure, part=part)
        right = sum(item[measure] for item in items)
        limits = stats.binomtest(right, len(items)).proportion_ci(method="wilson")
        assert (found["items"], found["right"]) == (len(items), right)
        assert [found["rate"], found["low"], found["high"]] == pytest.approx(
            [right / len(items), limits.low, limits.high], abs=1e-9
        )
    types = rates[(rates["part"] == "type") & (rates["measure"] == "strict")]
    assert len(types) == len(said) * len(TYPES)
    whole = one(rates, evaluated="sft-2", measure="strict", part="all")
    assert (whole["items"], whole["unanswered"], whole["truncated"]) == (399, 1, 9)


def test_mcnemar_and_wilson_are_rs_own(made):
    found = made[0]["from_r"].iloc[0]
    assert max(found["mcnemar"], found["wilson"]) <= 1e-9


def test_steps_have_mcnemars_exact_p_bh_over_all_of_them_and_cohens_h(made, said):
    tests = made[0]["tests"]
    assert len(tests) == 2 * 3 * len(SEEDS) * len(STEPS)
    assert list(dict.fromkeys(tests["comparison"])) == list(STEPS)
    for measure, part in itertools.product(
        ("strict", "loose"), ("all", "trained types", "held-out types")
    ):
        family = tests[(tests["measure"] == measure) & (tests["part"] == part)]
        for seed, (comparison, (first, second)) in itertools.product(SEEDS, STEPS.items()):
            names = [side if side == "base" else f"{side}-{seed}" for side in (first, second)]
            sides = [{i["item"]: i[measure] for i in of_part(said[name], part)} for name in names]
            both = sorted(sides[0].keys() & sides[1].keys())
            before, after = (np.array([side[item] for item in both], float) for side in sides)
            gained, lost = int(((1 - before) * after).sum()), int((before * (1 - after)).sum())
            found = one(family, seed=seed, comparison=comparison)
            assert [found["items"], found["gained"], found["lost"]] == [len(both), gained, lost]
            p = stats.binomtest(gained, gained + lost).pvalue
            h = 2 * math.asin(after.mean() ** 0.5) - 2 * math.asin(before.mean() ** 0.5)
            low, high = stats.ttest_rel(after, before).confidence_interval()
            names = ["from_rate", "to_rate", "difference", "ci_low", "ci_high", "p", "cohen_h"]
            assert [found[name] for name in names] == pytest.approx(
                [before.mean(), after.mean(), (after - before).mean(), low, high, p, h], abs=1e-9
            )
        assert family["p_bh"].to_numpy() == pytest.approx(
            stats.false_discovery_control(family["p"]), abs=1e-9
        )


def test_mcnemar_is_the_two_sided_binomial_test(made):
    for _, row in made[0]["mcnemar"].iterrows():
        gained, lost = int(row["gained"]), int(row["lost"])
        expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
        assert row["p"] == pytest.approx(expected, abs=1e-9, rel=1e-9)


def test_the_designs_power_is_what_it_was_planned_for(made):
    """N = 1,000, four points at 20 % of the items changed: .81 (docs/training.md)."""
    assert float(made[1]) == pytest.approx(0.81, abs=0.05)


def test_seeds_are_averaged_and_never_pooled_over_items(made):
    tests, seeds = made[0]["tests"], made[0]["seeds"]
    for comparison in STEPS:
        own = tests[(tests["measure"] == "strict") & (tests["part"] == "all")]
        own = own[own["comparison"] == comparison].sort_values("seed")["difference"].to_numpy()
        found = one(seeds, measure="strict", part="all", comparison=comparison)
        half = stats.t.ppf(0.975, 2) * own.std(ddof=1) / math.sqrt(3)
        names = ["seeds", "mean", "lowest", "highest", "ci_low", "ci_high"]
        assert [found[name] for name in names] == pytest.approx(
            [3, own.mean(), own.min(), own.max(), own.mean() - half, own.mean() + half], abs=1e-9
        )
        assert found["each"] == "; ".join(
            f"{seed}: {100 * value:+.1f}" for seed, value in zip(SEEDS, own, strict=True)
        )
    assert list(dict.fromkeys(seeds["comparison"])) == list(STEPS)
    fewer = made[0]["two_seeds"].iloc[0]
    assert fewer["mean"] == pytest.approx(0.45)
    assert math.isnan(fewer["ci_low"])
    assert fewer["note"] == "2 training seeds: says nothing of the stage beyond these trainings"


def test_errors_are_counted_by_type_and_kind(made, said):
    errors = made[0]["errors"]
    for name, kind, how in itertools.product(said, TYPES, KINDS):
        items = [item for item in said[name] if item["type"] == kind and item["kind"]]
        found = one(errors, evaluated=name, type=kind, kind=how)
        count = sum(item["kind"] == how for item in items)
        assert (found["items"], found["failures"]) == (len(items), count)
        assert found["share"] == pytest.approx(count / len(items))


def test_losses_are_the_first_and_the_mean_of_the_last_tenth(made):
    losses = made[0]["losses"]
    sft, dpo = one(losses, stage="sft"), one(losses, stage="dpo")
    assert [sft["steps"], sft["first_loss"], sft["last_loss"], sft["seconds"]] == pytest.approx(
        [20, 2.95, (2.05 + 2.0) / 2, 20]
    )
    assert math.isnan(sft["reward_accuracy"])
    assert [dpo["last_loss"], dpo["reward_margin"], dpo["reward_accuracy"]] == [0.69, 0.01, 0.5]
