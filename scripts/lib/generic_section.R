# What the report says of a study that has no section of its own: made from its declaration, whose
# texts are foreign. Sourced where `study` and `tables` are, after sections.R.

section <- list(
  label = study$name,
  heading = study$declaration$title %or% study$name,
  about = sprintf("%s (%s)", study$declaration$title %or% "a study", study$name),
  compared = !(is.null(study$declaration$people) && length(study$declaration$theory) == 0L),
  agreement = stats::setNames(
    list(figure_caption(study, "calibration", sprintf(
      "%s: generated against scored, by cell and response.", study$declaration$title %or% study$name
    ))),
    paste0(study$name, "_agreement")
  )
)
if (!is.null(tables$cells$distribution)) {
  # Factors stand between the experiment and what is measured.
  factors <- names(tables$cells)
  factors <- factors[seq_along(factors) > match("experiment", factors) &
    seq_along(factors) < match("response", factors)]
  section$judged <- list(value = "value", outcome = "outcome", cell = c(factors, "distribution"))
}
if (length(study$declaration$contrasts) > 0L) {
  section$methods <- paste0(
    "- **", as_markdown(study$name), ", contrasts.** Paired t tests over the items that both cells",
    " hold, or Welch's between the items of each where fewer than two are in both. BH within the",
    " contrasts of one model and experiment. \"No difference\" takes an equivalence test."
  )
}
if (length(study$declaration$models) > 0L) {
  section$methods <- c(section$methods, paste0(
    "- **", as_markdown(study$name), ", mixed models.** As declared. Experiment 1 enters by",
    " answer, experiment 2 by one mean a prompt; copies enter once. Mixed models describe: their",
    " own tests reject a true null too often with few items and none is given. Failed and",
    " singular fits are named; a coefficient that separated data leave without an estimate has no",
    " number. The terms to compare are tested by item, whatever the model's",
    " random terms. ", item_tests_method
  ))
}

#' One sentence a model and experiment, named by the model's label.
findings <- function(tables) {
  cells <- tables$cells[is_model(tables$cells), , drop = FALSE]
  if (nrow(cells) == 0L) return(no_answer)
  groups <- unique(cells[c("label", "experiment")])
  said <- vapply(seq_len(nrow(groups)), function(i) {
    mine <- function(table) {
      if (is.null(table)) return(data.frame())
      here <- table$label == groups$label[i] & table$experiment == groups$experiment[i]
      table[here, , drop = FALSE]
    }
    parts <- c(sentence_range(mine(cells)), sentence_to_people(mine(tables$distances)),
      sentence_planned(mine(tables$contrasts)))
    sprintf("%s: %s.", in_experiment[[groups$experiment[i]]], paste(parts, collapse = "; "))
  }, character(1L))
  stats::setNames(said, groups$label)
}

#' The people counted among the rows of reference, or NULL.
people_label <- function(tables) {
  cells <- tables$cells
  if (is.null(cells$total) || is.null(cells$distribution)) return(NULL)
  counted <- cells[cells$experiment == "reference" & !is.na(cells$total), , drop = FALSE]
  if (nrow(counted) > 0L) counted$label[1L]
}

#' Distances from people, a row for each model and experiment, of the first distribution.
to_people <- function(tables) {
  rows <- tables$distances
  rows <- rows[is_model(rows) & rows$reference %in% people_label(tables), , drop = FALSE]
  if (!isTRUE(nrow(rows) > 0L)) return(NULL)
  rows[rows$distribution == rows$distribution[1L], , drop = FALSE]
}

#' A row for each model and experiment, for the table of all models.
headline <- function(tables) {
  rows <- to_people(tables)
  if (is.null(rows)) return(NULL)
  data.frame(
    rows[c("label", "experiment")],
    "JSD to people (bits)" = show_interval(
      rows$jsd_corrected, rows$jsd_low, rows$jsd_high, 3
    ),
    "r to people" = show_interval(rows$r_corrected, rows$r_low, rows$r_high),
    check.names = FALSE
  )
}

#' Distances from people by cell, of the first distribution; none where cells are too many for a
#' table's columns.
conditions <- function(tables) {
  people <- people_label(tables)
  own <- unlist(study$declaration$factors)
  if (is.null(people) || length(own) == 0L) return(data.frame())
  cells <- tables$cells[!is.na(tables$cells$distribution), , drop = FALSE]
  cells <- cells[cells$distribution == cells$distribution[is_model(cells)][1L], , drop = FALSE]
  if (!isTRUE(nrow(unique(cells[own])) <= 24L)) return(data.frame())
  condition_distances(
    cells, reference_rows(cells, people), own, "value", "outcome",
    function(row) toString(unlist(lapply(row[own], as.character))),
    function(row) lapply(as.list(row[own]), as.character), "people"
  )
}

#' Who comes closest to people, and where no one has their favourite answer.
closest <- function(tables) {
  rows <- to_people(tables)
  if (is.null(rows)) return(NULL)
  joined(closest_sentences(rows), nowhere_sentences(conditions(tables)))
}

#' What each figure shows, in words, by its name.
figure_results <- function(tables) {
  to_people <- function(rows) paste(sentence_to_people(rows), collapse = "; ")
  found <- list(
    distributions = said_of_each(tables$cells, sentence_range),
    responses = said_of_each(tables$cells, sentence_range),
    people = said_of_each(tables$distances, to_people),
    agreement = said_of_agreement(tables$agreement),
    scoring_methods = said_of_scoring(tables$scoring_methods)
  )
  stats::setNames(found, paste(study$name, names(found), sep = "_"))
}

#' The lowest and the highest cell mean of the first few responses.
sentence_range <- function(rows) {
  rows <- rows[is.na(rows$distribution) | all(!is.na(rows$distribution)), , drop = FALSE]
  shown <- utils::head(unique(rows$response), 3L)
  toString(vapply(shown, function(name) {
    values <- rows$value[rows$response == name]
    if (length(values) == 1L) return(sprintf("%s is %s", name, show_number(values)))
    sprintf(
      "%s is between %s and %s over %d cells", name, show_number(min(values)),
      show_number(max(values)), length(values)
    )
  }, character(1L)))
}

sentence_to_people <- function(rows) {
  rows <- rows[!is.na(rows$jsd_bits), , drop = FALSE]
  if (nrow(rows) == 0L) return(NULL)
  sprintf(
    "%s: r = %s, mean JSD %s bits%s over %d cells of %s", rows$reference, show_number(rows$r),
    show_number(rows$jsd_bits, 3),
    ifelse(is.na(rows$jsd_floor_bits), "", sprintf(
      " (sampling floor %s)", show_number(rows$jsd_floor_bits, 3)
    )), as.integer(rows$n_cells), rows$distribution
  )
}

sentence_planned <- function(rows) {
  tested <- rows[!is.na(rows$pattern), , drop = FALSE]
  if (nrow(rows) == 0L) return(NULL)
  if (nrow(tested) == 0L) return("none of the planned contrasts can be tested")
  sprintf(
    "%d of %d planned contrasts come out as expected", sum(tested$pattern == "higher"), nrow(tested)
  )
}
