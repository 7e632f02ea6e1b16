"""Estimates over several wordings, in R: against plain formulas, and where there are too few."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]
CODE = """
for (name in c(
  "common", "statistics", "inference", "item_tests", "variance_components", "wordings"
)) {
  source(sprintf("scripts/lib/%s.R", name))
}
given <- read.csv(text = commandArgs(TRUE)[1])
one <- mean_by_item_and_wording(given$value, given$item, given$wording)
cat(unlist(one[c("wordings", "items", "estimate", "low", "high", "df", "sd_wording")]), "\\n")
cat(one$note, "\\n")
rows <- data.frame(
  model_key = "m", model_name = "M", variant = given$wording, experiment = "exp2",
  item = given$item, value = given$value
)
measure <- list(doubled = function(rows) item_means(2 * rows$value, rows$item)[, 1L])
table <- over_wordings(rows, measure)
cat(nrow(table), setdiff(wordings_columns, names(table)), table$estimate, "\\n")
cells <- rbind(cbind(rows, cell = "a"), cbind(transform(rows, value = 1), cell = "b"))
contrast <- list(list(name = "a over b", rows = cells, weights = c(a = 2, b = -2)))
same <- measures_over_wordings(contrast)
columns <- c("wordings", "n_items", "df", "sd_wording", "note")
stopifnot(
  setequal(names(same), names(table)), all.equal(same[columns], table[columns]),
  all.equal(same$estimate, table$estimate - 2), all.equal(same$ci_low, table$ci_low - 2)
)
"""


def estimated(values: np.ndarray) -> tuple[list[float], str, str]:
    """`values` are items x wordings; NaN is no answer."""
    rows = [
        f"{value},i{item},w{wording}"
        for (item, wording), value in np.ndenumerate(values)
        if not np.isnan(value)
    ]
    text = "\n".join(["value,item,wording", *rows])
    command = ["Rscript", "--vanilla", "-e", CODE, text]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    numbers, note, table = done.stdout.splitlines()[:3]
    found = [float("nan") if one in ("NA", "NaN") else float(one) for one in numbers.split()]
    return found, note.strip(), table.strip()


def test_the_mean_over_items_and_wordings_has_both_spreads() -> None:
    random = np.random.default_rng(4)
    values = random.normal(size=(6, 1)) + random.normal(size=(1, 4)) + random.normal(size=(6, 4))
    n, k = values.shape
    items, wordings = values.mean(1), values.mean(0)
    rest = values - items[:, None] - wordings[None, :] + values.mean()
    squares = np.array([
        k * items.var(ddof=1), n * wordings.var(ddof=1), (rest**2).sum() / ((n - 1) * (k - 1))
    ])  # fmt: skip
    total = squares[0] + squares[1] - squares[2]
    df = total**2 / (squares**2 / [n - 1, k - 1, (n - 1) * (k - 1)]).sum()
    larger = int(squares[1] > squares[0])
    half = max(
        stats.t.ppf(0.975, max(1, df)) * np.sqrt(total / (n * k)),
        stats.t.ppf(0.975, (n - 1, k - 1)[larger]) * np.sqrt(squares[larger] / (n * k)),
    )
    (found_k, found_n, mean, low, high, found_df, sd), note, table = estimated(values)
    assert (found_k, found_n, note) == (k, n, "")
    assert mean == pytest.approx(values.mean(), rel=1e-5)
    assert (low, high) == pytest.approx((mean - half, mean + half), rel=1e-5)
    assert found_df == pytest.approx(df, rel=1e-5)
    assert sd == pytest.approx(np.sqrt((squares[1] - squares[2]) / n), rel=1e-5)
    count, doubled = table.split()
    assert (count, float(doubled)) == ("1", pytest.approx(2 * mean, rel=1e-5))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1, 2], [3, 5], [2, 2]], "2 wordings only: no interval over wordings"),
        ([[1, 2, 3]], "one item only: no interval"),
        ([[1, 1, 1], [1, 1, 1]], "the same for every item and wording: no spread"),
        ([[1, np.nan, 2], [np.nan, 2, 2]], "no item was answered in every wording"),
    ],
)
def test_where_there_is_no_interval_the_note_says_why(values: list[list[float]], said: str) -> None:
    numbers, note, _ = estimated(np.array(values, dtype=float))
    assert note == said
    assert np.isnan(numbers[3:5]).all()
