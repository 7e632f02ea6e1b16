# Study 2's figures. Sourced after figures.R.

goal_titles <- c(
  informative = "goal: be informative", social = "goal: be kind", both = "goal: both"
)
heart_label <- function(state) {
  ifelse(state == 1, "1 heart", sprintf("%d hearts", as.integer(state)))
}

facet_goal_state <- function(rows) {
  rows$goal <- factor(goal_titles[rows$goal], goal_titles)
  rows$state <- factor(heart_label(rows$state), heart_label(0:3))
  rows$utterance <- factor(
    match(paste(rows$frame, rows$assessment), utterances$text), seq_len(8L), utterances$text
  )
  rows
}

plot_utterances <- function(cells) {
  title <- "What is said about a performance, by what it was worth and by the speaker's goal"
  if (!any(is_model(cells))) return(empty_figure(title, "No usable answer"))
  models <- facet_goal_state(cells[is_model(cells), , drop = FALSE])
  human <- facet_goal_state(reference_rows(cells, "human"))
  group <- function(rows) interaction(rows$label, rows$experiment)
  models$series <- group(models)
  ggplot(models, aes(x = as.integer(.data$utterance), y = .data$proportion)) +
    geom_ribbon(
      data = human, aes(ymin = .data$ci_low, ymax = .data$ci_high), fill = "grey80"
    ) +
    geom_line(data = human, colour = "grey50") +
    geom_hline(yintercept = 1 / 8, linetype = "dotted", colour = "grey40") +
    geom_vline(xintercept = 4.5, colour = "grey85") +
    geom_line(aes(colour = .data$label, group = .data$series), alpha = 0.6) +
    geom_linerange(
      aes(ymin = .data$ci_low, ymax = .data$ci_high, colour = .data$label, group = .data$series),
      alpha = 0.6, na.rm = TRUE
    ) +
    geom_point(aes(colour = .data$label, shape = .data$experiment), size = 1.5) +
    facet_grid(goal ~ state) +
    scale_models(models$label) +
    scale_x_continuous(breaks = seq_len(8L), labels = utterances$text) +
    coord_cartesian(ylim = c(0, 1)) +
    labs(
      title = title, x = "\"It ...\"", y = "Proportion or probability",
      caption = paste(
        "Grey band: people, 95% interval. Dotted: chance, 1/8.",
        "Lines: 95% interval by domain."
      )
    ) +
    theme_grace() +
    theme(axis.text.x = element_text(angle = 90, hjust = 1, vjust = 0.5))
}

plot_negation <- function(negation) {
  title <- "Negated utterances (\"It wasn't ...\")"
  if (!any(is_model(negation))) return(empty_figure(title, "No usable answer"))
  facets <- function(rows) {
    rows$goal <- factor(goal_titles[rows$goal], goal_titles)
    rows
  }
  models <- facets(negation[is_model(negation), , drop = FALSE])
  models$series <- interaction(models$label, models$experiment)
  human <- facets(reference_rows(negation, "human"))
  ggplot(models, aes(x = .data$state, y = .data$negation)) +
    geom_ribbon(
      data = human, aes(ymin = .data$ci_low, ymax = .data$ci_high), fill = "grey80"
    ) +
    geom_line(data = human, colour = "grey50") +
    geom_line(
      aes(colour = .data$label, group = .data$series),
      position = side_by_side(0.2), alpha = 0.6
    ) +
    geom_linerange(
      aes(ymin = .data$ci_low, ymax = .data$ci_high, colour = .data$label, group = .data$series),
      position = side_by_side(0.2), na.rm = TRUE
    ) +
    geom_point(
      aes(colour = .data$label, shape = .data$experiment, group = .data$series),
      position = side_by_side(0.2), size = 2
    ) +
    facet_wrap(~goal) +
    scale_models(models$label) +
    scale_x_continuous(breaks = 0:3) +
    coord_cartesian(ylim = c(0, 1)) +
    labs(
      title = title, x = "State: hearts the performance was worth (0 to 3)",
      y = "Share of negated utterances", caption = "Grey band: people, 95% interval."
    ) +
    theme_grace()
}

#' Panels of models and experiments: a row a model, or four beside each other where models are many.
scatter_columns <- function(rows) if (length(unique(rows$label[is_model(rows)])) > 3L) 4L else NULL

#' Width and height of that figure, in inches.
scatter_size <- function(cells) {
  models <- cells[is_model(cells), , drop = FALSE]
  if (is.null(scatter_columns(models))) {
    return(list(width = 8, height = 2.2 + 3.2 * max(1L, length(unique(models$label)))))
  }
  panels <- nrow(unique(models[c("label", "experiment")]))
  list(width = 12, height = 2 + 3.1 * ceiling(panels / 4))
}

plot_scatter <- function(cells, comparison) {
  title <- "Models against people, 96 cells of goal, state and utterance"
  models <- cells[is_model(cells) & !is.na(cells$human), , drop = FALSE]
  if (nrow(models) == 0L) return(empty_figure(title, if (any(is_model(cells))) {
    "No answers of people to compare with"
  } else {
    "No usable answer"
  }))
  panel <- function(rows) {
    rows$experiment <- factor(
      experiment_names[rows$experiment], experiment_names,
      paste("Experiment", experiment_names)
    )
    rows$label <- factor(rows$label, unique(cells$label))
    rows
  }
  said <- comparison[is_model(comparison), , drop = FALSE]
  number <- function(value, digits) ifelse(is.na(value), "n/a", sprintf(digits, value))
  band <- function(name) band_text(said, name)
  said$text <- sprintf(
    "r = %s%s\nRMSE = %s%s\nJSD = %s%s bits",
    number(said$r, "%.3f"), band("r"),
    number(said$rmse, "%.3f"), band("rmse"),
    number(said$jsd_bits, "%.3f"), band("jsd")
  )
  ggplot(panel(models), aes(x = .data$human, y = .data$proportion)) +
    geom_abline(colour = "grey60") +
    geom_point(aes(colour = .data$frame, shape = .data$frame), size = 1.9, alpha = 0.8) +
    geom_text(
      data = panel(said), aes(x = 0, y = 0.98, label = .data$text), hjust = 0, vjust = 1,
      size = 3.2, lineheight = 0.95
    ) +
    (if (is.null(scatter_columns(models))) {
      facet_grid(label ~ experiment)
    } else {
      facet_wrap(vars(.data$label, .data$experiment), ncol = scatter_columns(models))
    }) +
    scale_colour_manual("Utterance", values = c("was" = "#0072B2", "wasn't" = "#D55E00")) +
    scale_shape_manual("Utterance", values = c("was" = 16, "wasn't" = 17)) +
    coord_equal(xlim = c(0, 1), ylim = c(0, 1)) +
    labs(
      title = title, x = "Proportion of people who said it",
      y = "Model: proportion or probability",
      caption = paste(
        "On the diagonal, model and people agree. In brackets: the noise band, where 95% of",
        "models would be\nthat choose exactly as people do, with as many answers and people."
      )
    ) +
    theme_grace()
}

plot_agreement <- function(cells) {
  title <- "Study 2: generated against scored answers"
  keys <- c("label", "goal", "state", "frame", "assessment")
  both <- generated_and_scored(cells, keys, "proportion")
  if (nrow(both) == 0L) return(empty_figure(title, "Needs both experiments of the same model"))
  ggplot(both, aes(x = .data$scored, y = .data$proportion, colour = .data$label)) +
    geom_abline(colour = "grey60") +
    geom_linerange(aes(ymin = .data$ci_low, ymax = .data$ci_high), alpha = 0.4, na.rm = TRUE) +
    geom_point(aes(shape = .data$frame), size = 2) +
    scale_colour_manual("Model", values = model_colours(both$label)) +
    scale_shape_manual("Utterance", values = c("was" = 16, "wasn't" = 17)) +
    coord_equal(xlim = c(0, 1), ylim = c(0, 1)) +
    labs(
      title = title, x = "Experiment 2: mean scored probability",
      y = "Experiment 1: proportion of generated answers",
      caption = paste(
        "One point a cell of goal, state and utterance, with its 95% interval by domain.",
        "On the diagonal both experiments agree.", sep = "\n"
      )
    ) +
    theme_grace()
}
