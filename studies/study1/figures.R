# Study 1's figures. Sourced after figures.R.

access_label <- function(access) sprintf("speaker saw %d of 3", access)
observe_label <- function(observe) sprintf("speaker said %d", observe)

plot_bets <- function(cells) {
  title <- "Bets on the number of items with the property"
  models <- cells[cells$experiment %in% c("exp1", "exp2"), , drop = FALSE]
  if (nrow(models) == 0L) return(empty_figure(title, "No usable answer"))
  facets <- function(rows) {
    rows$access <- factor(access_label(rows$access), access_label(1:3))
    rows$observe <- factor(observe_label(rows$observe), observe_label(1:3))
    rows
  }
  rsa <- facets(reference_rows(cells, "rsa"))
  void <- facets(data.frame(access = c(1, 1, 2), observe = c(2, 3, 3)))
  ggplot(facets(models), aes(x = .data$state, y = .data$bet)) +
    geom_col(data = rsa, fill = "grey85", width = 0.9) +
    geom_text(
      data = void, aes(x = 1.5, y = 50), label = "cannot occur", colour = "grey60", size = 3.2
    ) +
    points_with_intervals(aes(ymin = .data$ci_low, ymax = .data$ci_high), size = 1.9) +
    facet_grid(observe ~ access, drop = FALSE) +
    scale_models(models$label) +
    scale_x_continuous(breaks = states) +
    scale_y_continuous(breaks = c(0, 25, 50, 75, 100)) +
    coord_cartesian(ylim = c(0, 100)) +
    labs(
      title = title, x = "State: how many of the 3 have the property", y = "Mean bet (%)",
      caption = "Grey bars: the RSA listener. Lines: 95% interval by story."
    ) +
    theme_grace()
}

plot_state3 <- function(cells) {
  title <- "Bets on \"all 3\" by what the speaker saw"
  models <- cells[cells$experiment %in% c("exp1", "exp2") & cells$state == 3, , drop = FALSE]
  if (nrow(models) == 0L) return(empty_figure(title, "No usable answer"))
  rsa <- reference_rows(cells, "rsa")
  rsa <- rsa[rsa$state == 3, , drop = FALSE]
  facets <- function(rows) {
    rows$observe <- factor(observe_label(rows$observe), observe_label(1:3))
    rows
  }
  joined <- function(rows) rows[rows$observe != 3, , drop = FALSE]
  ggplot(facets(models), aes(x = .data$access, y = .data$bet)) +
    geom_line(
      data = facets(joined(rsa)), colour = "grey60", linetype = "dashed", linewidth = 0.8
    ) +
    geom_point(data = facets(rsa), colour = "grey60", shape = 18, size = 3.5) +
    geom_line(
      data = facets(joined(models)),
      aes(colour = .data$label, group = interaction(.data$label, .data$experiment)),
      position = side_by_side(0.3), alpha = 0.6
    ) +
    geom_linerange(
      aes(
        ymin = .data$ci_low, ymax = .data$ci_high, colour = .data$label,
        group = interaction(.data$label, .data$experiment)
      ),
      position = side_by_side(0.3), na.rm = TRUE
    ) +
    geom_point(
      aes(
        colour = .data$label, shape = .data$experiment,
        group = interaction(.data$label, .data$experiment)
      ),
      position = side_by_side(0.3), size = 2
    ) +
    facet_wrap(~observe) +
    scale_models(models$label) +
    scale_x_continuous(breaks = 1:3, limits = c(0.7, 3.3)) +
    coord_cartesian(ylim = c(0, 100)) +
    labs(
      title = title, x = "Access: items the speaker looked at (of 3)",
      y = "Mean bet that all 3 have it (%)",
      caption = "Grey diamonds: the RSA listener. Lines: 95% interval by story."
    ) +
    theme_grace()
}

contrast_label <- function(access, observe, state_a, state_b) {
  sprintf("saw %d, said %d: bets on %d \u2212 %d", access, observe, state_a, state_b)
}

plot_contrasts <- function(contrasts) {
  title <- "The eight planned contrasts"
  rows <- contrasts[!is.na(contrasts$difference), , drop = FALSE]
  if (nrow(rows) == 0L) return(empty_figure(title, "No usable answer"))
  planned <- unique(contrasts[c("access", "observe", "state_a", "state_b", "human_t",
    "human_pattern", "rsa_difference")])
  label <- function(r) contrast_label(r$access, r$observe, r$state_a, r$state_b)
  order <- rev(label(planned))
  rows$contrast <- factor(label(rows), order)
  planned$contrast <- factor(label(planned), order)
  significant <- abs(planned$human_t) > 1.99 | planned$human_pattern == "holds"
  planned$sign <- sprintf(
    "%s (t = %.1f)", ifelse(!significant, "0", ifelse(planned$human_t > 0, "+", "\u2212")),
    planned$human_t
  )
  planned$sign <- sub("-", "\u2212", planned$sign)
  ggplot(rows, aes(x = .data$difference, y = .data$contrast)) +
    geom_vline(xintercept = 0, colour = "grey50") +
    geom_point(
      data = planned, aes(x = .data$rsa_difference), shape = 18, size = 4.5, colour = "grey75"
    ) +
    points_with_intervals(aes(xmin = .data$ci_low, xmax = .data$ci_high), size = 2) +
    geom_text(data = planned, aes(x = 148, label = .data$sign), hjust = 1, size = 3.2) +
    annotate(
      "text", x = 148, y = 8.75, label = "people", hjust = 1, fontface = "bold", size = 3.2
    ) +
    scale_models(rows$label) +
    scale_x_continuous(breaks = c(-100, -50, 0, 50, 100)) +
    coord_cartesian(xlim = c(-105, 150), ylim = c(1, 8.75)) +
    labs(
      title = title, x = "Difference of bets (percentage points)", y = NULL,
      caption = paste(
        "People: sign and t of the published paired test (0: not different).",
        "Grey diamonds: RSA. Lines: 95% interval by story."
      )
    ) +
    theme_grace()
}

plot_knowledge <- function(knowledge) {
  title <- "Does the speaker know exactly how many?"
  if (nrow(knowledge) == 0L) return(empty_figure(title, "No usable answer"))
  ggplot(knowledge, aes(
    x = .data$access, y = .data$p_knows, colour = .data$label,
    group = interaction(.data$label, .data$experiment)
  )) +
    geom_hline(yintercept = 0.5, colour = "grey70", linetype = "dotted") +
    geom_line(position = side_by_side(0.2), alpha = 0.6) +
    geom_linerange(
      aes(ymin = .data$ci_low, ymax = .data$ci_high),
      position = side_by_side(0.2), na.rm = TRUE
    ) +
    geom_point(aes(shape = .data$experiment), position = side_by_side(0.2), size = 2.2) +
    scale_models(knowledge$label) +
    scale_x_continuous(breaks = 1:3) +
    coord_cartesian(ylim = c(0, 1), xlim = c(0.8, 3.2)) +
    labs(
      title = title, x = "Access: items the speaker looked at (of 3)",
      y = "Probability of \"yes\"",
      caption = paste(
        "Right answers: no for 1 and 2, yes for 3.",
        "Lines: 95% interval by story."
      )
    ) +
    theme_grace()
}

plot_agreement <- function(cells) {
  title <- "Study 1: generated against scored bets"
  both <- generated_and_scored(cells, c("label", "access", "observe", "state"), "bet")
  if (nrow(both) == 0L) return(empty_figure(title, "Needs both experiments of the same model"))
  ggplot(both, aes(x = .data$scored, y = .data$bet, colour = .data$label)) +
    geom_abline(colour = "grey60") +
    geom_linerange(aes(ymin = .data$ci_low, ymax = .data$ci_high), alpha = 0.5, na.rm = TRUE) +
    geom_point(aes(shape = factor(.data$state)), size = 2.2) +
    scale_colour_manual("Model", values = model_colours(both$label)) +
    scale_shape_manual("State", values = c("0" = 4, "1" = 16, "2" = 17, "3" = 15)) +
    coord_equal(xlim = c(0, 100), ylim = c(0, 100)) +
    labs(
      title = title, x = "Experiment 2: mean scored bet (%)",
      y = "Experiment 1: mean generated bet (%)",
      caption = "One point a cell and state. On the diagonal both experiments agree."
    ) +
    theme_grace()
}
