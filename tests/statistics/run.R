# Do intervals cover and tests reject as often as they say? Simulated runs of known truth through
# Grace's own functions. Every file `simulate_*.R` beside this one defines `simulations`, a named
# list of functions of the number of runs, each of which gives rows made by `checked`. Run by
# `make test-statistics`:
#   Rscript tests/statistics/run.R [--quick] [--write]
# --quick makes few runs of few designs; --write puts the table into docs/statistics.md.

arguments <- commandArgs(TRUE)
quick <- "--quick" %in% arguments
runs <- if (quick) 50L else 500L
cores <- max(1L, parallel::detectCores())
for (name in c("common", "statistics", "inference")) {
  source(sprintf("scripts/lib/%s.R", name))
}

#' What one design gave. `hits` are runs in which the interval covered, or the test rejected.
#'
#' @param kind "coverage", "coverage, few" (an interval of so few answers that none can cover 95 %:
#'   it may cover more), "rejections" (of true nulls at .05) or "rejections, few" (fewer allowed).
checked <- function(what, design, spread, kind, hits) {
  hits <- hits[!is.na(hits)]
  limits <- list(
    coverage = c(0.93, 0.97), "coverage, few" = c(0.93, 1), rejections = c(0.035, 0.065),
    "rejections, few" = c(0, 0.065)
  )[[kind]]
  count <- length(hits)
  # Runs are few: a rate is beyond a limit if chance gives it less than once in a hundred times
  # where the true rate is at the limit.
  too_low <- stats::pbinom(sum(hits), count, limits[1L]) < 0.01
  too_high <- stats::pbinom(sum(hits) - 1, count, limits[2L], lower.tail = FALSE) < 0.01
  data.frame(
    what = what, design = design, spread = spread, kind = kind, runs = count,
    rate = if (count > 0L) mean(hits) else NA_real_, low = limits[1L], high = limits[2L],
    ok = count > 0L && !too_low && !too_high
  )
}

#' Repeat `one` on all cores; the numbers do not depend on how many there are.
repeated <- function(runs, one) {
  seeds <- sample.int(.Machine$integer.max, runs)
  do.call(rbind, parallel::mclapply(seeds, function(seed) {
    set.seed(seed)
    one()
  }, mc.cores = cores))
}

#' The mean in logits at which items with this spread have this share on average.
logit_of_share <- function(share, spread) {
  if (spread == 0) return(stats::qlogis(share))
  z <- stats::qnorm(stats::ppoints(2001))
  stats::uniroot(function(mu) mean(stats::plogis(mu + spread * z)) - share, c(-30, 30))$root
}

covers <- function(tested, truth) tested$low <= truth + 1e-12 && truth <= tested$high + 1e-12

spreads <- if (quick) c(0, 0.5) else c(0, 0.2, 0.5, 1)
files <- sort(list.files("tests/statistics", "^simulate_.*[.]R$"))
started <- proc.time()[["elapsed"]]
found <- do.call(rbind, lapply(files, function(file) {
  simulations <- NULL
  source(file.path("tests/statistics", file), local = TRUE)
  do.call(rbind, lapply(names(simulations), function(name) {
    set.seed(sum(utf8ToInt(name)))
    rows <- simulations[[name]](runs)
    message(sprintf(
      "%5.0f s  %s: %d designs, %d beyond their limits", proc.time()[["elapsed"]] - started, name,
      nrow(rows), sum(!rows$ok)
    ))
    rows
  }))
}))

#' Rates by spread, over all other differences of designs.
shown <- function(rows) {
  rate <- function(values) {
    text <- unique(sub("^0", "", sprintf("%.3f", range(values))))
    paste(text, collapse = "\u2013")
  }
  keys <- unique(rows[c("what", "kind")])
  lines <- vapply(seq_len(nrow(keys)), function(i) {
    mine <- rows[rows$what == keys$what[i] & rows$kind == keys$kind[i], , drop = FALSE]
    by_spread <- vapply(c(0, 0.2, 0.5, 1), function(spread) {
      values <- mine$rate[mine$spread == spread]
      if (length(values) == 0L) "\u2013" else rate(values)
    }, character(1L))
    sprintf("| %s | %s | %d | %s |", keys$what[i], keys$kind[i], nrow(mine), paste(
      by_spread, collapse = " | "
    ))
  }, character(1L))
  c(
    "| interval or test | what | designs | spread 0 | .2 | .5 | 1 |",
    "|---|---|---|---|---|---|---|", lines
  )
}

bad <- found[!found$ok, , drop = FALSE]
if ("--write" %in% arguments) {
  path <- "docs/statistics.md"
  text <- readLines(path)
  marks <- match(c("<!-- table -->", "<!-- end of table -->"), text)
  text <- c(
    text[seq_len(marks[1L])], "", sprintf("%d runs of each design.", runs), "", shown(found), "",
    text[marks[2L]:length(text)]
  )
  writeLines(text, path)
} else {
  writeLines(shown(found))
}
if (nrow(bad) > 0L) {
  print(bad, row.names = FALSE)
  quit(status = 1L)
}
