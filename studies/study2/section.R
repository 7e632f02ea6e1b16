# What the report says of study 2 outside its section, in Markdown, and the findings of its summary.
# Sourced after scripts/lib/common.R, html.R, report.R and sections.R.

section <- list(
  label = "study 2",
  heading = "Study 2, politeness",
  about = "a study of polite speech (study 2)",
  kind = "pragmatics",
  judged = list(
    value = "proportion", outcome = c("frame", "assessment"), cell = c("goal", "state")
  ),
  intervals = paste(
    "The items of study 2 are its twelve domains: names changed in a domain make no new item.",
    "Shares are tested by domain, those of people over participants."
  ),
  methods = c(paste(
    "- **Study 2, analysis of variance.** Of the rate of negation in both experiments, with state",
    "and goal as factors and domains as the items.", item_tests_method
  ), paste(
    "- **Study 2, log odds.** Logistic mixed models with random intercepts for domains and, as",
    "slopes, for each domain's states and goals describe the answers of experiment 1. Failed,",
    "singular and separated fits are named.",
    "Their likelihood ratio tests reject a true null in 8% of runs",
    "with 12 domains, and are not given."
  )),
  people = paste(
    "The people of study 2 are 203 participants; polite RSA was fitted to these same people, so",
    "its closeness is not a prediction."
  ),
  fitted = paste(
    "Weights of the three utilities (they sum to 1), and the phi that the speaker wants to be",
    "seen with, for each goal; alpha and the cost of negation for all. Published, for people,",
    "are alpha 4.47 and a cost of 2.64. Generated answers are those of the temperature that",
    "they were sampled at: below 1 it sharpens all choices, which the fit takes for a higher",
    "alpha and cost and for other weights, so that only answers at temperature 1 and scored",
    "probabilities give back what a model itself weighs. The interval by item says what other",
    "domains would give; that by condition, from fits without one goal and state each, how far",
    "it reaches that the speaker is only about right: where domains agree, as those of scored",
    "probabilities may, it is the one that counts. Where the deviance is far above its degrees",
    "of freedom, or the p values of the checks are small, the speaker does not describe the",
    "answers and its parameters mean little."
  ),
  agreement = list(study2_agreement = paste(
    "Study 2: shares of generated utterances against scored probabilities."
  ))
)

#' Findings of study 2, one sentence a model and experiment, named by the model's label.
findings <- function(tables) {
  rows <- tables$human_comparison
  if (is.null(rows)) return(no_answer)
  human <- reference_rows(rows, "human")
  rows <- rows[rows$experiment %in% names(in_experiment), , drop = FALSE]
  if (nrow(rows) == 0L) return(no_answer)
  said <- vapply(seq_len(nrow(rows)), function(i) {
    row <- rows[i, ]
    paste0(
      sprintf("%s: ", in_experiment[[row$experiment]]),
      sentence_distance(row), sentence_indirectness(row, human),
      sentence_primary(tables$tests, row), "."
    )
  }, character(1L))
  stats::setNames(said, rows$label)
}

#' A row for each model and experiment, for the table of all models.
headline <- function(tables) {
  rows <- tables$human_comparison
  rows <- rows[is_model(rows), , drop = FALSE]
  if (!isTRUE(nrow(rows) > 0L)) return(NULL)
  primary <- tables$tests[grepl("(primary)", tables$tests$test, fixed = TRUE), , drop = FALSE]
  primary <- look_up(
    rows, primary, c("label", "experiment"), c("proportion", "ci_low", "ci_high")
  )
  data.frame(
    rows[c("label", "experiment")],
    "JSD to people (bits)" = show_interval(
      rows$jsd_corrected, rows$jsd_low, rows$jsd_high, 3
    ),
    "r to people" = show_interval(rows$r_corrected, rows$r_low, rows$r_high),
    "\"wasn't terrible\", 0 hearts, both" = show_interval(
      primary$proportion, primary$ci_low, primary$ci_high
    ), check.names = FALSE
  )
}

#' Distances from people by goal and state.
conditions <- function(tables) {
  people <- reference_rows(tables$cells, "human")
  condition_distances(
    tables$cells, people, c("goal", "state"), "proportion", c("frame", "assessment"),
    function(row) {
      state <- as.integer(row$state)
      sprintf("%s, %d %s", row$goal, state, if (state == 1L) "heart" else "hearts")
    },
    function(row) list(Goal_simplified = row$goal, State_number = as.integer(row$state)),
    "people"
  )
}

#' Who comes closest to people, and where no one has their favourite utterance.
closest <- function(tables) {
  if (!isTRUE(nrow(tables$human_comparison) > 0L)) return(NULL)
  joined(
    closest_sentences(tables$human_comparison), nowhere_sentences(conditions(tables))
  )
}

#' What each figure shows, in words, by its name.
figure_results <- function(tables) {
  rows <- tables$human_comparison
  list(
    study2_utterances = said_of_each(rows, sentence_distance),
    study2_negation = said_of_each(rows, function(row) {
      sentence_indirectness(row, reference_rows(rows, "human"))
    }),
    study2_human_scatter = said_of_each(rows, sentence_distance),
    study2_agreement = said_of_agreement(tables$agreement),
    study2_scoring_methods = said_of_scoring(tables$scoring_methods)
  )
}

sentence_distance <- function(row) {
  if (is.na(row$jsd_bits)) return("no cell to compare with people")
  sprintf(
    paste(
      "over %d of 96 cells (%s different answers, %d %s), r = %s and RMSE = %s to people,",
      "mean JSD %s bits (sampling floor %s)"
    ),
    as.integer(row$n_cells), show_number(row$n_answers, 0), as.integer(row$n_items),
    if (row$n_items == 1) "domain" else "domains",
    show_number(row$r), show_number(row$rmse, 3), show_number(row$jsd_bits, 3),
    show_number(row$jsd_floor_bits, 3)
  )
}

sentence_indirectness <- function(row, human) {
  goals <- c("informative", "social", "both")
  mine <- unlist(row[paste0("indirectness_", goals)])
  if (all(is.na(mine)) || nrow(human) == 0L) return("")
  theirs <- unlist(human[1L, paste0("indirectness_", goals)])
  known <- which(!is.na(mine))
  if (length(known) > 1L && diff(range(mine[known])) < 0.005) {
    return(sprintf("; indirectness is %s whatever the goal", show_number(mine[known[1L]])))
  }
  most <- known[which.max(mine[known])]
  sprintf(
    "; indirectness is largest for the goal \"%s\" (%s; people %s there, largest for \"%s\")",
    goals[most], show_number(mine[most]), show_number(theirs[most]), goals[which.max(theirs)]
  )
}

sentence_primary <- function(tests, row) {
  primary <- tests[grepl("(primary)", tests$test, fixed = TRUE), , drop = FALSE]
  mine <- primary[primary$label == row$label & primary$experiment == row$experiment &
    !is.na(primary$proportion), , drop = FALSE]
  if (nrow(mine) == 0L) return("")
  people <- reference_rows(primary, "human")
  against <- if (is.na(mine$p[1L])) {
    ""
  } else {
    sprintf(", p %s against chance", sub("^\\.", "= .", show_p(mine$p[1L])))
  }
  sprintf(
    "; \"wasn't terrible\" at 0 hearts with both goals: %s%s%s",
    show_interval(mine$proportion[1L], mine$ci_low[1L], mine$ci_high[1L]), against,
    if (nrow(people) > 0L) sprintf(" (people %s)", show_number(people$proportion[1L])) else ""
  )
}
