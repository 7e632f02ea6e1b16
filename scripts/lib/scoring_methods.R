# Which conclusions depend on the way of scoring? A study's planned tests, made anew from each way
# of scoring the same measurement, and from sampled answers (docs/scoring_methods.md).
# Source after common.R, statistics.R, inference.R and agreement.R.

scoring_method_columns <- c(
  model_keys, "method", "conclusion", "n_items", "value", "ci_low", "ci_high", "p", "outcome",
  "same_as_whole", "people", "same_as_people", "alike", "note"
)
scoring_agreement_columns <- c(
  model_keys, "method", "compared_with", "n_conclusions", "n_same", "n_decided", "n_decided_same",
  "by_chance", "n_cells", "jsd_bits", "same_favourite", "note"
)

#' The analysis-ready tables under every way of scoring, by method; none where nothing was scored.
#'
#' @param path The file, or NULL.
#' @param read Of a path, as the study reads its analysis-ready table.
#' @param ready That table with labels.
read_scoring <- function(path, read, ready) {
  if (is.null(path) || !"model_key" %in% names(read_csv(path, nrows = 0L))) return(list())
  table <- read(path)
  more <- read_csv(
    path,
    select = c("scoring_method", "options_alike"), colClasses = list(character = "scoring_method")
  )
  table$alike <- as.numeric(more$options_alike)
  table <- look_up(table, ready, c("model_key", "variant"), "label")
  split(table, factor(more$scoring_method, intersect(names(scoring_names), more$scoring_method)))
}

#' Usable answers of every way of scoring, and those sampled: `experiment` is the method.
#'
#' @param by_method As `read_scoring` gives it.
#' @param stack Gives one row an answer of such a table, with `experiment`.
#' @param sampled Rows of `stack` of the analysis-ready table, of which experiment 1's are taken.
#' @param collapse Gives the rows without copies.
stack_methods <- function(by_method, stack, sampled, collapse) {
  scored <- lapply(names(by_method), function(method) {
    rows <- stack(by_method[[method]])
    rows <- rows[rows$experiment == "exp2", , drop = FALSE]
    rows$experiment <- rep(method, nrow(rows))
    rows
  })
  if (sum(vapply(scored, nrow, integer(1L))) == 0L) return(sampled[0L, , drop = FALSE])
  collapse(bind(c(scored, list(sampled[sampled$experiment == "exp1", , drop = FALSE]))))
}

#' By model and method, how many options of a query the method cannot tell apart at most.
options_alike <- function(by_method) {
  bind(lapply(names(by_method), function(method) {
    rows <- by_method[[method]]
    found <- tapply(rows$alike, rows$label, max, na.rm = TRUE)
    data.frame(label = names(found), method = method, alike = as.numeric(found))
  }))
}

#' Conclusions as the table has them: beside the default's and people's.
#'
#' @param conclusions Rows with the keys of a model, `experiment` (the method), `conclusion`, value,
#'   interval, p, `outcome` and `people` ("holds", "reversed", "equivalent", "undecided", or NA),
#'   `same_as_people` (NA where one of them is undecided).
#' @param alike As `options_alike` gives it.
scoring_conclusions <- function(conclusions, alike) {
  if (nrow(conclusions) == 0L) return(data.frame())
  conclusions$method <- conclusions$experiment
  conclusions <- conclusions[names(conclusions) != "experiment"]
  default <- conclusions[conclusions$method == "whole", , drop = FALSE]
  default$by_default <- default$outcome
  keys <- c("label", "conclusion")
  conclusions <- look_up(conclusions, default, keys, "by_default")
  conclusions$same_as_whole <- conclusions$outcome == conclusions$by_default
  conclusions <- look_up(conclusions, alike, c("label", "method"), "alike")
  several <- !is.na(conclusions$alike) & conclusions$alike > 1
  said <- ifelse(several, sprintf("cannot tell %.0f options apart", conclusions$alike), "")
  conclusions$note <- mapply(notes, conclusions$note, said, USE.NAMES = FALSE)
  order <- order(
    conclusions$label, match(conclusions$conclusion, unique(conclusions$conclusion)),
    match(conclusions$method, names(scoring_names))
  )
  conclusions[order, , drop = FALSE]
}

#' How far the ways of scoring agree with each other and with people, of each model.
#'
#' @param conclusions As `scoring_conclusions` gives them.
#' @param cells By label, then by method, a matrix: cells (named) x options, mean distributions.
scoring_agreement <- function(conclusions, cells) {
  if (nrow(conclusions) == 0L) return(data.frame())
  by_group(conclusions, model_keys, function(piece) {
    methods <- intersect(names(scoring_names), piece$method)
    theirs <- cells[[piece$label[1L]]]
    pairs <- if (length(methods) > 1L) utils::combn(methods, 2L, simplify = FALSE)
    bind(c(
      lapply(pairs, function(pair) {
        cbind(
          method = pair[1L], compared_with = pair[2L], agreement_of_methods(piece, pair),
          distance_of_methods(theirs, pair)
        )
      }),
      lapply(methods, function(method) {
        rows <- piece[piece$method == method & !is.na(piece$people), , drop = FALSE]
        found <- decided_agreement(
          rows$same_as_people, rows$outcome == "holds", rows$people == "holds"
        )
        if (nrow(rows) == 0L) return(NULL)
        data.frame(
          method = method, compared_with = "people", n_conclusions = nrow(rows),
          n_decided = found$decided, n_decided_same = found$agree, by_chance = found$chance,
          note = if (found$decided == 0L) "nothing is decided" else ""
        )
      })
    ))
  })
}

#' In how many conclusions two methods agree, and in how many of those that both decide.
agreement_of_methods <- function(piece, pair) {
  outcomes <- lapply(pair, function(method) {
    rows <- piece[piece$method == method & !is.na(piece$outcome), , drop = FALSE]
    stats::setNames(rows$outcome, rows$conclusion)
  })
  both <- intersect(names(outcomes[[1L]]), names(outcomes[[2L]]))
  first <- outcomes[[1L]][both]
  second <- outcomes[[2L]][both]
  decided <- first != "undecided" & second != "undecided"
  shares <- function(outcome) {
    table(factor(outcome[decided], c("holds", "reversed", "equivalent"))) / sum(decided)
  }
  data.frame(
    n_conclusions = length(both), n_same = sum(first == second), n_decided = sum(decided),
    n_decided_same = sum(first[decided] == second[decided]),
    # Outcomes dealt out at random, each method's as often as it has them.
    by_chance = if (any(decided)) sum(decided) * sum(shares(first) * shares(second)) else NA_real_,
    note = if (length(both) == 0L) "no planned test that both have" else ""
  )
}

#' How far two methods' mean distributions lie apart, cell by cell.
distance_of_methods <- function(cells, pair) {
  first <- cells[[pair[1L]]]
  second <- cells[[pair[2L]]]
  both <- intersect(rownames(first), rownames(second))
  if (length(both) == 0L) {
    return(data.frame(n_cells = 0L, jsd_bits = NA_real_, same_favourite = NA_real_))
  }
  first <- first[both, , drop = FALSE]
  second <- second[both, , drop = FALSE]
  same <- vapply(seq_along(both), function(i) same_favourite(first[i, ], second[i, ]), logical(1L))
  data.frame(
    n_cells = length(both), jsd_bits = mean_or_na(jsd_pairs(first, second)),
    same_favourite = mean_or_na(same)
  )
}

#' The mean distributions that `scoring_agreement` takes, from rows with a column an option. Every
#' item of a cell weighs the same.
method_cells <- function(rows, columns, cell, item) {
  rows$cell <- cell
  rows$unit <- item
  lapply(split(rows, rows$label), function(mine) {
    lapply(split(mine, mine$experiment), function(one) {
      by_cell <- split(one, one$cell)
      do.call(rbind, lapply(by_cell, function(piece) {
        colMeans(item_means(piece[columns], piece$unit))
      }))
    })
  })
}

#' Conclusions on the distance of a method's distributions from others: JSD and r, corrected, with
#' their intervals by item.
#'
#' @param named What the two are called.
#' @param means Items x (cells x options), `target` cells x options.
distance_conclusions <- function(named, means, target, unit, note) {
  distances <- distance_functions(target)[c("jsd", "r")]
  found <- corrected_distances(means, distances, unit = unit)
  number <- function(part) as.numeric(unlist(found[paste0(names(distances), part)]))
  data.frame(
    conclusion = named, n_items = nrow(means), value = number("_corrected"),
    ci_low = number("_low"), ci_high = number("_high"), p = NA_real_, outcome = NA_character_,
    people = NA_character_, same_as_people = NA, note = notes(found$note, note)
  )
}

#' "holds", "reversed" or "undecided" of people's test.
people_outcome <- function(difference, p) {
  unname(ifelse(
    is.na(p), NA_character_,
    ifelse(p >= 0.05, "undecided", ifelse(difference > 0, "holds", "reversed"))
  ))
}

#' Whether an outcome is people's; NA where one of them is undecided.
same_outcome <- function(mine, theirs) {
  ifelse(mine == "undecided" | theirs == "undecided", NA, mine == theirs)
}

# Figure and text ----------------------------------------------------------------------------------

#' Outcomes of every conclusion by method, one panel a model.
plot_scoring_methods <- function(conclusions, title) {
  rows <- conclusions[!is.na(conclusions$outcome), , drop = FALSE]
  if (nrow(rows) == 0L) return(empty_figure(title, "No planned test under any way of scoring"))
  blind <- unique(rows$method[!is.na(rows$alike) & rows$alike > 1])
  known <- intersect(names(scoring_names), rows$method)
  shown <- paste0(scoring_names[known], ifelse(known %in% blind, " *", ""))
  rows$way <- factor(shown[match(rows$method, known)], shown)
  rows$conclusion <- factor(rows$conclusion, rev(unique(rows$conclusion)))
  ggplot(rows, aes(.data$way, .data$conclusion, fill = .data$outcome)) +
    geom_tile(colour = "white", linewidth = 0.8) +
    geom_text(aes(label = scoring_signs[.data$outcome]), size = 4) +
    facet_wrap(vars(.data$label), ncol = 2L) +
    scale_fill_manual(
      "Outcome",
      values = c(
        holds = "#56B4E9", reversed = "#E69F00", equivalent = "#B8B8B8", undecided = "#F2F2F2"
      ),
      limits = names(scoring_signs),
      labels = sprintf("%s (%s)", names(scoring_signs), scoring_signs),
      guide = guide_legend(nrow = 2L, byrow = TRUE)
    ) +
    labs(
      x = NULL, y = NULL, title = title,
      subtitle = "Each row is a planned test; a row of one colour does not depend on the scoring.",
      caption = if (length(blind) > 0L) "* cannot tell some options apart."
    ) +
    theme_grace() +
    theme(
      panel.grid = element_blank(), axis.text.x = element_text(angle = 30, hjust = 1)
    )
}

scoring_signs <- c(holds = "+", reversed = "\u2212", equivalent = "=", undecided = "?")

#' Width and height of that figure, in inches.
scoring_figure_size <- function(conclusions) {
  models <- max(1L, length(unique(conclusions$label)))
  rows <- max(4L, length(unique(conclusions$conclusion[!is.na(conclusions$outcome)])))
  list(
    width = if (models > 1L) 12 else 8,
    height = 2.2 + ceiling(models / 2) * (1.1 + 0.3 * rows)
  )
}

#' Write the two tables and the figure of a study, which says how to read and what to test.
#'
#' @param table The analysis-ready table.
#' @param title The figure's.
#' @param read,stack,collapse As `read_scoring` and `stack_methods` take them.
#' @param conclude Gives of such rows the conclusions that `scoring_conclusions` takes; not called
#'   where there are none.
#' @param cells Gives of such rows the mean distributions that `scoring_agreement` takes.
write_scoring <- function(input, output, params, table, title, read, stack, collapse, conclude,
                          cells) {
  # People have no tokens whose probabilities could be read in several ways.
  table <- language_models(add_label(table), params)
  by_method <- read_scoring(input[["scoring_methods"]], read, table)
  rows <- stack_methods(by_method, stack, stack(table), collapse)
  conclusions <- scoring_conclusions(
    if (nrow(rows) > 0L) conclude(rows) else data.frame(), options_alike(by_method)
  )
  found <- list(
    scoring_methods = conclusions,
    scoring_agreement = scoring_agreement(conclusions, cells(rows))
  )
  found <- lapply(found, mark_labels, origins = params[["origins"]])
  write_result(found$scoring_methods, output[["scoring_methods"]], scoring_method_columns)
  write_result(found$scoring_agreement, output[["scoring_agreement"]], scoring_agreement_columns)
  rows <- found$scoring_methods
  shown <- rows[rows$label %in% utils::head(unique(rows$label), most_drawn), , drop = FALSE]
  size <- scoring_figure_size(shown)
  said <- c(
    drawn_note(list(label = rows$label)),
    if ("exp1" %in% rows$method) settings_notes(c("exp1", "exp2"), params[["generation"]]),
    origin_notes(rows$label, params[["origins"]])
  )
  save_figure(
    plot_scoring_methods(shown, title), output[["scoring"]], size$width, size$height, said
  )
}
