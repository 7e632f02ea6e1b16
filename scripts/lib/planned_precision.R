# How precise would a run of other numbers of items, wordings and replications be, and what would
# its tests find? From the components of variance of the run at hand, its pilot. Source after
# common.R and variance_components.R; the figure also needs figures.R.

#' Half-width of a 95 % interval to plan for, as a share of the scale.
half_width_target <- 0.05

# One pilot ----------------------------------------------------------------------------------------

#' Variance of an item's mean score with so many wordings and replications of the pilot's size.
score_variance <- function(variance, wordings, replications) {
  part <- function(name) max(0, variance[[name]], na.rm = TRUE)
  part("item") + (part("item x wording") + part("prompt in score")) / wordings +
    (part("item x replication") + part("draw in score")) / (wordings * replications)
}

#' What designs of other sizes would give: half-widths of the t interval by item, power of its test,
#' and how many items a half-width takes.
#'
#' @param pilot Of `components_of`: `variance` and `size`.
#' @param scale,margin Width of the measure's scale, and the difference to find; NA for none.
planned_widths <- function(pilot, sampled, scale, margin) {
  size <- pilot$size
  choose <- function(usual, own) sort(unique(c(usual, own)))
  grid <- expand.grid(
    items = choose(c(6, 12, 24, 48, 96), size[["items"]]),
    replications = if (sampled) choose(c(1, 2, 5, 10), size[["replications"]]) else 1,
    wordings = if (size[["wordings"]] > 1L) choose(c(1, 2, 4), size[["wordings"]]) else 1
  )
  item_variance <- mapply(score_variance, wordings = grid$wordings,
    replications = grid$replications, MoreArgs = list(variance = pilot$variance))
  # Where nothing varies there is no spread to plan from.
  item_variance[item_variance <= 0] <- NA_real_
  error <- sqrt(item_variance / grid$items)
  df <- grid$items - 1
  quantile <- stats::qt(0.975, df)
  grid$half_width <- quantile * error
  # So far may the pilot's few items mistake the spread between items.
  own <- size[["items"]] - 1
  grid$half_width_low <- grid$half_width * sqrt(own / stats::qchisq(0.975, own))
  grid$half_width_high <- grid$half_width * sqrt(own / stats::qchisq(0.025, own))
  grid$half_width_percent <- 100 * grid$half_width / scale
  beside <- function(name) max(0, pilot$variance[[name]], na.rm = TRUE)
  grid$sd_of_wordings <- if (size[["wordings"]] > 1L) {
    sqrt((beside("wording") + beside("replication") / grid$replications) / grid$wordings)
  } else {
    NA_real_
  }
  grid$difference <- margin
  ncp <- margin / error
  # Of a non-central t beyond 37 R knows only that it is far out.
  far <- !is.na(ncp) & ncp > 37
  grid$power <- ifelse(far, 1, suppressWarnings(
    stats::pt(-quantile, df, pmin(ncp, 37)) +
      stats::pt(quantile, df, pmin(ncp, 37), lower.tail = FALSE)
  ))
  grid$detectable <- detectable_ncp(df) * error
  grid$items_needed <- items_needed(item_variance, half_width_target * scale)
  grid$as_run <- grid$items == size[["items"]] & grid$wordings == size[["wordings"]] &
    (!sampled | grid$replications == size[["replications"]])
  grid
}

#' The true difference, in standard errors, that a two-sided t test at .05 finds with power .8.
detectable_ncp <- function(df) {
  different <- sort(unique(df))
  found <- vapply(different, function(one) {
    limit <- stats::qt(0.975, one)
    stats::uniroot(function(ncp) {
      stats::pt(limit, one, ncp, lower.tail = FALSE) + stats::pt(-limit, one, ncp) - 0.8
    }, c(0, 36))$root
  }, numeric(1L))
  found[match(df, different)]
}

#' The least numbers of items whose t interval has this half-width; NA beyond 10,000.
items_needed <- function(item_variance, half_width) {
  wider <- findInterval(-half_width / sqrt(item_variance), -unit_half_widths, left.open = TRUE)
  ifelse(is.na(half_width) | wider == length(unit_half_widths), NA_real_, wider + 2)
}

#' Half-widths for 2 to 10,000 items with a standard deviation of 1.
unit_half_widths <- stats::qt(0.975, 1:9999) / sqrt(2:10000)

# Table --------------------------------------------------------------------------------------------

precision_columns <- c(
  "label", "model_key", "model_name", "experiment", "measure", "items", "wordings", "replications",
  "answers", "as_run", "half_width", "half_width_low", "half_width_high", "half_width_percent",
  "sd_of_wordings", "difference", "power", "detectable", "half_width_target", "items_needed", "note"
)

#' Planned precision of each model, and of the mean components of all where there are several.
#'
#' @param parts As `study_components` gives them.
#' @param margin In percent of a measure's scale: the difference that power is given for.
precision_table <- function(parts, margin) {
  parts <- Filter(function(one) !is.null(one$pilot$size), parts)
  if (length(parts) == 0L) return(data.frame())
  one_plan <- function(pilot, one, key) {
    plan <- planned_widths(pilot, one$sampled, one$measure$scale, margin / 100 * one$measure$scale)
    cbind(
      key[rep(1L, nrow(plan)), ], plan, answers = pilot$noise$answers,
      half_width_target = half_width_target * one$measure$scale, note = plan_note(pilot, one),
      row.names = NULL
    )
  }
  each <- lapply(parts, function(one) {
    one_plan(one$pilot, one, cbind(label = one$key$model_key, one$key))
  })
  groups <- vapply(parts, function(one) {
    paste(one$key$measure, one$key$experiment, sep = "\r")
  }, character(1L))
  together <- lapply(split(parts, factor(groups, unique(groups))), function(own) {
    if (length(own) < 2L) return(NULL)
    number <- function(get) rowMeans(vapply(own, get, get(own[[1L]])), na.rm = TRUE)
    pilot <- own[[1L]]$pilot
    pilot$variance <- number(function(one) one$pilot$variance)
    pilot$size <- apply(vapply(own, function(one) one$pilot$size, pilot$size), 1L, min)
    pilot$noise$answers <- mean(vapply(own, function(one) one$pilot$noise$answers, 0))
    key <- own[[1L]]$key
    key$model_key <- key$model_name <- NA
    one_plan(pilot, own[[1L]], cbind(label = "all models", key))
  })
  bind(c(together, each))
}

plan_note <- function(pilot, one) {
  notes(
    if (score_variance(pilot$variance, pilot$size[["wordings"]], 1) <= 0) {
      "the same for every item: no spread to plan from"
    },
    if (!one$sampled) "replications are copies: more of them change nothing",
    if (pilot$size[["wordings"]] == 1L) "one wording: what others would give is not known",
    if (one$sampled && pilot$size[["replications"]] == 1L && isTRUE(pilot$noise$mixed)) {
      "every prompt has one answer: more replications may help less than this"
    }
  )
}

# Figure -------------------------------------------------------------------------------------------

#' The half-width of the interval by item against the number of items, a line for each number of
#' replications, of all models where there are several.
plot_precision <- function(precision) {
  title <- "How precise would a run of another size be?"
  if (nrow(precision) == 0L) return(empty_figure(title, "No components of variance to plan with"))
  together <- is.na(precision$model_key)
  rows <- if (any(together)) precision[together, , drop = FALSE] else precision
  own <- unlist(tapply(rows$wordings[rows$as_run], panel(rows)[rows$as_run], max))
  rows <- rows[rows$wordings == own[panel(rows)] & !is.na(rows$half_width_percent), , drop = FALSE]
  if (nrow(rows) == 0L) return(empty_figure(title, "No measure on a scale with ends"))
  rows$experiment <- factor(experiment_names[rows$experiment], experiment_names)
  rows$measure <- factor(rows$measure, unique(rows$measure))
  rows$runs <- factor(rows$replications, sort(unique(rows$replications)))
  ggplot(rows, aes(
    x = .data$items, y = .data$half_width_percent, colour = .data$runs, group = .data$runs
  )) +
    geom_hline(yintercept = 100 * half_width_target, linetype = "dotted", colour = "grey40") +
    geom_line() +
    geom_point(size = 1.5) +
    geom_point(data = rows[rows$as_run, , drop = FALSE], shape = 1, size = 4, colour = "black") +
    facet_grid(measure ~ experiment, scales = "free_y", labeller = label_wrap_gen(24)) +
    scale_x_log10(breaks = sort(unique(rows$items))) +
    scale_colour_viridis_d(name = "Replications", end = 0.85) +
    expand_limits(y = 0) +
    labs(
      title = title, x = "Items", y = "Half-width of the 95% interval (% of the scale)",
      caption = paste(
        "Circles: this run. Dotted: 5% of the scale. From the variance components of",
        if (any(together)) "all models, averaged." else "this model."
      )
    ) +
    theme_grace()
}

panel <- function(rows) paste(rows$measure, rows$experiment)

save_precision <- function(precision, path, params) {
  height <- 1.8 + 1.7 * max(1L, length(unique(precision$measure)))
  save_figure(plot_precision(precision), path, 8.5, height, notes_below(precision, params))
}
