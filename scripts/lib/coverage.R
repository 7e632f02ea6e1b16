# How often Grace's intervals cover the truth and its tests reject in simulated runs: the table that
# `make test-statistics` writes, for docs/statistics.md and the report. Source after common.R.

coverage_file <- "scripts/lib/coverage.csv"

#' The table: a row for each interval or test (`what`), kind of rate and spread of items in logits
#' ("" where designs have their own); `designs` of it, at least `runs` each, from the `lowest` to
#' the `highest` rate, and what they are allowed, `low` to `high`; `made`, when the command ran.
read_coverage <- function(path = coverage_file) {
  rows <- read_csv(path)
  rows$spread <- as.numeric(rows$spread)
  rows
}

#' Whether all rows are of one run of the command.
of_one_run <- function(rows) {
  made <- unique(rows$made)
  length(made) == 1L && !is.na(made)
}

#' Why rates lie beyond what is allowed where no method is known that does better, by `what`.
beyond_limits <- c(
  "JSD of a cell's bets, 12 items" = paste(
    "a distance all but 0 (near 0, below .005 bits) is the square of what items tell, and hangs on",
    "few of them"
  ),
  "Share of greedy answers, 6 items" = paste(
    "six answers can come out in seven ways only: of all sets of outcomes, those of most",
    "probability hold .886 or .994 at a share of .02, .833 or .971 at .125, .781 or .969 at .5"
  )
)

#' ".946–.974".
show_rates <- function(lowest, highest) {
  text <- function(values) sub("^(-?)0", "\\1", sprintf("%.3f", values))
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
  if (nrow(rows) == 0L) return(character(0))
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

#' The report's table of it, in its short form; needs report.R.
show_coverage <- function(path) {
  rows <- read_coverage(path)
  if (!of_one_run(rows)) {
    return(html_block(paragraphs(paste(
      "How often intervals cover and tests reject in simulated runs is not shown here: the rates",
      "on file are of several runs of make test-statistics, and stand in docs/statistics.md."
    ), "note")))
  }
  made <- rows$made[1L]
  rows <- over_spreads(rows)
  show_table(data.frame(
    "Interval or test" = rows$what, What = sub(", few", " (few answers)", rows$kind),
    Rates = show_rates(rows$lowest, rows$highest), Allowed = show_text(show_allowed(rows)),
    Designs = rows$designs, "Runs of each" = rows$runs,
    Note = show_text(unname(beyond_limits[rows$what])), check.names = FALSE
  ), sprintf(paste(
    "How often 95%% intervals cover the truth, 5%% tests reject a true null, and tests find an",
    "effect (power), in simulated runs of known truth: lowest and highest rate of several designs",
    "(items 0 to 1 logit apart, copies, 1 and 5 replications, empty cells). Few answers: fewer",
    "than ten are expected of one kind. All from one run of make test-statistics, %s UTC. These",
    "are properties of the methods, not of this run."
  ), made), fold = TRUE)
}
