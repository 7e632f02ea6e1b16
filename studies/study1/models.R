# Study 1's models: analyses of variance of the bets on state 3, by story.
# Sourced after common.R, inference.R and item_tests.R.

state3_terms <- list("access", "observe", c("access", "observe"))

#' ANOVA of the bets on state 3 with access and observe, per model and experiment, and one with the
#' model as a factor.
#'
#' Stories are the units: each effect is tested against its own spread over the stories. Only cells
#' with observe <= access exist, so the interaction has one contrast.
state3_anova <- function(bets) {
  each <- by_group(state3_rows(bets), c(model_keys, "experiment"), function(piece) {
    cbind(
      with_counts(item_tests(piece, state3_terms, nouns = "stories"), piece),
      formula = "bet ~ access * observe + Error(story / (access * observe))"
    )
  })
  bind(list(each, state3_models(bets)))
}

#' Do the bets on state 3, and how they depend on access and observe, differ between models?
state3_models <- function(bets) {
  across_models(
    state3_rows(bets), state3_terms, "stories",
    "bet ~ model * access * observe + Error(story / (model * access * observe))"
  )
}

state3_rows <- function(bets) {
  rows <- bets[c(model_keys, "experiment", "access", "observe")]
  rows[c("prompt", "item", "value")] <- bets[c("prompt_id", "story_shortname", "b3")]
  rows$copies <- bets$copies
  rows
}
