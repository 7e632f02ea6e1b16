# Do comparisons of models, components of variance and planned precision say what is true? Simulated
# runs of known truth through the shipped functions; the numbers stand in docs/statistics.md.
#
#   Rscript tests/statistics/comparison.R [runs [cores]]
#
# Fixed seeds: the same runs each time. Exit status 1 where a rate or mean is beyond its limit.

arguments <- commandArgs(TRUE)
runs <- if (length(arguments) > 0L) as.integer(arguments[1L]) else 500L
cores <- if (length(arguments) > 1L) as.integer(arguments[2L]) else parallel::detectCores()
for (name in c(
  "common", "statistics", "inference", "item_tests", "variance_components", "planned_precision",
  "model_comparison"
)) source(sprintf("scripts/lib/%s.R", name))

#' Repeat `one`, which gives a vector, on all cores: runs x numbers.
repeated <- function(one, count = runs) {
  seeds <- sample.int(.Machine$integer.max, count)
  do.call(rbind, parallel::mclapply(seeds, function(seed) {
    set.seed(seed)
    one()
  }, mc.cores = cores))
}

failed <- 0L
#' One line of the output, counted where it is beyond its limits.
said <- function(title, text, ok) {
  failed <<- failed + !ok
  cat(sprintf("%-66s %s%s\n", title, text, if (ok) "" else "  BEYOND ITS LIMIT"))
}

#' A rate against its limits: beyond one if chance gives it less than once in a hundred times where
#' the true rate is at the limit.
rate <- function(title, hits, limits) {
  hits <- hits[!is.na(hits)]
  count <- length(hits)
  ok <- stats::pbinom(sum(hits), count, limits[1L]) >= 0.01 &&
    stats::pbinom(sum(hits) - 1, count, limits[2L], lower.tail = FALSE) >= 0.01
  said(title, sprintf("%.3f", mean(hits)), ok)
}

# Answers ------------------------------------------------------------------------------------------

none <- c(item = 0, wording = 0, both = 0, run = 0, by_run = 0, prompt = 0, draw = 0)

#' Answers of one model with these standard deviations: cells of an item have the item's effects,
#' `slope` is the spread of items x cells.
answers <- function(label, sd, items = 12, cells = 4, wordings = 1, replications = 1, prompts = 1,
                    draws = 1, mean = 0, slope = 0, sampled = TRUE) {
  sd <- c(sd, none)[names(none)]
  rows <- expand.grid(
    draw = seq_len(draws), prompt = seq_len(prompts), cell = seq_len(cells),
    item = seq_len(items), replication = seq_len(replications), wording = seq_len(wordings)
  )
  effect <- function(name, ...) {
    number <- row_numbers(list(...))
    stats::rnorm(length(number$first), 0, sd[[name]])[number$number]
  }
  value <- mean + effect("item", rows$item) + effect("wording", rows$wording) +
    effect("both", rows$item, rows$wording) + effect("run", rows$wording, rows$replication) +
    effect("by_run", rows$item, rows$wording, rows$replication) +
    effect("prompt", rows$item, rows$wording, rows$cell, rows$prompt) +
    stats::rnorm(items * cells, 0, slope)[rows$item + items * (rows$cell - 1L)]
  data.frame(
    label = label, model_key = label, model_name = label, variant = paste0("w", rows$wording),
    experiment = if (sampled) "exp1" else "exp2", item = paste0("i", rows$item),
    cell = paste0("c", rows$cell), prompt = paste(rows$item, rows$cell, rows$wording, rows$prompt),
    replication = rows$replication, value = value + stats::rnorm(nrow(rows), 0, sd[["draw"]])
  )
}

#' Yes-or-no answers whose log odds are the values.
chosen_at <- function(rows) {
  rows$value <- stats::rbinom(nrow(rows), 1L, stats::plogis(rows$value))
  rows
}

# Pairs of models ------------------------------------------------------------------------------------

bets <- list(name = "bet", scale = 100, range = c(0, 100))
share <- list(name = "share", scale = 1, range = c(0, 1))
contrast <- list(name = "contrast", scale = 1, weights = c(c1 = 1, c2 = -1))

pair_of <- function(rows, measure) {
  model_pairs(list(c(measure, list(rows = rows))), margin = 10)
}

#' The mean share of items with this mean and spread of log odds.
share_of <- function(mean, spread) {
  if (spread == 0) return(stats::plogis(mean))
  mean(stats::plogis(mean + spread * stats::qnorm(stats::ppoints(4001))))
}

set.seed(13)
cat(sprintf("Pairs of models, %d runs of each design\n", runs))
pairs <- list()
for (spread in c(0, 0.5, 1)) {
  for (items in c(6, 12)) {
    pairs[[sprintf("%d items, sampled, spread %.1f, no difference", items, spread)]] <- list(
      truth = 0, measure = share, make = function(spread, items) {
        rbind(
          chosen_at(answers("a", c(item = spread), items, draws = 6, mean = -1, slope = spread)),
          chosen_at(answers("b", c(item = spread), items, draws = 6, mean = -1, slope = spread))
        )
      }, spread = spread, items = items
    )
  }
}
pairs[["12 items, sampled, spread 0.5, .27 against .55"]] <- list(
  truth = share_of(-1, 0.5) - share_of(0.2, 0.5), measure = share, spread = 0.5, items = 12,
  make = function(spread, items) {
    rbind(
      chosen_at(answers("a", c(item = spread), items, draws = 6, mean = -1)),
      chosen_at(answers("b", c(item = spread), items, draws = 6, mean = 0.2))
    )
  }
)
pairs[["6 items, bets, 9 points apart, 5 replications"]] <- list(
  truth = 0, measure = bets, spread = 9, items = 6, make = function(spread, items) {
    own <- c(item = spread, draw = 12)
    rbind(
      answers("a", own, items, 6, replications = 5, mean = 50),
      answers("b", own, items, 6, replications = 5, mean = 50)
    )
  }
)
pairs[["12 items, measured, contrast"]] <- list(
  truth = 0, measure = contrast, spread = 0.1, items = 12, make = function(spread, items) {
    own <- c(item = spread, prompt = 0.1)
    rbind(
      answers("a", own, items, 4, prompts = 5, slope = 0.1, sampled = FALSE),
      answers("b", own, items, 4, prompts = 5, slope = 0.1, sampled = FALSE)
    )
  }
)
pairs[["12 items, sampled, a fifth of the answers unusable"]] <- list(
  truth = 0, measure = share, spread = 0.5, items = 12, make = function(spread, items) {
    rows <- rbind(
      chosen_at(answers("a", c(item = spread), items, draws = 8, slope = spread)),
      chosen_at(answers("b", c(item = spread), items, draws = 8, slope = spread))
    )
    rows[stats::runif(nrow(rows)) > 0.2, ]
  }
)
for (title in names(pairs)) {
  one <- pairs[[title]]
  found <- repeated(function() {
    tested <- pair_of(one$make(one$spread, one$items), one$measure)
    c(tested$ci_low <= one$truth && one$truth <= tested$ci_high, tested$p < 0.05)
  })
  rate(paste("coverage:", title), found[, 1L], c(0.93, 0.97))
  if (one$truth == 0) rate(paste("rejections:", title), found[, 2L], c(0.035, 0.065))
}
for (items in c(24, 200)) {
  found <- repeated(function() {
    shared <- stats::rnorm(items, 0, 1)
    rows <- lapply(c("a", "b"), function(label) {
      own <- answers(label, none, items, 1)
      own$value <- shared
      chosen_at(own)
    })
    tested <- pair_of(do.call(rbind, rows), share)
    c(tested$test == "McNemar exact", tested$p < 0.05)
  })
  stopifnot(all(found[, 1L] == 1))
  # An exact test rejects too seldom, never too often.
  rate(sprintf("rejections: McNemar's exact test, %d items", items), found[, 2L], c(0, 0.065))
}
found <- repeated(function() {
  rows <- do.call(rbind, lapply(letters[1:8], function(label) {
    chosen_at(answers(label, c(item = 0.5), 12, draws = 6, slope = 0.5))
  }))
  tested <- pair_of(rows, share)
  c(any(tested$p_bh < 0.05), mean(tested$p < 0.05))
}, max(50L, runs %/% 2L))
rate("any of 28 pairs of 8 models alike differs after BH", found[, 1L], c(0, 0.065))
said("rejections: the 28 pairs of 8 models alike", sprintf("%.3f", mean(found[, 2L])),
  mean(found[, 2L]) > 0.035 && mean(found[, 2L]) < 0.065)

# Components of variance -------------------------------------------------------------------------

shapes <- list(
  "12 items, 5 replications, 6 prompts asked once each" = list(
    sd = c(item = 3, run = 1, by_run = 1, prompt = 2, draw = 4), items = 12, wordings = 1,
    replications = 5, prompts = 6, draws = 1
  ),
  "12 items, 5 replications of no effect" = list(
    sd = c(item = 3, prompt = 2, draw = 4), items = 12, wordings = 1, replications = 5,
    prompts = 6, draws = 1
  ),
  "6 items, 3 wordings, 2 replications, 4 draws" = list(
    sd = c(item = 3, wording = 2, both = 2, run = 1, by_run = 1, draw = 5), items = 6, wordings = 3,
    replications = 2, prompts = 1, draws = 4
  ),
  "6 items, 3 wordings, measured, 4 prompts" = list(
    sd = c(item = 3, wording = 2, both = 2, prompt = 3), items = 6, wordings = 3, replications = 1,
    prompts = 4, draws = 1, sampled = FALSE
  ),
  "12 items, 1 replication, 4 draws" = list(
    sd = c(item = 3, draw = 5), items = 12, wordings = 1, replications = 1, prompts = 1, draws = 4
  )
)
named <- c(
  item = "item", wording = "wording", both = "item x wording", run = "replication",
  by_run = "item x replication", prompt = "prompt", draw = "draw"
)
cells <- 3
pilot_of <- function(shape) {
  sampled <- !identical(shape$sampled, FALSE)
  rows <- do.call(answers, c(list("m", cells = cells), shape))
  components_of(rows, NULL, sampled)
}
cat(sprintf("\nComponents of variance, %d runs: mean estimate and truth\n", runs))
for (title in names(shapes)) {
  shape <- shapes[[title]]
  truth <- c(shape$sd, none)[names(none)]^2 / c(1, 1, 1, 1, 1, cells, cells)
  names(truth) <- named[names(none)]
  found <- repeated(function() {
    table <- pilot_of(shape)$table
    low <- table$low <= truth[table$component] & truth[table$component] <= table$high
    outcome <- with_shares(table)
    run <- outcome$component == "replication"
    c(table$variance, low, identical(
      against_limit(outcome$icc_low[run], outcome$icc_high[run], 0.1), "above"
    ))
  })
  count <- length(component_names)
  means <- colMeans(found[, seq_len(count), drop = FALSE])
  errors <- apply(found[, seq_len(count), drop = FALSE], 2L, stats::sd) / sqrt(nrow(found))
  for (i in which(is.finite(means))) {
    right <- truth[[component_names[i]]]
    # Of many means one may lie three errors off.
    said(sprintf("%s: %s", title, component_names[i]), sprintf("%.3f (%.3f)", means[i], right),
      abs(means[i] - right) < 3.3 * errors[i] + 1e-9)
  }
  for (i in which(is.finite(colMeans(found[, count + seq_len(count), drop = FALSE])))) {
    # Intervals that do not go below 0 hold 0 more often.
    limits <- c(0.93, if (truth[[component_names[i]]] == 0) 1 else 0.975)
    rate(sprintf("coverage, %s: %s", title, component_names[i]), found[, count + i], limits)
  }
}

# Precision and power ----------------------------------------------------------------------------

cat(sprintf("\nHalf-widths and power as planned from %d pilots, and as %d such runs had them\n",
  runs, runs))
plans <- list(
  list(shape = shapes[[1L]], items = 24, wordings = 1, replications = 2, difference = 2),
  list(shape = shapes[[1L]], items = 12, wordings = 1, replications = 10, difference = 2),
  list(shape = shapes[[3L]], items = 12, wordings = 1, replications = 5, difference = 3),
  list(shape = shapes[[3L]], items = 24, wordings = 4, replications = 1, difference = 2),
  list(shape = shapes[[4L]], items = 48, wordings = 2, replications = 1, difference = 1)
)
for (plan in plans) {
  planned <- repeated(function() {
    sampled <- !identical(plan$shape$sampled, FALSE)
    grid <- planned_widths(pilot_of(plan$shape), sampled, NA, plan$difference)
    at <- grid$items == plan$items & grid$wordings == plan$wordings &
      (!sampled | grid$replications == plan$replications)
    c(grid$half_width[at], grid$half_width_low[at], grid$half_width_high[at])
  })
  real <- repeated(function() {
    shape <- plan$shape
    shape[c("items", "wordings", "replications")] <- plan[c("items", "wordings", "replications")]
    # The interval is over items: wordings and replications are those of the run.
    shape$sd <- shape$sd[!names(shape$sd) %in% c("wording", "run")]
    rows <- do.call(answers, c(list("m", cells = cells, mean = plan$difference), shape))
    tested <- test_columns(score_table(rows, "label")$scores, NA)
    c((tested$ci_high - tested$ci_low) / 2, tested$p < 0.05)
  })
  title <- sprintf("%d items, %d wordings, %d replications", plan$items, plan$wordings,
    plan$replications)
  half <- sqrt(colMeans(cbind(planned[, 1L], real[, 1L])^2))
  said(paste("half-width:", title), sprintf("%.3f (%.3f)", half[1L], half[2L]),
    abs(half[1L] / half[2L] - 1) < 0.06)
  said(paste("its range holds the true one:", title),
    sprintf("%.3f", mean(planned[, 2L] <= half[2L] & half[2L] <= planned[, 3L])),
    mean(planned[, 2L] <= half[2L] & half[2L] <= planned[, 3L]) > 0.9)
  # Power from the true components, as the pilots' spread would blur it.
  error <- half[2L] / stats::qt(0.975, plan$items - 1)
  power <- stats::pt(stats::qt(0.975, plan$items - 1), plan$items - 1, plan$difference / error,
    lower.tail = FALSE)
  said(paste("power:", title), sprintf("%.3f (%.3f)", power, mean(real[, 2L])),
    abs(power - mean(real[, 2L])) < 0.06)
}
quit(status = 1L * (failed > 0L))
