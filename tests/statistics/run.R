# Do intervals cover and tests reject as often as they say, and what do tests find? Simulated runs
# of known truth through Grace's own functions. Every file `simulate_*.R` beside this one defines
# `simulations`, a named list of functions of the number of runs, each of which gives rows made by
# `checked`. Run by `make test-statistics`:
#   Rscript tests/statistics/run.R [--quick] [--write] [--runs N] [--only PATTERN]
# --quick makes few runs of few designs. --only takes the simulations whose names match. --write
# puts the table into tests/statistics/coverage.csv and docs/statistics.md; of
# simulations that were not made it keeps what stands there.

arguments <- commandArgs(TRUE)
option <- function(name, default) {
  at <- match(name, arguments)
  if (is.na(at)) default else arguments[at + 1L]
}
quick <- "--quick" %in% arguments
runs <- as.integer(option("--runs", if (quick) "50" else "500"))
cores <- max(1L, parallel::detectCores())
for (name in c(
  sprintf("scripts/lib/%s.R", c(
    "common", "statistics", "inference", "item_tests", "mixed_models", "generic_measures",
    "generic_models"
  )),
  "tests/statistics/lib/coverage_table.R",
  sprintf("studies/%s.R", c("study1/models", "study2/analysis", "study2/models"))
)) source(name)
RNGkind("Mersenne-Twister")

#' The rates that a kind of check allows.
#'
#' "coverage", "coverage, few" (an interval of so few answers that none can cover 95 %: it may cover
#' more), "rejections" (of true nulls at .05), "rejections, few" (fewer allowed), or "power".
limits_of <- function(kind) {
  list(
    coverage = c(0.93, 0.97), "coverage, few" = c(0.93, 1), rejections = c(0.035, 0.065),
    "rejections, few" = c(0, 0.065), power = c(0, 1)
  )[[kind]]
}

#' What one design gave. `hits` are runs in which the interval covered, or the test rejected.
checked <- function(what, design, spread, kind, hits) {
  hits <- hits[!is.na(hits)]
  limits <- limits_of(kind)
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

#' Repeat `one` on all cores: runs x columns. The numbers do not depend on how many cores there are.
#'
#' Of so many designs some lie outside their limits by chance. Those are simulated again, four times
#' as often, and the new runs alone count.
#'
#' @param kinds Of each column, as `limits_of` has them.
repeated <- function(runs, one, kinds) {
  made <- function(count) {
    seeds <- sample.int(.Machine$integer.max, count)
    rows <- parallel::mclapply(seeds, function(seed) {
      set.seed(seed)
      one()
    }, mc.cores = cores)
    failed <- vapply(rows, inherits, logical(1L), what = "try-error")
    if (any(failed)) stop(rows[[which(failed)[1L]]], call. = FALSE)
    do.call(rbind, rows)
  }
  hits <- made(runs)
  rates <- colMeans(hits, na.rm = TRUE)
  limits <- vapply(kinds, limits_of, numeric(2L))
  outside <- which(rates < limits[1L, ] | rates > limits[2L, ])
  if (quick || length(outside) == 0L) hits else made(4L * runs)
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
found <- bind(lapply(files, function(file) {
  simulations <- NULL
  source(file.path("tests/statistics", file), local = TRUE)
  wanted <- grep(option("--only", ""), as.character(names(simulations)), value = TRUE)
  bind(lapply(wanted, function(name) {
    set.seed(sum(utf8ToInt(name)))
    rows <- simulations[[name]](runs)
    message(sprintf(
      "%5.0f s  %s: %d designs, %d beyond their limits", proc.time()[["elapsed"]] - started, name,
      nrow(rows), sum(!rows$ok)
    ))
    cbind(simulation = name, rows)
  }))
}))
if (NROW(found) == 0L) stop("--only matches no simulation", call. = FALSE)

#' One row for each interval or test, kind and spread: the lowest and the highest rate of designs.
summarised <- function(rows) {
  by_group(rows, c("simulation", "what", "kind", "spread"), function(piece) {
    data.frame(
      designs = nrow(piece), runs = min(piece$runs), lowest = round(min(piece$rate), 4L),
      highest = round(max(piece$rate), 4L), low = piece$low[1L], high = piece$high[1L]
    )
  })
}

table <- summarised(found)
order_of <- function(rows) {
  simulations <- unique(found$simulation)
  rows[order(match(rows$simulation, simulations), match(
    paste(rows$what, rows$kind), unique(paste(found$what, found$kind))
  ), rows$spread), , drop = FALSE]
}
table <- order_of(table)
if ("--write" %in% arguments) {
  if (file.exists(coverage_file)) {
    before <- read_coverage()
    kept <- before[!before$simulation %in% table$simulation, , drop = FALSE]
    all <- bind(list(table, kept))
    table <- all[order(match(all$simulation, unique(c(before$simulation, table$simulation)))), ]
  }
  data.table::fwrite(table, coverage_file)
  path <- "docs/statistics.md"
  text <- readLines(path)
  marks <- match(c("<!-- table -->", "<!-- end of table -->"), text)
  text <- c(text[seq_len(marks[1L])], "", coverage_lines(table), "", text[marks[2L]:length(text)])
  writeLines(text, path)
} else {
  writeLines(coverage_lines(table))
}
bad <- found[!found$ok, , drop = FALSE]
if (nrow(bad) > 0L) {
  print(bad, row.names = FALSE)
  quit(status = 1L)
}
