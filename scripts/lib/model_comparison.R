# Models compared with each other, in pairs, by item. Base R only; source after common.R,
# inference.R, item_tests.R, variance_components.R, which says what a measure is, and
# planned_precision.R.

pair_columns <- c(
  "experiment", "variant", "measure", "label_a", "label_b", "model_a", "model_b", "n_items",
  "value_a", "low_a", "high_a", "value_b", "low_b", "high_b", "difference", "sd", "ci_low",
  "ci_high", "t", "df", "cohen_dz", "cohen_h", "only_a", "only_b", "test", "p", "p_bh",
  "p_equivalence", "outcome", "note"
)

#' Every pair of models on every measure, per experiment and variant: the difference of their scores
#' by item, which for items of one size is Miller's (2024, arXiv 2411.00640) paired difference with
#' errors clustered by item, with t over the few items for z.
#'
#' Where both models have one answer to an item, yes or no, items are the pairs of McNemar's exact
#' test, and p is its. Where an item has several answers that test would take them for independent:
#' p is that of the t test by item. BH is over all pairs of one experiment, variant and measure.
#'
#' @param measures As `study_components` takes them, with `label`.
#' @param margin Equivalence margin in percent of a measure's scale.
#' @param item What an item is called.
model_pairs <- function(measures, margin, item = "item") {
  bind(lapply(measures, function(measure) {
    by_group(measure$rows, c("experiment", "variant"), function(rows) {
      if (length(unique(rows$label)) < 2L) return(NULL)
      compared <- compare_pairs(rows, measure, margin, item)
      if (is.null(compared)) NULL else cbind(measure = measure$name, compared)
    })
  }))
}

#' NULL where fewer than two models have answers in the measure's cells.
compare_pairs <- function(rows, measure, margin, item) {
  design <- score_table(rows, "label", measure$weights, measure$asked)
  if (nrow(design$units) < 2L) return(NULL)
  scores <- design$scores
  order <- order(design$units$label)
  pairs <- utils::combn(order, 2L)
  a <- pairs[1L, ]
  b <- pairs[2L, ]
  differences <- scores[, a, drop = FALSE] - scores[, b, drop = FALSE]
  tested <- test_columns(differences, margin / 100 * measure$scale)
  values <- bind(lapply(seq_len(ncol(scores)), function(i) {
    own <- rows[rows$label == design$units$label[i], , drop = FALSE]
    model_value(scores[, i], own, measure, item)
  }))
  exact <- exact_tests(design, scores, a, b)
  labels <- as.character(design$units$label)
  keys <- rows[match(labels, rows$label), "model_key"]
  out <- data.frame(
    label_a = labels[a], label_b = labels[b], model_a = keys[a], model_b = keys[b],
    stats::setNames(values[a, ], c("value_a", "low_a", "high_a")),
    stats::setNames(values[b, ], c("value_b", "low_b", "high_b")), tested, row.names = NULL
  )
  share <- length(measure$range) == 2L && all(measure$range == c(0, 1))
  # Of the items that the difference is of: a model's own number may be of more.
  shared <- ifelse(is.finite(differences), 1, NA_real_)
  of_shared <- function(side) {
    means <- colMeans(scores[, side, drop = FALSE] * shared, na.rm = TRUE)
    ifelse(out$n_items > 0L, means, NA_real_)
  }
  out$cohen_h <- if (share) cohen_h(of_shared(a), of_shared(b)) else NA_real_
  out$only_a <- exact$only_a
  out$only_b <- exact$only_b
  with_mcnemar <- !is.na(exact$p)
  out$test <- ifelse(with_mcnemar, "McNemar exact", ifelse(is.na(out$p), NA, "paired t by item"))
  out$p <- ifelse(with_mcnemar, exact$p, out$p)
  out$p_bh <- stats::p.adjust(out$p, "BH")
  # Constant differences are judged by their size, unless McNemar's test has a p for them.
  spread <- ifelse(with_mcnemar & out$difference != 0, NA, out$sd)
  out$outcome <- unname(pair_outcomes[contrast_outcome(
    out$difference, out$p_bh, out$p_equivalence, spread, margin / 100 * measure$scale
  )])
  lost <- nrow(scores) - out$n_items
  out$note <- mapply(notes, ifelse(
    out$n_items == 0L, sprintf("no %s with usable answers of both models", item), ifelse(
      out$n_items == 1L, sprintf("one %s only: no test", item), ifelse(
        out$sd == 0 & !is.na(out$sd),
        sprintf("the difference is the same for every %s: no interval", item), ""
      )
    )
  ), ifelse(lost > 0L & out$n_items > 0L, sprintf(
    "%ss left out, with no usable answer of one of them in some condition: %d", item, lost
  ), ""), USE.NAMES = FALSE)
  out
}

#' Differences are of a less b.
pair_outcomes <- c(
  holds = "a higher", reversed = "b higher", equivalent = "equivalent", undecided = "undecided"
)

#' A model's own number with its interval: that of the frame (Wilson's of the effective number of
#' answers) where the measure is a mean on a scale with ends, else t over items.
model_value <- function(scores, rows, measure, item) {
  scores <- scores[is.finite(scores)]
  if (length(scores) == 0L) return(data.frame(value = NA_real_, low = NA_real_, high = NA_real_))
  found <- mean_by_item(scores, names(scores), measure$range, item)
  counted <- length(measure$range) == 2L && all(rows$experiment == "exp1") &&
    all(rows$value %in% measure$range)
  if (counted && length(scores) > 1L && is_constant(scores)) {
    share <- (rows$value - measure$range[1L]) / diff(measure$range)
    limits <- share_by_item(share, rows$item, TRUE, item)
    found[c("low", "high")] <- as.list(
      measure$range[1L] + c(limits$low, limits$high) * diff(measure$range)
    )
  }
  data.frame(value = found$estimate, low = found$low, high = found$high)
}

#' McNemar's exact test of each pair, where every item has one answer of either model, 0 or 1;
#' `only_a` and `only_b` are the items that one of the two alone answers with 1.
exact_tests <- function(design, scores, a, b) {
  single <- rowsum(design$counts, design$item) == 1
  of_items <- colSums(!single & !is.na(scores)) == 0 &
    colSums(!(is.na(scores) | scores == 0 | scores == 1)) == 0 &
    all(design$weight == 1)
  shared <- colSums(!is.na(scores[, a, drop = FALSE] + scores[, b, drop = FALSE]))
  usable <- of_items[a] & of_items[b] & shared > 1L
  count <- function(first, second) {
    colSums(scores[, first, drop = FALSE] == 1 & scores[, second, drop = FALSE] == 0, na.rm = TRUE)
  }
  only_a <- ifelse(usable, count(a, b), NA_real_)
  only_b <- ifelse(usable, count(b, a), NA_real_)
  list(only_a = only_a, only_b = only_b, p = mcnemar_exact(only_a, only_b))
}

# What analyses call -------------------------------------------------------------------------------

#' The tables of a study that compare its models and plan the next run: `model_pairs`,
#' `variance_components` and `precision`.
#'
#' @param distinct,every The study's answers, without and with copies.
#' @param define Gives of answers the measures, each with its `rows`.
comparison_tables <- function(distinct, every, define, greedy, margin, item) {
  measures <- define(distinct)
  with_copies <- define(every)
  measures <- Map(function(one, all) c(one, list(every = all$rows)), measures, with_copies)
  parts <- study_components(measures, greedy)
  list(
    model_pairs = model_pairs(measures, margin, item),
    variance_components = component_table(parts), precision = precision_table(parts, margin)
  )
}

comparison_columns <- list(
  model_pairs = pair_columns, variance_components = component_columns,
  precision = precision_columns
)
