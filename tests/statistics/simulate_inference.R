# The frame of scripts/lib/inference.R: shares, means, contrasts and distances by item. Items differ
# by `spread` logits; `replications` are 1 or 5.

#' Answers to the items of a study, temperature and replications: a row each, 0/1.
made_answers <- function(shares, prompts, replications, greedy) {
  items <- length(shares)
  item <- rep(seq_len(items), each = prompts)
  said <- as.numeric(stats::runif(items * prompts) < shares[item])
  rows <- data.frame(
    experiment = "exp1", item = rep(item, replications),
    prompt_id = rep(seq_along(item), replications), value = rep(said, replications)
  )
  # Greedy answers of other replications are copies; sampled ones are drawn anew.
  if (!greedy) rows$value <- as.numeric(stats::runif(nrow(rows)) < shares[rows$item])
  rows$request_seed <- seq_len(nrow(rows))
  collapse_copies(rows, "value", greedy)
}

share_result <- function(rows, counted, truth) {
  tested <- share_by_item(rows$value, rows$item, counted)
  c(covers(tested, truth), test_share(tested, truth) < 0.05)
}

share_kinds <- function(answers, share) {
  paste0(c("coverage", "rejections"), if (is_few(answers, share)) ", few" else "")
}

share_rows <- function(what, design, spread, answers, share, results) {
  kinds <- share_kinds(answers, share)
  rbind(
    checked(what, design, spread, kinds[1L], results[, 1L]),
    checked(paste("Test of a", tolower(what)), design, spread, kinds[2L], results[, 2L])
  )
}

counted_shares <- function(runs) {
  designs <- expand.grid(
    spread = spreads, share = if (quick) 0.125 else c(0.02, 0.125, 0.5), greedy = c(FALSE, TRUE),
    replications = c(1, 5), items = c(6, 12)
  )
  # Greedy answers of five replications are those of one, five times.
  designs <- designs[!designs$greedy | designs$replications == 5, ]
  if (quick) designs <- designs[designs$items == 12, ]
  do.call(rbind, lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    # Study 1 has one prompt a story and cell, asked 8 times; study 2 has 17 a domain.
    prompts <- if (d$items == 12) 17 else if (d$greedy) 1 else 8
    mu <- logit_of_share(d$share, d$spread)
    answers <- d$items * prompts * if (d$greedy) 1 else d$replications
    results <- repeated(runs, function() {
      shares <- stats::plogis(mu + d$spread * stats::rnorm(d$items))
      share_result(made_answers(shares, prompts, d$replications, d$greedy), TRUE, d$share)
    }, share_kinds(answers, d$share))
    share_rows(
      sprintf("Share of %s answers, %d items", if (d$greedy) "greedy" else "sampled", d$items),
      sprintf("%g, %d answers", d$share, answers), d$spread, answers, d$share, results
    )
  }))
}

measured_shares <- function(runs) {
  designs <- expand.grid(
    spread = setdiff(spreads, 0), share = if (quick) 0.125 else c(0.02, 0.125, 0.5),
    items = c(6, 12)
  )
  do.call(rbind, lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    mu <- logit_of_share(d$share, d$spread)
    results <- repeated(runs, function() {
      shares <- stats::plogis(mu + d$spread * stats::rnorm(d$items))
      rows <- data.frame(
        experiment = "exp2", item = rep(seq_len(d$items), 5),
        prompt_id = rep(seq_len(d$items), 5), value = rep(shares, 5)
      )
      share_result(collapse_copies(rows, "value"), FALSE, d$share)
    }, share_kinds(Inf, d$share))
    share_rows(
      sprintf("Measured probability, %d items", d$items), sprintf("%g", d$share), d$spread, Inf,
      d$share, results
    )
  }))
}

#' Items with few answers, many, or none; and answers that are nearly always the same.
gaps_and_edges <- function(runs) {
  designs <- expand.grid(spread = spreads, share = c(0.002, 0.3, 0.998), items = c(6, 12))
  do.call(rbind, lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    mu <- logit_of_share(d$share, d$spread)
    results <- repeated(runs, function() {
      shares <- stats::plogis(mu + d$spread * stats::rnorm(d$items))
      rows <- made_answers(shares, 17, 1, FALSE)
      kept <- unlist(lapply(split(seq_len(nrow(rows)), rows$item), function(own) {
        own[seq_len(sample(c(0L, 5L, 10L, 17L), 1L, prob = c(1, 3, 3, 3)))]
      }))
      share_result(rows[kept, , drop = FALSE], TRUE, d$share)
    }, share_kinds(d$items * 9, d$share))
    what <- if (d$share == 0.3) "Share with empty cells" else "Share of almost none or all"
    share_rows(
      sprintf("%s, %d items", what, d$items), sprintf("%g", d$share), d$spread, d$items * 9,
      d$share, results
    )
  }))
}

#' Bets in percent: a story's mean with noise of draws, near the middle and near an end.
bets <- function(runs) {
  designs <- expand.grid(
    spread = spreads, share = c(0.05, 0.5), answers = c(1, 8, 42), items = 6
  )
  designs <- designs[designs$spread > 0 | designs$answers > 1, ]
  noise <- 0.5
  do.call(rbind, lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    mu <- logit_of_share(d$share, sqrt(d$spread^2 + if (d$answers > 1) noise^2 else 0))
    results <- repeated(runs, function() {
      item <- rep(seq_len(d$items), d$answers)
      logit <- mu + (d$spread * stats::rnorm(d$items))[item]
      if (d$answers > 1) logit <- logit + noise * stats::rnorm(length(item))
      cbind(covers(mean_by_item(100 * stats::plogis(logit), item, c(0, 100)), 100 * d$share))
    }, "coverage")
    checked(
      sprintf("Mean bet, %s, %d items", if (d$answers > 1) "sampled" else "measured", d$items),
      sprintf("%g, %d answers an item", d$share, d$answers), d$spread, "coverage", results
    )
  }))
}

#' Two cells with the same items, whose difference differs between items by `spread` logits, too.
contrasts <- function(runs) {
  designs <- expand.grid(
    spread = spreads, answers = if (quick) 17 else c(8, 17, 85, Inf), share = c(0.125, 0.5),
    items = c(6, 12)
  )
  designs <- designs[designs$spread > 0 | is.finite(designs$answers), ]
  do.call(rbind, lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    mu <- logit_of_share(d$share, sqrt(2) * d$spread)
    results <- repeated(runs, function() {
      own <- d$spread * stats::rnorm(d$items)
      cell <- function() {
        shares <- stats::plogis(mu + own + d$spread * stats::rnorm(d$items))
        if (is.infinite(d$answers)) return(shares)
        stats::rbinom(d$items, d$answers, shares) / d$answers
      }
      item <- seq_len(d$items)
      pairs <- paired_differences(cell(), item, cell(), item)
      tested <- test_differences(pairs, names(pairs), 0.1)
      if (is.na(tested$p)) return(cbind(NA, NA))
      cbind(covers(list(low = tested$ci_low, high = tested$ci_high), 0), tested$p < 0.05)
    }, share_kinds(d$items * d$answers, d$share))
    design <- sprintf("%g, %g answers an item", d$share, d$answers)
    kinds <- share_kinds(d$items * d$answers, d$share)
    rbind(
      checked(sprintf("Paired contrast, %d items", d$items), design, d$spread, kinds[1L],
        results[, 1L]),
      checked(sprintf("t test of a paired contrast, %d items", d$items), design, d$spread,
        kinds[2L], results[, 2L])
    )
  }))
}

#' At the margin itself two conditions are not equivalent; an equivalence test may find them so in
#' 5 % of runs, and in fewer where it has no power.
equivalence <- function(runs) {
  designs <- expand.grid(spread = spreads, items = c(6, 12))
  do.call(rbind, lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    kind <- if (d$spread > 0.2) "rejections, few" else "rejections"
    results <- repeated(runs, function() {
      difference <- 10 + (2 + 10 * d$spread) * stats::rnorm(d$items)
      tested <- test_differences(difference, seq_len(d$items), 10)
      cbind(tested$p_equivalence < 0.05)
    }, kind)
    checked(sprintf("Equivalence test at its margin, %d items", d$items), "points", d$spread, kind,
      results)
  }))
}

# Distances ----------------------------------------------------------------------------------------

#' Distributions by item, items x (cells x options), of a model whose logits differ between items.
item_distributions <- function(logits, spread, items) {
  shift <- matrix(spread * stats::rnorm(items * ncol(logits)), items)
  do.call(cbind, lapply(seq_len(nrow(logits)), function(cell) {
    odds <- exp(shift + rep(logits[cell, ], each = items))
    odds / rowSums(odds)
  }))
}

drawn <- function(shares, answers, options) {
  if (is.infinite(answers)) return(shares)
  cells <- ncol(shares) / options
  for (i in seq_len(nrow(shares))) {
    for (cell in seq_len(cells)) {
      at <- (cell - 1) * options + seq_len(options)
      shares[i, at] <- stats::rmultinom(1L, answers, shares[i, at]) / answers
    }
  }
  shares
}

distances <- function(runs) {
  people <- people_shares()
  functions <- distance_functions(people)
  models <- list(near = log(0.9 * people + 0.1 / 8), far = log(0.4 * people[12:1, ] + 0.6 / 8))
  designs <- expand.grid(
    model = names(models), spread = spreads, answers = if (quick) 17 else c(17, 85, Inf)
  )
  designs <- designs[designs$spread > 0 | is.finite(designs$answers), ]
  do.call(rbind, lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    logits <- models[[d$model]]
    many <- colMeans(item_distributions(logits, d$spread, if (d$spread > 0) 20000L else 1L))
    truth <- vapply(functions, function(one) one(many), numeric(1L))
    # Evened out, people's shares correlate with them perfectly: r is 1, where its scale ends.
    at_end <- truth[["r"]] > 1 - 1e-9
    kinds <- c("coverage", "coverage", if (at_end) "coverage, at an end" else "coverage")
    results <- repeated(runs, function() {
      shares <- item_distributions(logits, d$spread, 12L)
      found <- corrected_distances(drawn(shares, d$answers, 8L), functions)
      cbind(
        covers(list(low = found$jsd_low, high = found$jsd_high), truth[["jsd"]]),
        covers(list(low = found$rmse_low, high = found$rmse_high), truth[["rmse"]]),
        covers(list(low = found$r_low, high = found$r_high), truth[["r"]])
      )
    }, kinds)
    design <- sprintf("%s, %g answers a cell", d$model, 12 * d$answers)
    do.call(rbind, Map(function(what, column) {
      checked(sprintf("%s, 12 items", what), design, d$spread, kinds[column], results[, column])
    }, c("JSD", "RMSE", "r"), 1:3))
  }))
}

#' One cell of study 1 against one distribution, far from the model's or near it.
cell_distances <- function(runs) {
  target <- c(0.02, 0.3, 0.58, 0.1)
  functions <- list(jsd = function(x) jsd_bits(x, target), emd = function(x) emd(x, target))
  models <- list(far = c(0.1, 0.15, 0.45, 0.3), near = c(0.02, 0.28, 0.6, 0.1))
  designs <- expand.grid(model = names(models), spread = setdiff(spreads, 0), items = c(6, 12))
  do.call(rbind, lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    logits <- matrix(log(models[[d$model]]), 1L)
    many <- colMeans(item_distributions(logits, d$spread, 50000L))
    truth <- vapply(functions, function(one) one(many), numeric(1L))
    kinds <- c(if (truth[["jsd"]] < 0.005) "coverage, near 0" else "coverage", "coverage")
    results <- repeated(runs, function() {
      found <- corrected_distances(item_distributions(logits, d$spread, d$items), functions)
      cbind(
        covers(list(low = found$jsd_low, high = found$jsd_high), truth[["jsd"]]),
        covers(list(low = found$emd_low, high = found$emd_high), truth[["emd"]])
      )
    }, kinds)
    rbind(
      checked(sprintf("JSD of a cell's bets, %d items", d$items), d$model, d$spread, kinds[1L],
        results[, 1L]),
      checked(sprintf("EMD of a cell's bets, %d items", d$items), d$model, d$spread, kinds[2L],
        results[, 2L])
    )
  }))
}

# Power --------------------------------------------------------------------------------------------

#' What the main tests find of an effect that is there: the share of runs in which they do.
power <- function(runs) {
  hearts <- function(share, spread, prompts) {
    mu <- logit_of_share(share, spread)
    domain <- rep(1:12, each = prompts)
    function() {
      shares <- stats::plogis(mu + spread * stats::rnorm(12L))
      tested <- share_by_item(stats::rbinom(12L * prompts, 1L, shares[domain]), domain, TRUE)
      cbind(isTRUE(test_share(tested, 1 / 8) < 0.05))
    }
  }
  story <- function(points, sd) {
    function() cbind(test_differences(points + sd * stats::rnorm(6L), 1:6, 10)$p < 0.05)
  }
  alike <- function(items, sd) {
    function() {
      cbind(test_differences(sd * stats::rnorm(items), seq_len(items), 10)$p_equivalence < 0.05)
    }
  }
  designs <- list(
    list("Planned contrast of 10 points, 6 stories that differ by 10", story(10, 10)),
    list("Planned contrast of 20 points, 6 stories that differ by 10", story(20, 10)),
    list("Planned contrast of 20 points, 6 stories that differ by 20", story(20, 20)),
    list("Equivalence of no difference, 6 stories that differ by 5 points", alike(6L, 5)),
    list("Equivalence of no difference, 6 stories that differ by 10 points", alike(6L, 10)),
    list("Share of .2 against 1/8, 12 domains .5 logits apart, 204 answers", hearts(0.2, 0.5, 17L)),
    list("Share of .25 against 1/8, 12 domains .5 logits apart, 204 answers",
      hearts(0.25, 0.5, 17L)),
    list("Share of .36 (people's) against 1/8, 12 domains 1 logit apart, 204 answers",
      hearts(0.36, 1, 17L))
  )
  bind(lapply(designs, function(one) {
    checked(one[[1L]], "", NA_real_, "power", repeated(runs, one[[2L]], "power")[, 1L])
  }))
}

simulations <- list(
  "shares of counted answers" = counted_shares, "measured probabilities" = measured_shares,
  "empty cells and separated data" = gaps_and_edges, "mean bets" = bets,
  "paired contrasts" = contrasts, "equivalence" = equivalence, "distances" = distances,
  "distances of a cell" = cell_distances, "power of tests by item" = power
)
