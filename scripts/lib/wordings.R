# What holds whatever the wording: estimates over several prompt variants of one model, where items
# and wordings are both random. Base R only; source after common.R, inference.R and
# variance_components.R, which says what a measure is.

#' The columns of a table of estimates over wordings, in order.
wordings_columns <- c(
  "label", "model_key", "model_name", "experiment", "measure", "wordings", "n_items", "estimate",
  "ci_low", "ci_high", "df", "lowest", "highest", "sd_wording", "sd_item", "note"
)

#' Estimates over the wordings of each model and experiment; nothing where models were asked in one.
#'
#' @param rows Distinct answers, with `model_key`, `model_name`, `variant` and `experiment`.
#' @param measures Named list of functions of such rows that give one number for each item, named
#'   by it.
over_wordings <- function(rows, measures, unit = "item") {
  if (length(unique(rows$variant)) < 2L) return(data.frame())
  by_group(rows, c("model_key", "model_name", "experiment"), function(piece) {
    bind(lapply(names(measures), function(measure) {
      found <- bind(lapply(unique(piece$variant), function(variant) {
        values <- measures[[measure]](piece[piece$variant == variant, , drop = FALSE])
        if (length(values) == 0L) return(NULL)
        data.frame(value = unname(values), item = names(values), wording = variant)
      }))
      wordings_row(piece, measure, found$value, found$item, found$wording, unit)
    }))
  })
}

#' The same of measures as `component_tables` takes them.
measures_over_wordings <- function(measures, unit = "item") {
  bind(lapply(measures, function(measure) {
    if (length(unique(measure$rows$variant)) < 2L) return(NULL)
    by_group(measure$rows, c("model_key", "model_name", "experiment"), function(piece) {
      scored <- score_table(piece, "variant", measure$weights, measure$asked)
      wordings_row(
        piece, measure$name, as.vector(scored$scores),
        rep(rownames(scored$scores), ncol(scored$scores)),
        rep(scored$units$variant, each = nrow(scored$scores)), unit
      )
    })
  }))
}

wordings_row <- function(piece, measure, values, item, wording, unit) {
  one <- mean_by_item_and_wording(values, item, wording, unit)
  data.frame(
    label = piece$model_key[1L], measure = measure, wordings = one$wordings,
    n_items = one$items, estimate = one$estimate, ci_low = one$low, ci_high = one$high,
    df = one$df, lowest = one$lowest, highest = one$highest, sd_wording = one$sd_wording,
    sd_item = one$sd_item, note = one$note
  )
}

#' Mean over items and wordings with its interval: other items in other words would give others.
#'
#' Every item is asked in every wording, so the error of the mean holds both spreads
#' (`crossed_half_width`).
#'
#' @param values,item,wording One row an answer. Items that lack a wording are left out.
#' @return list: wordings, items, estimate, low, high, df; `sd_wording` and `sd_item`, the standard
#'   deviations that the wording and the item add (in the values' units); `lowest` and `highest`
#'   wording's mean; note.
mean_by_item_and_wording <- function(values, item, wording, unit = "item") {
  known <- !is.na(values)
  means <- if (any(known)) {
    tapply(values[known], list(as.character(item)[known], as.character(wording)[known]), mean)
  } else {
    matrix(numeric(0), 0L, 0L)
  }
  means <- means[rowSums(is.na(means)) == 0L, , drop = FALSE]
  k <- ncol(means)
  n <- nrow(means)
  out <- list(
    wordings = k, items = n, estimate = if (n > 0L) mean(means) else NA_real_, low = NA_real_,
    high = NA_real_, df = NA_real_, sd_wording = NA_real_, sd_item = NA_real_,
    lowest = if (n > 0L) min(colMeans(means)) else NA_real_,
    highest = if (n > 0L) max(colMeans(means)) else NA_real_, note = ""
  )
  if (n == 0L) {
    out$note <- sprintf("no %s was answered in every wording", unit)
  } else if (k < 3L) {
    out$note <- sprintf("%d wordings only: no interval over wordings", k)
  } else if (n < 2L) {
    out$note <- sprintf("one %s only: no interval", unit)
  } else if (is_constant(means)) {
    out$note <- sprintf("the same for every %s and wording: no spread", unit)
  } else {
    rows <- rowMeans(means) - mean(means)
    columns <- colMeans(means) - mean(means)
    rest <- means - mean(means) - outer(rows, columns, `+`)
    square <- c(
      item = k * sum(rows^2) / (n - 1), wording = n * sum(columns^2) / (k - 1),
      rest = sum(rest^2) / ((n - 1) * (k - 1))
    )
    crossed <- crossed_half_width(square, n, k)
    out$df <- crossed$df
    out$sd_wording <- sqrt(max(0, (square[["wording"]] - square[["rest"]]) / n))
    out$sd_item <- sqrt(max(0, (square[["item"]] - square[["rest"]]) / k))
    out$low <- out$estimate - crossed$half
    out$high <- out$estimate + crossed$half
  }
  out
}
