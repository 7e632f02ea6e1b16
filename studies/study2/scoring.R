# Study 2: which of its planned tests depend on the way of scoring. Sourced after
# scripts/lib/scoring_methods.R; uses analysis.R.

#' Tables and figure of the ways of scoring.
#'
#' @param table The analysis-ready table.
study2_scoring <- function(input, output, params, table, reference) {
  write_scoring(
    input, output, params, table,
    title = "Study 2: planned tests under every way of scoring",
    read = function(file) read_ready(file, study2_text, study2_numbers, request_seeds),
    stack = stack_choices,
    collapse = function(rows) collapse_copies(rows, chosen, is_greedy(params)),
    conclude = function(choices) {
      bind(list(
        indirectness_tests(choices, reference, params[["equivalence_margin"]] / 100),
        shares_against_chance(choices, reference),
        distances_to_people(choices, reference)
      ))
    },
    cells = function(choices) {
      method_cells(choices, chosen, paste(choices$goal, choices$state), choices$item)
    }
  )
}

#' Is negation more frequent at 0 and 1 hearts than at 2 and 3? Paired by domain, for each goal.
indirectness_tests <- function(choices, reference, margin) {
  people <- lapply(stats::setNames(nm = goals), function(goal) {
    people_indirectness_outcome(reference, goal)
  })
  by_group(choices, c(model_keys, "experiment"), function(piece) {
    rows <- bind(lapply(goals, function(goal) {
      mine <- piece[piece$goal == goal, , drop = FALSE]
      rates <- lapply(0:3, function(state) {
        cell <- mine[mine$state == state, , drop = FALSE]
        if (nrow(cell) == 0L) numeric(0) else item_means(negation_of(cell), cell$item)[, 1L]
      })
      items <- Reduce(intersect, lapply(rates, names))
      rate <- function(i) rates[[i]][items]
      tested <- test_differences(
        (rate(1L) + rate(2L) - rate(3L) - rate(4L)) / 2, items, margin, "domain"
      )
      cbind(
        conclusion = sprintf("%s: negation, 0-1 over 2-3 hearts", goal), tested,
        people = people[[goal]], copies = copies_note(mine)
      )
    }))
    p <- stats::p.adjust(rows$p, "BH")
    outcome <- contrast_outcome(rows$difference, p, rows$p_equivalence, rows$sd, margin)
    data.frame(
      conclusion = rows$conclusion, n_items = rows$n_items, value = rows$difference,
      ci_low = rows$ci_low, ci_high = rows$ci_high, p = p, outcome = outcome,
      people = rows$people, same_as_people = same_outcome(outcome, rows$people),
      note = mapply(notes, rows$note, rows$copies, USE.NAMES = FALSE)
    )
  })
}

#' People's outcome of the same difference, by the normal test of their counts.
people_indirectness_outcome <- function(reference, goal) {
  parts <- lapply(0:3, function(state) {
    c(
      sum(utterance_reference(reference, "human", goal, state)[negated]),
      people_total(reference, "human", goal, state)
    )
  })
  rate <- vapply(parts, `[`, numeric(1L), 1L)
  total <- vapply(parts, `[`, numeric(1L), 2L)
  difference <- sum(rate * c(1, 1, -1, -1)) / 2
  error <- sqrt(sum(rate * (1 - rate) / total)) / 2
  people_outcome(difference, 2 * stats::pnorm(-abs(difference / error)))
}

#' The three tests of single cells: "holds" is above chance, "reversed" below.
shares_against_chance <- function(choices, reference) {
  tests <- share_tests(choices, reference)
  tests$outcome <- people_outcome(tests$proportion - tests$null, tests$p_bh)
  people <- reference_rows(tests, "human")
  people$people <- people$outcome
  models <- tests[tests$experiment != "reference", , drop = FALSE]
  models <- look_up(models, people, "test", "people")
  if (is.null(models$n_items)) models$n_items <- NA_real_ # where no cell has an answer
  models$conclusion <- sprintf("above chance: %s", sub(" \\(.*\\)$", "", models$test))
  models$value <- models$proportion
  models$p <- models$p_bh
  models$same_as_people <- same_outcome(models$outcome, models$people)
  models[c(
    model_keys, "experiment", "conclusion", "n_items", "value", "ci_low", "ci_high", "p", "outcome",
    "people", "same_as_people", "note"
  )]
}

#' JSD and r to people over the 96 cells, corrected, with their intervals by domain.
distances_to_people <- function(choices, reference) {
  target <- lapply(seq_len(nrow(goal_states)), function(i) {
    utterance_reference(reference, "human", goal_states$goal[i], goal_states$state[i])
  })
  by_group(choices, c(model_keys, "experiment"), function(piece) {
    items <- sort(unique(as.character(piece$item)))
    cells <- lapply(seq_len(nrow(goal_states)), function(i) {
      cell <- piece[piece$goal == goal_states$goal[i] & piece$state == goal_states$state[i], ]
      if (nrow(cell) == 0L || anyNA(target[[i]])) return(NULL)
      means <- item_means(choice_matrix(cell), cell$item)
      means[match(items, rownames(means)), , drop = FALSE]
    })
    there <- which(!vapply(cells, is.null, logical(1L)))
    if (length(there) == 0L) return(NULL)
    distance_conclusions(
      c("distance to people: JSD (bits), corrected", "likeness to people: r, corrected"),
      do.call(cbind, cells[there]), do.call(rbind, target[there]), "domain", copies_note(piece)
    )
  })
}
