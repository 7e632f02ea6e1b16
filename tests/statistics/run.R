# Do intervals cover and tests reject as often as they say, and what do tests find? Simulated runs
# of known truth through Grace's own functions. Every file `simulate_*.R` beside this one defines
# `simulations`, a named list of functions of the number of runs, each of which gives rows made by
# `checked` or `compared`. Run by `make test-statistics`:
#   Rscript tests/statistics/run.R [--quick] [--write] [--runs N] [--only PATTERN]
# --quick makes few runs of few designs. --only takes the simulations whose names match. --write
# puts the table into scripts/lib/coverage.csv, which the report shows, and docs/statistics.md; of
# simulations that were not made it keeps what stands there. Exit status 1 where a rate is beyond
# its limits by more than chance.

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
    "generic_models", "coverage"
  )),
  sprintf("studies/%s.R", c("study1/models", "study2/analysis", "study2/models"))
)) source(name)
# Here, since each of the processes that share the runs would load them.
for (name in c("data.table", "lme4")) invisible(loadNamespace(name))
RNGkind("Mersenne-Twister")

#' What a kind of check allows: a rate or, of the last four, another number.
#'
#' "coverage", "rejections" (of true nulls at .05), each also "few" (so few answers or wordings that
#' no method comes closer: intervals may cover more, tests reject less); "coverage, at an end" (the
#' truth is the end of its scale, where an interval that ends there can miss on one side only) and
#' "coverage, near 0" (a distance all but 0, of which no method covers 93 %: docs/statistics.md);
#' "power"; "ratio" (of what was planned and what came), "difference" (the same), "bias" (in
#' standard errors) and "estimate" (no limits, in no table).
limits_of <- function(kind) {
  list(
    coverage = c(0.93, 0.97), "coverage, few" = c(0.93, 1), "coverage, at an end" = c(0.93, 1),
    "coverage, near 0" = c(0.85, 1), rejections = c(0.035, 0.065),
    "rejections, few" = c(0, 0.065), power = c(0, 1), ratio = c(0.94, 1.06),
    difference = c(-0.06, 0.06), bias = c(-3.3, 3.3), estimate = c(-Inf, Inf)
  )[[kind]]
}

#' What one design gave. `hits` are runs in which the interval covered, or the test rejected.
checked <- function(what, design, spread, kind, hits) {
  hits <- hits[!is.na(hits)]
  limits <- limits_of(kind)
  count <- length(hits)
  # Runs are few: a rate is beyond a limit if chance gives it less than once in a hundred times
  # where the true rate is at the limit.
  sum <- round(sum(hits))
  too_low <- stats::pbinom(sum, count, limits[1L]) < 0.01
  too_high <- stats::pbinom(sum - 1, count, limits[2L], lower.tail = FALSE) < 0.01
  result(
    what, design, spread, kind, count, if (count > 0L) mean(hits) else NA_real_,
    count > 0L && !too_low && !too_high
  )
}

#' What one design gave where it is not a rate but a number of so many runs.
compared <- function(what, design, kind, value, count) {
  limits <- limits_of(kind)
  result(
    what, design, NA_real_, kind, count, value, limits[1L] <= value && value <= limits[2L]
  )
}

result <- function(what, design, spread, kind, count, rate, ok) {
  limits <- limits_of(kind)
  data.frame(
    what = what, design = design, spread = spread, kind = kind, runs = count, rate = rate,
    low = limits[1L], high = limits[2L], ok = ok
  )
}

#' Repeat `one` on all cores: runs x columns. The numbers do not depend on how many cores there are.
#'
#' While a rate of a design lies outside its limits, as one in eight tests that keep their level
#' does by chance in 500 runs, as many runs again are added to it, up to four times the first. All
#' runs count.
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
  limits <- vapply(kinds, limits_of, numeric(2L))
  hits <- made(runs)
  while (!quick && nrow(hits) < 4L * runs) {
    rates <- colMeans(hits, na.rm = TRUE)
    if (!any(rates < limits[1L, ] | rates > limits[2L, ], na.rm = TRUE)) break
    hits <- rbind(hits, made(nrow(hits)))
  }
  hits
}

#' The mean in logits at which items with this spread have this share on average.
logit_of_share <- function(share, spread) {
  if (spread == 0) return(stats::qlogis(share))
  stats::uniroot(function(mu) share_of_logit(mu, spread) - share, c(-30, 30))$root
}

#' The mean share of items with this mean and spread in logits.
share_of_logit <- function(mu, spread) {
  if (spread == 0) return(stats::plogis(mu))
  mean(stats::plogis(mu + spread * stats::qnorm(stats::ppoints(2001))))
}

#' Fewer than ten answers of either kind are expected: no interval covers 95 % of so few.
is_few <- function(answers, share) answers * min(share, 1 - share) < 10

#' Shares of people's choices in study 2, cells x utterances.
people_shares <- function() {
  table <- read_csv("resources/reference/study2_human_cells.csv")
  counts <- stats::xtabs(n ~ paste(goal, state) + paste(polarity, adjective), table)
  unclass(counts / rowSums(counts))
}

covers <- function(tested, truth) tested$low <= truth + 1e-12 && truth <= tested$high + 1e-12

spreads <- if (quick) c(0, 0.5) else c(0, 0.2, 0.5, 1)
files <- sort(list.files("tests/statistics", "^simulate_.*[.]R$"))
#' Seconds since the start of R, and of all cores together.
clock <- function() {
  times <- proc.time()
  c(wall = times[["elapsed"]], cpu = sum(times[-3L]))
}
started <- clock()
found <- bind(lapply(files, function(file) {
  simulations <- NULL
  source(file.path("tests/statistics", file), local = TRUE)
  wanted <- grep(option("--only", ""), as.character(names(simulations)), value = TRUE)
  bind(lapply(wanted, function(name) {
    set.seed(sum(utf8ToInt(name)))
    before <- clock()
    rows <- simulations[[name]](runs)
    took <- clock() - before
    message(sprintf(
      "%5.0f s, %5.0f CPU s  %s: %d rates, %d beyond their limits", took[["wall"]], took[["cpu"]],
      name, nrow(rows), sum(!rows$ok)
    ))
    cbind(simulation = name, rows)
  }))
}))
if (NROW(found) == 0L) stop("--only matches no simulation", call. = FALSE)
took <- clock() - started
said <- sprintf(
  "%.0f minutes on %d cores, %s CPU seconds: %d rates, %d beyond their limits", took[["wall"]] / 60,
  cores, format(round(took[["cpu"]]), big.mark = ","), nrow(found), sum(!found$ok)
)
message(said)

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
# Tells rows of one run of the command from those of others.
table$made <- format(Sys.time(), "%Y-%m-%d %H:%M", tz = "UTC")
if ("--write" %in% arguments) {
  if (file.exists(coverage_file) && "--only" %in% arguments) {
    before <- read_coverage()
    kept <- before[!before$simulation %in% table$simulation, , drop = FALSE]
    all <- bind(list(table, kept))
    table <- all[order(match(all$simulation, unique(c(before$simulation, table$simulation)))), ]
  }
  data.table::fwrite(table, coverage_file)
  said <- if (of_one_run(table)) {
    sprintf("One run of the command, of %s UTC, took %s.", table$made[1L], said)
  } else {
    sprintf("Rows of several runs; the last, of a part, took %s.", said)
  }
  path <- "docs/statistics.md"
  text <- readLines(path)
  marks <- match(c("<!-- table -->", "<!-- end of table -->"), text)
  text <- c(
    text[seq_len(marks[1L])], "", said, "", coverage_lines(table), "",
    text[marks[2L]:length(text)]
  )
  writeLines(text, path)
} else {
  writeLines(coverage_lines(table))
}
bad <- found[!found$ok, , drop = FALSE]
if (nrow(bad) > 0L) {
  print(bad, row.names = FALSE)
  quit(status = 1L)
}
