# How often Grace's intervals cover the truth and its tests reject in simulated runs: the table that
# `make test-statistics` writes, for docs/statistics.md. Source after scripts/lib/common.R.

coverage_file <- "tests/statistics/coverage.csv"

#' The table: a row for each interval or test (`what`), kind of rate and spread of items in logits
#' ("" where designs have their own); `designs` of it, at least `runs` each, from the `lowest` to
#' the `highest` rate, and what they are allowed, `low` to `high`.
read_coverage <- function(path = coverage_file) {
  rows <- read_csv(path)
  rows$spread <- as.numeric(rows$spread)
  rows
}

#' ".946–.974".
show_rates <- function(lowest, highest) {
  text <- function(values) sub("^0", "", sprintf("%.3f", values))
  ifelse(text(lowest) == text(highest), text(lowest), paste0(text(lowest), "\u2013", text(highest)))
}

show_allowed <- function(rows) {
  ifelse(rows$kind == "power", "", show_rates(rows$low, rows$high))
}

#' Each interval or test once, over all spreads.
over_spreads <- function(rows) {
  keys <- unique(rows[c("what", "kind")])
  bind(lapply(seq_len(nrow(keys)), function(i) {
    mine <- rows[rows$what == keys$what[i] & rows$kind == keys$kind[i], , drop = FALSE]
    data.frame(
      keys[i, ], designs = sum(mine$designs), runs = min(mine$runs), lowest = min(mine$lowest),
      highest = max(mine$highest), low = mine$low[1L], high = mine$high[1L], row.names = NULL
    )
  }))
}

#' The table for docs/statistics.md.
coverage_lines <- function(rows) {
  power <- rows$kind == "power"
  by_spread <- !is.na(rows$spread)
  c(
    spread_lines(rows[by_spread, , drop = FALSE]), "",
    plain_lines(rows[!by_spread & !power, , drop = FALSE], "rates"), "",
    plain_lines(rows[power, , drop = FALSE], "power")
  )
}

spread_lines <- function(rows) {
  whole <- over_spreads(rows)
  cells <- vapply(c(0, 0.2, 0.5, 1), function(spread) {
    mine <- rows[rows$spread == spread, , drop = FALSE]
    at <- match(paste(whole$what, whole$kind), paste(mine$what, mine$kind))
    ifelse(is.na(at), "\u2013", show_rates(mine$lowest, mine$highest)[at])
  }, character(nrow(whole)))
  c(
    "| interval or test | what | allowed | designs | runs | spread 0 | .2 | .5 | 1 |",
    "|---|---|---|---|---|---|---|---|---|",
    sprintf(
      "| %s | %s | %s | %d | %d | %s |", whole$what, whole$kind, show_allowed(whole),
      whole$designs, whole$runs, apply(matrix(cells, nrow(whole)), 1L, paste, collapse = " | ")
    )
  )
}

plain_lines <- function(rows, heading) {
  if (nrow(rows) == 0L) return(character(0))
  c(
    sprintf("| interval or test | what | allowed | designs | runs | %s |", heading),
    "|---|---|---|---|---|---|",
    sprintf(
      "| %s | %s | %s | %d | %d | %s |", rows$what, rows$kind, show_allowed(rows), rows$designs,
      rows$runs, show_rates(rows$lowest, rows$highest)
    )
  )
}
