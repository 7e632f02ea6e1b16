# People as a sample, on made people of known truth: how often intervals by participant cover, and
# noise bands hold a model that chooses exactly as people do. `Rscript tests/statistics/people.R`.

for (name in c("common", "statistics", "inference", "people")) {
  source(file.path("scripts", "lib", paste0(name, ".R")))
}
runs <- as.integer(c(commandArgs(TRUE), 500L)[1L])

#' Shares of a yes by `people` who were asked `each` times and differ by a normal spread in logits.
interval_covers <- function(people, each, spread, share) {
  at <- stats::qlogis(share)
  middle <- stats::integrate(function(z) stats::plogis(at + spread * z) * stats::dnorm(z), -8, 8)
  own <- stats::plogis(at + spread * stats::rnorm(people))
  found <- share_by_participant(stats::rbinom(people, each, own), rep(each, people))
  found$low <= middle$value && middle$value <= found$high
}

#' Whether bands of people who answer every cell once hold a model of their true probabilities;
#' `alike` is how strongly a person repeats the same choice in all cells.
bands_hold <- function(people, truth, sizes, alike, known = TRUE) {
  cells <- nrow(truth)
  keys <- outer(seq_len(cells), seq_len(ncol(truth)), paste)
  chance <- stats::runif(people)
  own <- do.call(rbind, lapply(seq_len(cells), function(i) {
    u <- ifelse(stats::runif(people) < alike, chance, stats::runif(people))
    said <- findInterval(u, cumsum(truth[i, ])) + 1L
    data.frame(participant = seq_len(people), key = keys[i, pmin(said, ncol(truth))], n = 1)
  }))
  totals <- stats::aggregate(own["n"], own["key"], sum)
  sample <- people_sample(keys, totals, if (known) own)
  band <- noise_band(sample, sizes, sample.int(1e6, 1L), times = 200L)
  theirs <- sample$counts / rowSums(sample$counts)
  mine <- do.call(rbind, lapply(seq_len(cells), function(i) {
    if (is.finite(sizes[i])) stats::rmultinom(1L, sizes[i], truth[i, ])[, 1L] / sizes[i] else
      truth[i, ]
  }))
  flat <- function(x) matrix(t(x), 1L)
  found <- distances_of_draws(flat(mine), flat(theirs), ncol(truth))
  vapply(compared_distances, function(name) {
    found[[name]] >= band[[paste0(name, "_noise_low")]] &&
      found[[name]] <= band[[paste0(name, "_noise_high")]]
  }, logical(1L))
}

set.seed(20L)
say <- function(...) cat(sprintf(...), sep = "")
for (people in c(30L, 203L)) for (each in c(1L, 4L)) for (spread in c(0, 1)) {
  for (share in c(0.5, 0.125)) {
    covered <- mean(replicate(runs, interval_covers(people, each, spread, share)))
    say("share %.3f of %d people asked %d times, spread %.0f: %.3f\n", share, people, each,
      spread, covered)
  }
}
weights <- matrix(stats::rgamma(12 * 8, 0.5), 12)
truth <- weights / rowSums(weights)
for (alike in c(0, 0.5)) for (size in c(Inf, 240)) {
  held <- rowMeans(replicate(runs, bands_hold(203L, truth, rep(size, 12), alike)))
  say("band, people alike %.1f, %s answers a cell: JSD %.3f, RMSE %.3f, r %.3f\n", alike, size,
    held[["jsd"]], held[["rmse"]], held[["r"]])
}
