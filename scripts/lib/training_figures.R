# Figures of a recipe's evaluation and trainings. Source after figures.R and training_comparison.R;
# needs ggplot2.

#' What the recipes aim at, by stage, in per cent of items strictly right; shown, never tested.
evaluation_targets <- data.frame(
  stage = c("base", "sft", "dpo"), low = c(10, 70, 90), high = c(30, 80, 95)
)
stage_colours <- c(base = "#7F7F7F", sft = "#0072B2", dpo = "#D55E00")
#' Of the first online round and of the last; those between are between.
round_colours <- c("#009E73", "#00352A")

#' A colour for each stage that there is.
scale_stages <- function(stages) {
  order <- stages_in_order(stages)
  rounds <- length(order) - length(stage_colours)
  colours <- c(stage_colours, grDevices::colorRampPalette(round_colours)(max(rounds, 2L))[
    seq_len(rounds)
  ])
  scale_colour_manual(
    "Stage", values = stats::setNames(colours, order), labels = stage_names(order), breaks = order
  )
}

#' Rates by model, with Wilson's intervals, over bands of what is aimed at.
rates_figure <- function(rates) {
  shown <- rates[rates$part %in% evaluated_parts & !is.na(rates$rate), , drop = FALSE]
  if (nrow(shown) == 0L) return(empty_figure("Held-out items", "No verdict on any item."))
  levels <- show_evaluated(unique(shown$evaluated))
  shown$name <- factor(show_evaluated(shown$evaluated), levels = levels)
  shown$part <- factor(shown$part, levels = evaluated_parts)
  shown$measure <- factor(shown$measure, levels = c("strict", "loose"))
  bands <- unique(shown[shown$shots == 0, c("name", "stage")])
  bands <- merge(bands, evaluation_targets, by = "stage")
  place <- match(bands$name, levels)
  ggplot(shown, aes(x = .data$name)) +
    scale_x_discrete(limits = levels) +
    annotate(
      "rect", xmin = place - 0.42, xmax = place + 0.42, ymin = bands$low, ymax = bands$high,
      fill = "grey85"
    ) +
    geom_linerange(
      aes(ymin = 100 * .data$low, ymax = 100 * .data$high, colour = .data$stage,
        group = .data$measure), position = position_dodge(width = 0.5)
    ) +
    geom_point(
      aes(y = 100 * .data$rate, colour = .data$stage, shape = .data$measure,
        group = .data$measure), position = position_dodge(width = 0.5), size = 2.4
    ) +
    facet_wrap(vars(.data$part)) +
    scale_stages(shown$stage) +
    scale_shape_manual(
      "Verdict", values = c(strict = 16, loose = 1), limits = c("strict", "loose")
    ) +
    coord_cartesian(ylim = c(0, 100)) +
    labs(x = NULL, y = "Items answered as asked (%)") +
    theme_grace() +
    theme(
      axis.text.x = if (length(levels) <= 9L) {
        element_text(angle = 35, hjust = 1)
      } else {
        element_text(angle = 90, hjust = 1, vjust = 0.5)
      },
      legend.box = "horizontal"
    )
}

#' Strict rates by type, those that are held out marked.
types_figure <- function(rates, held_out) {
  shown <- rates[rates$part == "type" & rates$measure == "strict" & !is.na(rates$rate), ]
  if (nrow(shown) == 0L) return(empty_figure("By type", "No verdict on any item."))
  shown$name <- factor(
    show_evaluated(shown$evaluated), levels = show_evaluated(unique(shown$evaluated))
  )
  label <- ifelse(shown$type %in% held_out, paste(shown$type, "(held out)"), shown$type)
  shown$type <- factor(label, levels = rev(unique(label[order(label != shown$type, label)])))
  ggplot(shown, aes(x = 100 * .data$rate, y = .data$type, colour = .data$stage)) +
    geom_linerange(aes(xmin = 100 * .data$low, xmax = 100 * .data$high)) +
    geom_point(size = 1.8) +
    facet_wrap(vars(.data$name), nrow = if (length(unique(shown$name)) <= 5L) 1L) +
    scale_stages(shown$stage) +
    coord_cartesian(xlim = c(0, 100)) +
    labs(x = "Items answered as asked, strict (%)", y = NULL) +
    theme_grace()
}

#' Loss by step, a line a training seed.
losses_figure <- function(curves) {
  if (nrow(curves) == 0L) return(empty_figure("Loss", "No training."))
  curves$stage <- factor(
    stage_names(curves$stage), levels = stage_names(stages_in_order(curves$stage)[-1L])
  )
  curves$seed <- factor(curves$seed)
  ggplot(curves, aes(x = .data$step, y = .data$loss, colour = .data$seed)) +
    geom_line() +
    geom_point(size = if (max(table(curves$stage)) > 60L) 0 else 1) +
    facet_wrap(vars(.data$stage), scales = "free") +
    scale_colour_manual("Training seed", values = unname(model_colours(levels(curves$seed)))) +
    scale_x_continuous(breaks = function(limits) {
      steps <- pretty(limits)
      steps[steps == round(steps)]
    }) +
    labs(x = "Step", y = "Loss") +
    theme_grace()
}
