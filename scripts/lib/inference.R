# The one frame of inference: items are the units, draws count only within them, copies not at all.
# docs/statistics.md says why and how well each interval covers. Base R only; source after common.R.

# Answers and items --------------------------------------------------------------------------------

#' The column that tells one request for an answer to a prompt from another.
request_seeds <- "exp1_request_seed"

#' Whether answers are sampled so that a prompt always has the same one.
is_greedy <- function(params) isTRUE(params[["generation"]][["temperature"]] == 0)

#' Rows in an order that their values alone give, those of the first replication first. What keeps
#' one of several copies, or draws for each row, must not depend on how a table is sorted.
in_own_order <- function(rows) rows[order_of(rows), , drop = FALSE]

order_of <- function(rows) {
  columns <- c(intersect("replication", names(rows)), setdiff(names(rows), "replication"))
  do.call(order, unname(as.list(rows[columns])))
}

#' One row for each distinct answer: the others are copies, which hold nothing new.
#'
#' Measurements of a prompt (experiment 2) are copies of one another, and so are its greedy answers;
#' sampled answers are where prompt and seed of the request are the same. Numbers of copies are
#' averaged; what else a row says is that of the first in the others' own order.
#'
#' @param rows Rows of models, with `experiment`, `prompt_id` and perhaps `request_seed`.
#' @param values Columns of numbers.
#' @param by Further columns that tell answers apart.
#' @return The rows that are left, with `copies`: how many more rows each stands for.
collapse_copies <- function(rows, values, greedy = FALSE, by = character(0)) {
  rows$copies <- rep(0L, nrow(rows))
  if (nrow(rows) == 0L) return(rows)
  drawn <- rows$experiment == "exp1" & !greedy
  seed <- if (is.null(rows$request_seed)) rep(NA, nrow(rows)) else rows$request_seed
  draw <- ifelse(drawn, ifelse(is.na(seed), paste0("row ", seq_len(nrow(rows))), seed), "")
  named <- c("label", "model_key", "variant", "experiment", "prompt_id")
  keys <- c(intersect(named, names(rows)), by)
  key <- do.call(paste, c(unname(as.list(rows[keys])), list(draw), sep = "\r"))
  group <- match(key, unique(key))
  if (!anyDuplicated(group)) return(rows)
  copied <- which(group %in% group[duplicated(group)])
  chosen <- which(!duplicated(group))
  ordered <- copied[order_of(rows[copied, setdiff(names(rows), values), drop = FALSE])]
  ordered <- ordered[!duplicated(group[ordered])]
  chosen[group[ordered]] <- ordered
  kept <- rows[chosen, , drop = FALSE]
  for (name in values) {
    known <- !is.na(rows[[name]])
    sums <- rowsum(ifelse(known, rows[[name]], 0), group)
    counts <- rowsum(as.numeric(known), group)
    kept[[name]] <- ifelse(counts[, 1L] > 0, sums[, 1L] / counts[, 1L], NA_real_)
  }
  kept$copies <- tabulate(group) - 1L
  row.names(kept) <- NULL
  kept
}

#' Names the copies among these answers.
copies_note <- function(rows) {
  copies <- sum(rows$copies)
  if (copies == 0L) return("")
  sprintf("%d %s not counted", copies, if (copies == 1L) "copy" else "copies")
}

#' Mean of each column by item, every answer of an item with the same weight: items x columns. NaN
#' where an item has no number.
item_means <- function(values, item) {
  values <- as.matrix(values)
  item <- as.character(item)
  known <- !is.na(values)
  values[!known] <- 0
  rowsum(values, item) / rowsum(known + 0, item)
}

# Means --------------------------------------------------------------------------------------------

#' Mean of item means with its t interval: every item weighs the same.
#'
#' @param range Limits of the scale: then the mean is a share of it, as skewed near them as shares
#'   are, and has the interval of `share_by_item`. NULL if there are none.
mean_by_item <- function(values, item, range = NULL, unit = "item") {
  means <- item_means(values, item)[, 1L]
  means <- means[is.finite(means)]
  out <- list(
    items = length(means), estimate = if (length(means) > 0L) mean(means) else NA_real_,
    sd = if (length(means) > 1L) stats::sd(means) else NA_real_, low = NA_real_, high = NA_real_,
    note = few_items(means, unit)
  )
  if (nzchar(out$note)) return(out)
  limits <- if (length(range) == 2L) {
    share <- share_by_item((means - range[1L]) / diff(range), names(means), FALSE, unit)
    range[1L] + c(share$low, share$high) * diff(range)
  } else {
    half <- stats::qt(0.975, out$items - 1) * out$sd / sqrt(out$items)
    out$estimate + c(-half, half)
  }
  out[c("low", "high")] <- as.list(limits)
  out
}

#' Half-width of the 95% interval of a mean over `n` items and `k` units that every item is asked
#' of, such as wordings, both random: the error is (MSi + MSu - MSr) / (n * k), with Satterthwaite's
#' degrees of freedom (the quasi F of Clark 1973, with its min F' as a floor: the error is at least
#' that of the larger spread, on that one's degrees of freedom).
#'
#' @param square Mean squares of items, of units, and of what both leave, in this order.
#' @return list: half, df.
crossed_half_width <- function(square, n, k) {
  df <- c(n - 1, k - 1, (n - 1) * (k - 1))
  total <- square[[1L]] + square[[2L]] - square[[3L]]
  of_both <- total^2 / sum(square^2 / df)
  half <- max(
    if (total > 0) stats::qt(0.975, max(1, of_both)) * sqrt(total / (n * k)) else 0,
    stats::qt(0.975, df[1:2]) * sqrt(square[1:2] / (n * k)) * (square[1:2] == max(square[1:2]))
  )
  list(half = half, df = of_both)
}

#' Why these item means give no interval, or "".
few_items <- function(means, unit = "item") {
  if (length(means) == 0L) {
    "no usable answer"
  } else if (length(means) == 1L) {
    sprintf("one %s only: no interval", unit)
  } else if (is_constant(means)) {
    sprintf("the same for every %s: no spread to tell an interval from", unit)
  } else {
    ""
  }
}

# Proportions --------------------------------------------------------------------------------------

#' A proportion by item, with Wilson's interval of as many independent answers as would be as sure
#' of it (the effective sample size), and t for z.
#'
#' The error is that of the item means, so that answers of an item may be as alike as they are. Rare
#' and frequent answers have skewed item means, whose error a few items understate; there the spread
#' of log odds between items, where there is one beyond the noise of draws, takes its place with
#' weight (1 - 2p)^2, as in Cox's interval for the mean of a log-normal variable.
#'
#' Counts of which each item has one alone are independent, however items differ, and their sum is
#' binomial: then the interval is the exact one by mid-p (Lancaster 1961, JASA 56; Agresti & Gottard
#' 2005), which is the least wide that covers what the few outcomes can. Copies that differ, as
#' greedy answers may, average to a number between 0 and 1, whose sum is no count: of such the
#' interval is that of the item means.
#'
#' @param values 0/1 of counted answers, probabilities of measured ones.
#' @param counted Whether the values are counts: then items that agree may do so by chance.
share_by_item <- function(values, item, counted, unit = "item") {
  known <- !is.na(values)
  values <- values[known]
  item <- as.character(item[known])
  means <- item_means(values, item)[, 1L]
  sizes <- rowsum(rep(1, length(values)), item)[, 1L]
  out <- list(
    items = length(means), answers = length(values),
    estimate = if (length(means) > 0L) mean(means) else NA_real_,
    effective = NA_real_, exact = FALSE, low = NA_real_, high = NA_real_, note = ""
  )
  out$note <- few_items(means, unit)
  same <- length(means) > 1L && is_constant(means)
  if (nzchar(out$note) && !(same && counted)) return(out)
  out$note <- ""
  if (counted && are_counts(means, sizes)) {
    out$exact <- TRUE
    out$effective <- sum(sizes)
    out[c("low", "high")] <- as.list(mid_p_limits(sum(means), sum(sizes)))
    return(out)
  }
  out$effective <- if (same) sum(sizes) else effective_answers(means, sizes, counted)
  limits <- wilson_share(out$estimate, out$effective, length(means) - 1)
  out[c("low", "high")] <- as.list(limits)
  out
}

#' Whether each item has one answer, yes or no.
are_counts <- function(means, sizes) all(sizes == 1) && all(means %in% c(0, 1))

#' How many independent answers would have the error of these item means.
effective_answers <- function(means, sizes, counted) {
  items <- length(means)
  share <- mean(means)
  error <- stats::var(means) / items / (share * (1 - share))^2
  odds <- if (counted) {
    log((means * sizes + 0.5) / ((1 - means) * sizes + 0.5))
  } else if (all(means > 0 & means < 1)) {
    stats::qlogis(means)
  } else {
    rep(0, items)
  }
  noise <- if (counted) mean(1 / (means * sizes + 0.5) + 1 / ((1 - means) * sizes + 0.5)) else 0
  spread <- stats::var(odds)
  # Noise of draws alone must not look like a spread of items.
  if (spread > noise * stats::qchisq(0.95, items - 1) / (items - 1)) {
    between <- spread - noise
    drawn <- if (counted) mean(1 / sizes) / items / (share * (1 - share)) else 0
    skewed <- between / items + (1 - 2 * share)^2 / 2 * between^2 / (items - 1) + drawn
    error <- error + (1 - 2 * share)^2 * max(0, skewed - error)
  }
  1 / (share * (1 - share) * error)
}

#' Wilson's interval with a t quantile. A share of zero has a lower limit of exactly zero.
wilson_share <- function(share, size, df, level = 0.95) {
  q <- stats::qt(1 - (1 - level) / 2, df)
  middle <- (share + q^2 / (2 * size)) / (1 + q^2 / size)
  half <- q * sqrt(share * (1 - share) / size + q^2 / (4 * size^2)) / (1 + q^2 / size)
  c(if (share <= 0) 0 else middle - half, if (share >= 1) 1 else middle + half)
}

#' The chance of fewer than `count` of `total` independent answers, and half that of as many.
mid_p <- function(count, total, share) {
  stats::pbinom(count - 1, total, share) + stats::dbinom(count, total, share) / 2
}

#' The shares at which a count is neither too low nor too high by mid-p.
mid_p_limits <- function(count, total, level = 0.95) {
  solved <- function(tail) {
    stats::uniroot(function(share) mid_p(count, total, share) - tail, c(0, 1), tol = 1e-12)$root
  }
  tail <- (1 - level) / 2
  c(if (count == 0) 0 else solved(1 - tail), if (count == total) 1 else solved(tail))
}

#' Two-sided p of a share against `null`, the test whose acceptance is the interval of
#' `share_by_item`; NA where there is none.
test_share <- function(tested, null) {
  if (is.na(tested$low) || tested$items < 2L) return(NA_real_)
  if (tested$exact) {
    below <- mid_p(round(tested$estimate * tested$effective), tested$effective, null)
    return(2 * min(below, 1 - below))
  }
  statistic <- (tested$estimate - null) / sqrt(null * (1 - null) / tested$effective)
  2 * stats::pt(-abs(statistic), tested$items - 1)
}

#' Columns of shares of these answers, one row a share; `n` counts, `name` is the share's column.
share_columns <- function(shares, piece, n, name) {
  number <- function(part) vapply(shares, function(one) as.numeric(one[[part]]), numeric(1L))
  out <- data.frame(
    n_items = number("items"), n_prompts = length(unique(piece$prompt_id)), n = n,
    total = nrow(piece), value = number("estimate"), ci_low = number("low"),
    ci_high = number("high"),
    note = vapply(shares, function(one) notes(one$note, copies_note(piece)), character(1L))
  )
  names(out)[names(out) == "value"] <- name
  out
}

# Differences --------------------------------------------------------------------------------------

#' t tests of many differences against 0 at once: each column of item means (NA where an item has
#' none) has a row, with a t interval and the p of its equivalence test. A column of fewer than two
#' items has neither, nor has one that is the same for every item, whose `sd` is 0.
#'
#' @param means Items x differences.
#' @param margin Equivalence margin, in the unit of the differences; NA for none.
test_columns <- function(means, margin) {
  known <- is.finite(means)
  means[!known] <- 0
  count <- colSums(known)
  difference <- ifelse(count > 0, colSums(means) / count, NA_real_)
  rest <- ifelse(known, means - rep(difference, each = nrow(means)), 0)
  sd <- ifelse(count > 1, sqrt(colSums(rest^2) / pmax(1, count - 1)), NA_real_)
  same <- colSums(abs(rest) > 0.5e-9 * pmax(1, abs(rep(difference, each = nrow(means))))) == 0
  sd[same & count > 1] <- 0
  tested <- count > 1 & !same
  only <- function(values) ifelse(tested, values, NA_real_)
  df <- only(count - 1)
  error <- only(sd / sqrt(count))
  half <- stats::qt(0.975, df) * error
  t <- only(difference / error)
  data.frame(
    n_items = count, difference = difference, sd = sd, ci_low = difference - half,
    ci_high = difference + half, t = t, df = df, p = 2 * stats::pt(-abs(t), df),
    cohen_dz = only(difference / sd),
    p_equivalence = equivalence_p(difference, error, df, margin), row.names = NULL
  )
}

#' Two-sided t test of differences against 0 by item, with an equivalence test (TOST).
#'
#' Differences within an item are averaged first: items are the independent units.
#'
#' @param margin Equivalence margin, in the unit of the differences.
test_differences <- function(difference, item, margin, unit = "item") {
  known <- !is.na(difference)
  difference <- difference[known]
  means <- if (length(difference) == 0L) {
    numeric(0)
  } else {
    item_means(difference, item[known])[, 1L]
  }
  out <- test_columns(cbind(unname(means)), margin)
  count <- length(means)
  note <- if (count == 0L) {
    "no usable answer"
  } else if (count == 1L) {
    sprintf("one %s only: no test", unit)
  } else if (is.na(out$t)) {
    sprintf("constant: the difference is the same for every %s, so no t test exists", unit)
  } else {
    ""
  }
  cbind(out["n_items"], n_answers = length(difference), out[-1L], note = note)
}

#' The larger p of the two one-sided tests against the margins; NA without a margin.
equivalence_p <- function(difference, error, df, margin) {
  pmax(
    stats::pt((difference + margin) / error, df, lower.tail = FALSE),
    stats::pt((difference - margin) / error, df)
  )
}

#' Differences of two conditions, paired by the items that both have.
#'
#' @return Named by item; empty where no item has both.
paired_differences <- function(high, high_item, low, low_item) {
  first <- item_means(high, high_item)[, 1L]
  second <- item_means(low, low_item)[, 1L]
  both <- intersect(names(first), names(second))
  first[both] - second[both]
}

#' What tests say of planned differences: "equivalent" if within the margin by the equivalence test,
#' else "holds" or "reversed" by the t test, else "undecided". Differences that are the same for
#' every item have no test, and are judged by their size. NA where nothing can be said.
contrast_outcome <- function(difference, p, p_equivalence, sd, margin) {
  constant <- !is.na(sd) & sd == 0
  sign <- ifelse(difference > 0, "holds", "reversed")
  tested <- ifelse(
    !is.na(p_equivalence) & p_equivalence < 0.05, "equivalent", ifelse(p < 0.05, sign, "undecided")
  )
  within <- abs(difference) < ifelse(is.na(margin), 0, margin) | difference == 0
  ifelse(constant, ifelse(within, "equivalent", sign), ifelse(is.na(p), NA_character_, tested))
}

# Distances ----------------------------------------------------------------------------------------

#' A number that follows from item means, corrected for the bias that few items and answers give it,
#' with a t interval by item: the jackknife. Each item's pseudo-value is what it adds to the number;
#' their mean is the corrected number.
#'
#' Its error is that of the pseudo-values, or the jackknife's of the corrected number itself, for
#' which pairs of items are left out: correcting a bias adds noise, which pseudo-values do not show.
#' Close to a limit of the range they spread too much already (Efron & Stein 1981, Annals of
#' Statistics 9(3), 586-596). Which of them covers is known from simulations alone.
#'
#' @param means Items x columns, NaN where an item has no answer.
#' @param statistic Of a vector of column means.
#' @param range Limits of the statistic, beyond which neither number nor interval goes.
#' @param corrected Whether the error is that of the corrected number: "never"; "halfway", the
#'   geometric mean of both; or "inside", unless the interval of pseudo-values reaches a limit.
#' @param one_sided Whether an interval that reaches a limit of the range has its other end where
#'   5 % of intervals miss, in place of 2.5 %: it can miss on that side only.
jackknife <- function(means, statistic, range = c(-Inf, Inf), unit = "item",
                      corrected = "never", one_sided = FALSE) {
  items <- nrow(means)
  known <- is.finite(means)
  means[!known] <- 0
  sums <- colSums(means)
  counts <- colSums(known)
  out <- list(items = items, estimate = NA_real_, low = NA_real_, high = NA_real_, note = "")
  if (items < 2L) {
    out$note <- few_items(rep(0, items), unit)
    return(out)
  }
  without <- vapply(seq_len(items), function(i) {
    statistic((sums - means[i, ]) / (counts - known[i, ]))
  }, numeric(1L))
  pseudo <- items * statistic(sums / counts) - (items - 1) * without
  if (!all(is.finite(pseudo))) {
    out$note <- sprintf("no interval: without one of the %ss the number does not exist", unit)
    return(out)
  }
  inside <- function(value) min(max(value, range[1L]), range[2L])
  out$estimate <- inside(mean(pseudo))
  out$note <- few_items(pseudo, unit)
  if (nzchar(out$note)) return(out)
  ends <- jackknife_ends(pseudo, range, corrected, one_sided, function() {
    corrected_error(sums, counts, means, known, statistic, without)
  })
  out$low <- inside(ends[1L])
  out$high <- inside(ends[2L])
  out
}

#' The ends of a jackknife's t interval; `of_corrected` gives the error of the corrected number.
jackknife_ends <- function(pseudo, range, corrected, one_sided, of_corrected) {
  items <- length(pseudo)
  error <- stats::sd(pseudo) / sqrt(items)
  half <- stats::qt(0.975, items - 1) * error
  reached <- c(mean(pseudo) - half <= range[1L], mean(pseudo) + half >= range[2L])
  if (items > 2L && corrected %in% c("halfway", if (!any(reached)) "inside")) {
    other <- of_corrected()
    if (corrected == "halfway") other <- sqrt(error * other)
    if (is.finite(other)) error <- other
  }
  # What reaches the limit on one side misses on the other alone.
  level <- if (one_sided && sum(reached) == 1L) ifelse(reached, 0.975, 0.95) else 0.975
  mean(pseudo) + c(-1, 1) * stats::qt(level, items - 1) * error
}

#' The jackknife's error of a number that it corrected; NA where the number does not exist without
#' two of the items.
#'
#' @param without The number without each item.
corrected_error <- function(sums, counts, means, known, statistic, without) {
  items <- nrow(means)
  pairs <- utils::combn(items, 2L)
  without_two <- apply(pairs, 2L, function(out) {
    left <- counts - colSums(known[out, , drop = FALSE])
    statistic((sums - colSums(means[out, , drop = FALSE])) / left)
  })
  if (!all(is.finite(without_two))) return(NA_real_)
  of_item <- vapply(seq_len(items), function(i) {
    mean(without_two[pairs[1L, ] == i | pairs[2L, ] == i])
  }, numeric(1L))
  stats::sd((items - 1) * without - (items - 2) * of_item) * (items - 1) / sqrt(items)
}

#' Several such numbers of the same means: `<name>_corrected`, `<name>_low`, `<name>_high` each.
#'
#' @param statistics Named list of functions.
#' @param ranges Limits of each, by name.
corrected_distances <- function(means, statistics, ranges = distance_ranges, unit = "item") {
  found <- lapply(stats::setNames(nm = names(statistics)), function(name) {
    jackknife(
      means, statistics[[name]], ranges[[name]], unit, distance_errors[[name]],
      name %in% one_sided_distances
    )
  })
  numbers <- lapply(names(found), function(name) {
    stats::setNames(
      found[[name]][c("estimate", "low", "high")], paste0(name, c("_corrected", "_low", "_high"))
    )
  })
  said <- unique(vapply(found, function(one) one$note, character(1L)))
  c(unlist(numbers, recursive = FALSE), list(note = notes(said)))
}

#' Whose error counts, as `jackknife` has it: what covers in simulations (docs/statistics.md).
distance_errors <- list(jsd = "halfway", emd = "halfway", rmse = "never", r = "inside")
one_sided_distances <- "r"
distance_ranges <- list(jsd = c(0, 1), emd = c(0, Inf), rmse = c(0, Inf), r = c(-1, 1))
