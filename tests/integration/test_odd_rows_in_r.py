"""Rows that reports must not get wrong, in R: people among models, and more models than fit."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def ran(code: str) -> None:
    """Run R, whose `stopifnot` are the test's."""
    command = ["Rscript", "--vanilla", "-e", 'source("scripts/lib/common.R")\n' + code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_people_among_models_have_peoples_interval_where_their_items_do_not_differ() -> None:
    ran("""
    table <- data.frame(
      label = c("them", "them", "m", "people", "people"),
      model_key = c("them", "them", "m", "people", "people"),
      experiment = c("exp1", "exp2", "exp2", "reference", "reference"),
      cell = c("a", "a", "a", "b", "a"), value = 1:5,
      ci_low = c(0.5, NA, NA, 1.5, 2.5), ci_high = c(1.5, NA, NA, 3.5, 4.5),
      note = c("", "the same for every item: no spread; 3 copies not counted", "same", "", "")
    )
    settings <- list(people_models = list(them = "people"))
    found <- with_peoples_intervals(table, settings, "cell")
    changed <- 2L
    stopifnot(
      identical(found[-changed, ], table[-changed, ]),
      found$ci_low[changed] == 2.5, found$ci_high[changed] == 4.5, found$value[changed] == 2,
      found$note[changed] ==
        "3 copies not counted; interval over people, as items do not differ",
      identical(with_peoples_intervals(table, list(), "cell"), table)
    )
    """)


def test_figures_draw_so_many_models_as_can_be_told_apart_and_say_so() -> None:
    ran("""
    labels <- sprintf("m%02d", 1:40)
    rows <- data.frame(
      label = c(rep(labels, each = 2L), "them", "people"),
      model_key = c(rep(labels, each = 2L), "them", "people"),
      experiment = c(rep(c("exp1", "exp2"), 40L), "exp2", "reference")
    )
    kept <- drawn_labels(rows, list(people_models = list(them = "people")))
    few <- drawn(rows, kept)
    stopifnot(
      identical(kept, c("them", utils::head(labels, most_drawn - 1L))),
      identical(unique(few$label), c(utils::head(labels, most_drawn - 1L), "them", "people")),
      grepl(sprintf("Drawn are %d of 41 models", most_drawn), drawn_note(rows)),
      length(drawn_note(few)) == 0L, length(drawn_note(list(label = labels[1:3]))) == 0L,
      nrow(drawn(data.frame(), kept)) == 0L, length(drawn_labels(data.frame())) == 0L
    )
    """)
