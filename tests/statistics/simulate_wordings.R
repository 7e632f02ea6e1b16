# The mean over items and wordings (scripts/lib/wordings.R): wordings differ by `spread`, items by
# 1, and an item in a wording by .5.
source("scripts/lib/wordings.R", local = TRUE)

crossed_means <- function(runs) {
  designs <- expand.grid(spread = spreads, wordings = c(3, 4, 6), items = c(6, 12))
  do.call(rbind, lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    hits <- repeated(runs, function() {
      means <- outer(stats::rnorm(d$items), d$spread * stats::rnorm(d$wordings), `+`)
      means <- means + 0.5 * stats::rnorm(length(means))
      found <- mean_by_item_and_wording(as.vector(means), row(means), col(means))
      matrix(covers(found, 0))
    }, "coverage, few")
    checked(
      sprintf("Mean over wordings, %d items", d$items), sprintf("%d wordings", d$wordings),
      d$spread, "coverage, few", hits[, 1L]
    )
  }))
}

simulations <- list("means over wordings" = crossed_means)
