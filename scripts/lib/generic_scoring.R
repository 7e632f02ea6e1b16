# The generic analysis's planned contrasts, responses and distances under every way of scoring.
# Sourced after scoring_methods.R and generic_measures.R; uses generic_analysis.R.

#' Tables and figure of the ways of scoring.
#'
#' @param table The analysis-ready table.
#' @param cells As `generic_cells` gives them.
generic_scoring <- function(input, output, params, table, cells, declaration) {
  factors <- unlist(declaration$factors)
  item <- item_column(declaration)
  found <- measures(declaration, add_label(table))
  theirs <- cells[cells$experiment == "reference", , drop = FALSE]
  write_scoring(
    input, output, params, table,
    title = paste0(
      declaration$title %or% "", if (!is.null(declaration$title)) ": ",
      "planned tests under every way of scoring"
    ),
    read = function(file) read_declared(file, declaration),
    stack = function(rows) {
      own <- measures(declaration, rows)
      stack_measures(rows, own, factors, item, usable_answers(rows, own))
    },
    collapse = function(rows) {
      collapse_copies(rows, "value", is_greedy(params), c("measure", factors))
    },
    conclude = function(rows) {
      bind(list(
        contrasts_by_method(rows, theirs, found, declaration, params[["equivalence_margin"]]),
        responses_by_method(rows, found, item),
        distances_by_method(rows, theirs, factors, declared_distributions(declaration), item)
      ))
    },
    cells = function(rows) distributions_by_method(rows, factors, declaration)
  )
}

contrasts_by_method <- function(rows, theirs, found, declaration, margin) {
  tested <- generic_contrasts(rows, theirs, found, declaration, margin)
  tested <- tested[tested$experiment != "reference", , drop = FALSE]
  if (nrow(tested) == 0L) return(NULL)
  plain <- c(
    higher = "holds", lower = "reversed", "no difference" = "equivalent", undecided = "undecided"
  )
  outcome <- unname(plain[tested$pattern])
  people <- people_outcome(tested$people_t, tested$people_p_two_sided)
  cbind(tested[c(model_keys, "experiment", "ci_low", "ci_high", "note")], data.frame(
    conclusion = tested$contrast,
    n_items = tested$n_higher + ifelse(grepl("^pairs", tested$unit), 0, tested$n_lower),
    value = tested$difference,
    p = tested$p_bh, outcome = outcome, people = people,
    same_as_people = same_outcome(outcome, people)
  ))
}

#' The mean of each response over all items, where its unit is the same under every way of scoring.
responses_by_method <- function(rows, found, item) {
  ranged <- vapply(found, function(one) length(one$range) == 2L, logical(1L))
  rows <- rows[is.na(rows$distribution) & ranged[rows$measure], , drop = FALSE]
  if (nrow(rows) == 0L) return(NULL)
  rates <- rate_measures(rows, found)
  by_group(rows, c(model_keys, "experiment", "measure"), function(piece) {
    mean <- measure_by_item(piece, counted_answers(piece, rates), found, item)
    data.frame(
      conclusion = sprintf("mean: %s", piece$response[1L]), n_items = mean$items,
      value = mean$estimate, ci_low = mean$low, ci_high = mean$high, p = NA_real_,
      outcome = NA_character_, people = NA_character_, same_as_people = NA,
      note = notes(mean$note, copies_note(piece))
    )
  })
}

#' JSD and r to people and to models of people, corrected, with their intervals by item.
distances_by_method <- function(rows, theirs, factors, distributions, item) {
  sources <- unique(theirs$label)
  bind(lapply(distributions, function(one) {
    mine <- rows[rows$distribution %in% one$name, , drop = FALSE]
    targets <- lapply(stats::setNames(nm = sources), function(source) {
      known <- theirs[theirs$label == source & theirs$distribution %in% one$name, , drop = FALSE]
      cell_distributions(known, factors, one$outcomes)
    })
    by_group(mine, c(model_keys, "experiment"), function(piece) {
      items <- sort(unique(as.character(piece$item)))
      observed <- cell_distributions(piece, factors, one$outcomes, items)
      bind(lapply(sources, function(source) {
        both <- intersect(names(targets[[source]]), names(observed))
        if (length(both) == 0L) return(NULL)
        target <- do.call(rbind, lapply(targets[[source]][both], function(cell) cell$mean))
        means <- do.call(cbind, lapply(observed[both], function(cell) cell$means))
        named <- sprintf(
          c("%s, distance to %s: JSD (bits), corrected", "%s, likeness to %s: r, corrected"),
          one$name, source
        )
        distance_conclusions(named, means, target, item, copies_note(piece))
      }))
    })
  }))
}

#' Mean distributions as `scoring_agreement` takes them: of the first distribution that the study
#' declares, cell by cell.
distributions_by_method <- function(rows, factors, declaration) {
  distributions <- declared_distributions(declaration)
  if (nrow(rows) == 0L || length(distributions) == 0L) return(list())
  one <- distributions[[1L]]
  mine <- rows[rows$distribution %in% one$name, , drop = FALSE]
  lapply(split(mine, mine$label), function(model) {
    lapply(split(model, model$experiment), function(piece) {
      items <- sort(unique(as.character(piece$item)))
      cells <- cell_distributions(piece, factors, one$outcomes, items)
      if (length(cells) == 0L) return(NULL)
      do.call(rbind, lapply(cells, function(cell) cell$mean))
    })
  })
}
