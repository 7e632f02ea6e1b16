# Study 1: which of its planned tests depend on the way of scoring. Sourced after
# scripts/lib/scoring_methods.R; uses analysis.R.

#' Tables and figure of the ways of scoring.
#'
#' @param table The analysis-ready table.
study1_scoring <- function(input, output, params, table, reference) {
  # People have no tokens whose probabilities could be read in several ways.
  table <- language_models(add_label(table), params)
  published <- read_reference(input[["published"]])
  margin <- params[["equivalence_margin"]]
  by_method <- read_scoring(input[["scoring_methods"]], function(file) {
    read_ready(file, study1_text, study1_numbers, request_seeds)
  }, table)
  usable <- function(rows) {
    bets <- stack_bets(rows)
    bets[bets$usable, , drop = FALSE]
  }
  bets <- stack_methods(by_method, usable, usable(table), function(rows) {
    collapse_copies(rows, c(paste0("b", states), "knows"), is_greedy(params))
  })
  planned <- planned_contrasts(bets, published, reference, margin)
  indices <- cancellation(bets, reference, margin)
  indices <- indices[indices$filter == "all answers", , drop = FALSE]
  kept <- c(model_keys, "experiment", "n_items", "ci_low", "ci_high", "note")
  found <- if (nrow(bets) > 0L) {
    bind(list(
      cbind(planned[kept], data.frame(
        conclusion = sprintf(
          "%d/%d: bet on %d over bet on %d", planned$access, planned$observe, planned$state_a,
          planned$state_b
        ),
        value = planned$difference, p = planned$p_bh, outcome = planned$model_pattern,
        people = planned$human_pattern, same_as_people = planned$same_pattern
      )),
      cbind(indices[kept], data.frame(
        conclusion = sprintf(
          "cancelled with less access: \"%s\", %d over %d, %s against %s", indices$word,
          indices$state_a, indices$state_b, indices$full_cell, indices$partial_cell
        ),
        value = indices$index, p = indices$p, outcome = indices$outcome, people = NA_character_,
        same_as_people = NA
      ))
    ))
  } else {
    data.frame()
  }
  cells <- method_cells(
    bets, paste0("b", states), paste(bets$access, bets$observe), bets$story_shortname
  )
  write_scoring(
    scoring_conclusions(found, options_alike(by_method)), cells, output, params,
    "Study 1: planned tests under every way of scoring"
  )
}
