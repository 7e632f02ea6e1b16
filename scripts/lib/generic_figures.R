# The generic analysis's figures: distributions by cell, responses by factor, models against people,
# and the two experiments against each other. Sourced after figures.R and generic_measures.R.

most_panels <- 30L

#' The first people counted and the models of people, by source, among the rows of `cells`.
reference_sources <- function(cells) {
  rows <- cells[cells$experiment == "reference", , drop = FALSE]
  counted <- unique(rows$label[!is.na(rows$total)])
  list(people = counted, theory = setdiff(unique(rows$label), counted))
}

#' Text for an axis or a strip: cut, so that no figure is spoiled by one long option.
short_text <- function(text, longest = 28L) {
  ifelse(nchar(text) > longest, paste0(substr(text, 1L, longest - 1L), "\u2026"), text)
}

#' A factor of texts in the order in which they are declared, shown short.
in_order <- function(values, known) {
  order <- unique(c(known, sort(unique(as.character(values)))))
  order <- order[order %in% values]
  factor(values, order, make.unique(short_text(order)))
}

#' What every cell is called in strips, in the order of the factors' levels.
panel_names <- function(rows, factors, levels) {
  if (length(factors) == 0L) return(factor(rep("all trials", nrow(rows))))
  ordered <- lapply(factors, function(name) in_order(rows[[name]], levels[[name]]))
  named <- Map(function(name, values) paste0(name, ": ", values), factors, ordered)
  text <- do.call(paste, c(unname(named), sep = "\n"))
  factor(text, unique(text[do.call(order, unname(ordered))]))
}

#' Says under a figure who is grey in it.
grey_caption <- function(sources) {
  paste(c(
    if (length(sources$people) > 0L) {
      sprintf("Grey bars or points: %s, with 95%% intervals.", toString(sources$people))
    },
    if (length(sources$theory) > 0L) sprintf("Diamonds: %s.", toString(sources$theory)),
    "Lines: 95% intervals by item."
  ), collapse = "\n")
}

generic_figures <- function(tables, declaration) {
  levels <- declared_levels(declaration)
  factors <- names(levels)
  cells <- tables$cells
  title <- declaration$title %or% ""
  models <- cells[is_model(cells), , drop = FALSE]
  shown <- unique(models$label)
  panels <- if (nrow(models) > 0L) nlevels(panel_names(models, factors, levels)) else 1L
  several <- max(1L, length(unique(models$distribution[!is.na(models$distribution)])))
  rows_of <- function(count, columns) ceiling(min(count, most_panels) / columns)
  by_cell <- panels * several
  responses <- if (nrow(models) > 0L) response_rows(cells) else cells
  names <- unique(responses$response)
  rest <- if (nrow(models) > 0L && length(factors) > 1L) {
    nlevels(panel_names(models, factors[-1L], levels))
  } else {
    1L
  }
  compared <- length(unlist(reference_sources(cells))) * length(unique(models$experiment))
  compared <- max(1L, compared)
  width <- max(5, min(11, 1.2 + 3.2 * compared))
  list(
    distributions = list(
      plot = plot_distributions(cells, factors, levels, declaration, title),
      # Each panel has an axis of its own where distributions differ.
      width = 9.5, height = grown(
        2.2 + (if (several > 1L) 3 else 2.4) * rows_of(by_cell, panel_columns(by_cell)), shown
      )
    ),
    by_factor = list(
      plot = plot_by_factor(responses, factors, levels, declared_ranges(declaration), title),
      width = 9.5,
      height = grown(2.2 + 2.4 * rows_of(rest * length(names), panel_columns(rest * length(names))),
        shown)
    ),
    people = list(
      plot = plot_against(cells, tables$distances, factors, title), width = width,
      # Panels are square.
      height = 2.3 + (width - 1) / compared * max(1L, length(shown))
    ),
    calibration = calibration_figure(
      plot_calibration(tables$calibration, factors, title), shown
    )
  )
}

#' The size of the figure of both experiments: square panels, up to three beside each other.
calibration_figure <- function(plot, shown) {
  panels <- length(unique(plot$data$scale))
  if (panels < 2L) return(list(plot = plot, width = 7, height = grown(7.5, shown)))
  columns <- min(3L, panels)
  height <- 2 + 8.5 / columns * ceiling(panels / columns)
  list(plot = plot, width = 9.5, height = grown(height, shown))
}

panel_columns <- function(panels) min(4L, max(1L, ceiling(sqrt(panels))))

#' The rows of responses, or of options' probabilities where no response is declared.
response_rows <- function(cells) {
  single <- unique(cells$response[is_model(cells) & is.na(cells$distribution)])
  if (length(single) == 0L) return(cells)
  ours <- is_model(cells) & is.na(cells$distribution)
  theirs <- !is_model(cells) & is.na(cells$distribution) & cells$response %in% single
  cells[ours | theirs, , drop = FALSE]
}

few_panels <- function(rows) {
  kept <- utils::head(levels(droplevels(rows$panel)), most_panels)
  droplevels(rows[rows$panel %in% kept, , drop = FALSE])
}

#' What a figure leaves out, if it does.
left_out <- function(panels) {
  if (panels <= most_panels) return(NULL)
  sprintf("The first %d of %d panels; the table of cells holds all.", most_panels, panels)
}

plot_distributions <- function(cells, factors, levels, declaration, title) {
  title <- paste0(title, ": answers by cell")
  rows <- cells[!is.na(cells$distribution), , drop = FALSE]
  models <- rows[is_model(rows), , drop = FALSE]
  if (nrow(models) == 0L) return(empty_figure(title, "No distribution over options of all trials"))
  outcomes <- unlist(lapply(declared_distributions(declaration), function(one) one$outcomes))
  rows <- rows[rows$outcome %in% outcomes, , drop = FALSE]
  rows$panel <- panel_names(rows, factors, levels)
  if (length(unique(models$distribution)) > 1L) {
    order <- levels(rows$panel)
    both <- paste(rows$distribution, rows$panel, sep = "\n")
    rows$panel <- factor(both, as.vector(outer(
      order, unique(models$distribution), function(cell, name) paste(name, cell, sep = "\n")
    )))
  }
  all_panels <- nlevels(droplevels(rows$panel[is_model(rows)]))
  rows <- few_panels(rows)
  rows$option <- in_order(rows$outcome, unique(outcomes))
  sources <- reference_sources(rows)
  people <- rows[rows$label %in% sources$people & !is_model(rows), , drop = FALSE]
  theory <- rows[rows$label %in% sources$theory & !is_model(rows), , drop = FALSE]
  models <- rows[is_model(rows), , drop = FALSE]
  long <- sum(nchar(levels(rows$option))) > 26L
  ggplot(models, aes(x = .data$option, y = .data$value)) +
    geom_col(data = people, fill = "grey85", width = 0.9, position = "identity") +
    geom_linerange(
      data = people, aes(ymin = .data$ci_low, ymax = .data$ci_high), colour = "grey60", na.rm = TRUE
    ) +
    geom_point(data = theory, shape = 5, size = 2.6, colour = "grey30") +
    points_with_intervals(aes(ymin = .data$ci_low, ymax = .data$ci_high), size = 1.9) +
    facet_wrap(
      ~panel, ncol = panel_columns(all_panels),
      scales = if (length(unique(models$distribution)) > 1L) "free_x" else "fixed"
    ) +
    scale_models(models$label) +
    coord_cartesian(ylim = c(0, 1)) +
    labs(
      title = title, x = NULL, y = "Share or probability",
      caption = paste(c(grey_caption(sources), left_out(all_panels)), collapse = "\n")
    ) +
    theme_grace() +
    if (long) theme(axis.text.x = element_text(angle = 90, hjust = 1, vjust = 0.5)) else theme()
}

#' The declared range of each response, by name.
declared_ranges <- function(declaration) {
  responses <- declared_responses(declaration, declared_distributions(declaration))
  ranges <- lapply(responses, function(one) as.numeric(unlist(one$range)))
  names(ranges) <- vapply(responses, function(one) one$name, character(1L))
  Filter(function(range) length(range) == 2L, ranges)
}

plot_by_factor <- function(rows, factors, levels, ranges, title) {
  title <- paste0(title, ": responses by factor")
  if (nrow(rows) == 0L || !any(is_model(rows))) return(empty_figure(title, "No usable answer"))
  first <- factors[seq_len(min(1L, length(factors)))]
  rows$at <- if (length(first) == 1L) {
    in_order(rows[[first]], levels[[first]])
  } else {
    factor(rep("all trials", nrow(rows)))
  }
  response <- in_order(rows$response, unique(rows$response[is_model(rows)]))
  rows$panel <- response
  if (length(factors) > 1L) {
    cell <- panel_names(rows, factors[-1L], levels)
    rows$panel <- factor(
      paste(response, cell, sep = "\n"),
      as.vector(outer(levels(cell), levels(response), function(x, y) paste(y, x, sep = "\n")))
    )
  }
  all_panels <- nlevels(droplevels(rows$panel[is_model(rows)]))
  rows <- few_panels(rows[rows$panel %in% unique(rows$panel[is_model(rows)]), , drop = FALSE])
  sources <- reference_sources(rows)
  people <- rows[rows$label %in% sources$people & !is_model(rows), , drop = FALSE]
  theory <- rows[rows$label %in% sources$theory & !is_model(rows), , drop = FALSE]
  models <- rows[is_model(rows), , drop = FALSE]
  shares <- all(rows$value >= 0 & rows$value <= 1)
  corners <- unique(models[c("panel", "response")])
  corners <- corners[corners$response %in% names(ranges), , drop = FALSE]
  whole <- bind(lapply(1:2, function(end) {
    cbind(corners, value = vapply(ranges[corners$response], `[`, numeric(1L), end))
  }))
  ggplot(models, aes(x = .data$at, y = .data$value)) +
    geom_linerange(
      data = people, aes(ymin = .data$ci_low, ymax = .data$ci_high), colour = "grey70",
      linewidth = 2.4, na.rm = TRUE
    ) +
    geom_point(data = people, colour = "grey55", size = 3.2) +
    geom_point(data = theory, shape = 5, size = 2.8, colour = "grey30") +
    geom_line(series(), position = side_by_side(0.4), alpha = 0.5) +
    geom_linerange(
      utils::modifyList(series(), aes(ymin = .data$ci_low, ymax = .data$ci_high)),
      position = side_by_side(0.4), na.rm = TRUE
    ) +
    geom_point(series(shape = .data$experiment), position = side_by_side(0.4), size = 2) +
    (if (nrow(whole) > 0L) geom_blank(data = cbind(whole, at = models$at[1L]))) +
    facet_wrap(
      ~panel, ncol = panel_columns(all_panels), scales = if (shares) "fixed" else "free_y"
    ) +
    scale_models(models$label) +
    (if (shares) coord_cartesian(ylim = c(0, 1)) else coord_cartesian()) +
    labs(
      title = title, x = if (length(first) == 1L) first, y = "Mean",
      caption = paste(c(grey_caption(sources), left_out(all_panels)), collapse = "\n")
    ) +
    theme_grace()
}

plot_against <- function(cells, distances, factors, title) {
  title <- paste0(title, ": models against people")
  models <- cells[is_model(cells) & !is.na(cells$distribution), , drop = FALSE]
  keys <- c(factors, "distribution", "outcome")
  sources <- unlist(reference_sources(cells), use.names = FALSE)
  rows <- bind(lapply(sources, function(source) {
    theirs <- reference_rows(cells, source)
    theirs$theirs <- theirs$value
    found <- look_up(models, theirs, keys, "theirs")
    found$reference <- rep(source, nrow(found))
    found[!is.na(found$theirs), , drop = FALSE]
  }))
  if (nrow(rows) == 0L) return(empty_figure(title, "No people and no model of people to compare"))
  panel <- function(table) {
    table$column <- factor(
      sprintf("%s,\nexperiment %s", table$reference, experiment_names[table$experiment]),
      as.vector(outer(sources, experiment_names, function(x, y) {
        sprintf("%s,\nexperiment %s", x, y)
      }))
    )
    table$label <- factor(table$label, unique(rows$label))
    table
  }
  said <- distances[
    paste(distances$label, distances$reference) %in% paste(rows$label, rows$reference),
    , drop = FALSE
  ]
  said <- said[!duplicated(said[c("label", "experiment", "reference")]), , drop = FALSE]
  number <- function(value, form) ifelse(is.na(value), "n/a", sprintf(form, value))
  band <- function(name) band_text(said, name)
  said$text <- sprintf(
    "r = %s%s\nRMSE = %s%s\nJSD = %s%s bits", number(said$r, "%.3f"), band("r"),
    number(said$rmse, "%.3f"), band("rmse"), number(said$jsd_bits, "%.3f"), band("jsd")
  )
  options <- unique(rows$outcome)
  rows$option <- in_order(rows$outcome, options)
  ggplot(panel(rows), aes(x = .data$theirs, y = .data$value)) +
    geom_abline(colour = "grey60") +
    geom_point(aes(colour = .data$option), size = 1.9, alpha = 0.8) +
    geom_text(
      data = panel(said), aes(x = 0, y = 0.98, label = .data$text), hjust = 0, vjust = 1,
      size = 3, lineheight = 0.95
    ) +
    facet_grid(label ~ column, drop = TRUE) +
    scale_colour_manual("Answer", values = unname(model_colours(options))) +
    guides(colour = guide_legend(ncol = 4)) +
    coord_equal(xlim = c(0, 1), ylim = c(0, 1)) +
    scale_x_continuous(breaks = c(0, 0.5, 1)) +
    scale_y_continuous(breaks = c(0, 0.5, 1)) +
    labs(
      title = title, x = "Share of people, or their model's probability",
      y = "Language model: share or probability",
      caption = paste(c(
        "One point a cell and answer. On the diagonal both agree.",
        if (!all(band("r") == "")) paste(
          "In brackets: the noise band, where 95% of models would be that choose exactly as people."
        )
      ), collapse = "\n")
    ) +
    theme_grace()
}

plot_calibration <- function(cells, factors, title) {
  title <- paste0(title, ": generated against scored")
  cells <- without_repeats(cells)
  cells$distribution <- ifelse(is.na(cells$distribution), "", cells$distribution)
  keys <- c("label", factors, "distribution", "response")
  both <- generated_and_scored(cells, keys, "value")
  if (nrow(both) == 0L) return(empty_figure(title, "Needs both experiments of the same model"))
  both$name <- in_order(both$response, unique(both$response))
  shapes <- rep_len(c(16, 17, 15, 4, 3, 8, 18, 1, 2, 0), nlevels(both$name))
  # Percentages and probabilities share no axis.
  high <- pmax(both$value, both$scored, both$ci_high, na.rm = TRUE)
  high <- stats::ave(high, both$response, FUN = max)
  low <- pmin(both$value, both$scored, both$ci_low, na.rm = TRUE)
  low <- stats::ave(low, both$response, FUN = min)
  share <- low >= 0 & high <= 1
  both$scale <- ifelse(share, "shares and probabilities", short_text(both$response))
  panels <- length(unique(both$scale))
  ends <- data.frame(scale = both$scale, x = c(low, high))
  ends$x[rep(share, 2L)] <- rep(0:1, each = nrow(both))[rep(share, 2L)]
  ggplot(both, aes(x = .data$scored, y = .data$value, colour = .data$label)) +
    geom_abline(colour = "grey60") +
    geom_linerange(aes(ymin = .data$ci_low, ymax = .data$ci_high), alpha = 0.5, na.rm = TRUE) +
    geom_point(aes(shape = .data$name), size = 2.2) +
    scale_colour_manual("Model", values = model_colours(both$label)) +
    scale_shape_manual("Response", values = shapes) +
    guides(shape = guide_legend(ncol = 4)) +
    geom_blank(data = ends, aes(x = .data$x, y = .data$x), inherit.aes = FALSE) +
    (if (panels > 1L) facet_wrap(~scale, scales = "free", ncol = min(3L, panels))) +
    labs(
      title = title, x = "Experiment 2: scored", y = "Experiment 1: generated",
      caption = "One point a cell and response. On the diagonal both experiments agree."
    ) +
    theme_grace() +
    theme(aspect.ratio = 1)
}
