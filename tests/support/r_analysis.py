"""R in tests, and numbers that its functions should give, computed here anew."""

import math
import shutil
import subprocess
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats
from warm_python import warm

ROOT = Path(__file__).resolve().parents[2]
#: What a job asks of figures: all files of each, the PNG alone, or none, which are three fifths of
#: what an analysis takes.
Figures = Literal["whole", "png", "none"]
#: After the sources of an analysis: the figures that its job asks for.
FIGURES_ASKED = """
if (!identical(job$figures, "whole")) {
  save_whole_figure <- save_figure
  save_figure <- function(plot, path, ..., beside) {
    if (identical(job$figures, "png")) save_whole_figure(plot, path, ..., beside = FALSE)
  }
}
"""


def rscript(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert shutil.which("Rscript"), "R is missing: install the packages of envs/r-packages.txt"
    command = [warm().rscript, "--vanilla", "-e", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)


def one(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1, f"{where}: {len(table)} rows"
    return table.iloc[0]


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


def benjamini_hochberg(p):
    return stats.false_discovery_control(p, method="bh")
