# Study 1's models: analyses of variance of the bets on state 3, by story.
# Sourced after common.R, inference.R and item_tests.R.

state3_terms <- list("access", "observe", c("access", "observe"))

#' ANOVA of the bets on state 3 with access and observe, per model and experiment, and one with the
#' model as a factor. Only cells with observe <= access exist, so the interaction has one contrast.
state3_anova <- function(bets) {
  item_anova(state3_rows(bets), state3_terms, "bet", "story", "stories")
}

state3_rows <- function(bets) {
  rows <- bets[c(model_keys, "experiment", "access", "observe")]
  rows[c("prompt", "item", "value")] <- bets[c("prompt_id", "story_shortname", "b3")]
  rows$copies <- bets$copies
  rows
}
