# People as a sample (scripts/lib/people.R), made people of known truth: intervals by participant,
# and noise bands that should hold a model that chooses exactly as people do.
source("scripts/lib/people.R", local = TRUE)

#' People who were asked `each` times and differ by a normal spread in logits.
participants <- function(runs) {
  designs <- expand.grid(
    spread = c(0, 1), people = c(30L, 203L), each = c(1L, 4L), share = c(0.5, 0.3, 0.125)
  )
  bind(lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    mu <- logit_of_share(d$share, d$spread)
    kind <- paste0("coverage", if (is_few(d$people, d$share)) ", few")
    # A run is quick.
    hits <- repeated(4L * runs, function() {
      own <- stats::plogis(mu + d$spread * stats::rnorm(d$people))
      said <- stats::rbinom(d$people, d$each, own)
      cbind(covers(share_by_participant(said, rep(d$each, d$people)), d$share))
    }, kind)
    checked(
      sprintf("Share by participant, %d people", d$people),
      sprintf("%g, asked %d times", d$share, d$each), d$spread, kind, hits[, 1L]
    )
  }))
}

#' Answers of people to cells with these shares, one to each cell; `alike` is how strongly a person
#' repeats the same choice in all cells.
people_of <- function(truth, people, alike, known = TRUE) {
  keys <- outer(seq_len(nrow(truth)), seq_len(ncol(truth)), paste)
  chance <- stats::runif(people)
  said <- unlist(lapply(seq_len(nrow(truth)), function(i) {
    u <- ifelse(stats::runif(people) < alike, chance, stats::runif(people))
    keys[i, pmin(findInterval(u, cumsum(truth[i, ])) + 1L, ncol(truth))]
  }))
  totals <- table(said)
  totals <- data.frame(key = names(totals), n = as.vector(totals))
  own <- data.frame(participant = rep(seq_len(people), nrow(truth)), key = said, n = 1)
  people_sample(keys, totals, if (known) own)
}

#' Whether people's noise bands hold a model of their true probabilities.
bands_hold <- function(truth, people, size, alike, known) {
  sample <- people_of(truth, people, alike, known)
  sizes <- rep(size, nrow(truth))
  band <- noise_band(sample, sizes, sample.int(1e6, 1L), times = 200L)
  theirs <- sample$counts / rowSums(sample$counts)
  mine <- if (is.finite(size)) {
    t(apply(truth, 1L, function(own) stats::rmultinom(1L, size, own) / size))
  } else {
    truth
  }
  flat <- function(x) matrix(t(x), 1L)
  found <- distances_of_draws(flat(mine), flat(theirs), ncol(truth))
  rbind(vapply(compared_distances, function(name) {
    found[[name]] >= band[[paste0(name, "_noise_low")]] &&
      found[[name]] <= band[[paste0(name, "_noise_high")]]
  }, logical(1L)))
}

#' Twelve cells of eight options: as people chose in study 2, or made up.
truths <- function() {
  set.seed(20L)
  made_up <- function(shape) {
    weights <- matrix(stats::rgamma(12 * 8, shape), 12)
    weights / rowSums(weights)
  }
  list(
    "people's" = people_shares(), "made up, some rare" = made_up(0.5),
    "made up, most rare" = made_up(0.2)
  )
}

bands <- function(runs) {
  truths <- truths()
  known <- names(truths)
  designs <- rbind(
    expand.grid(truth = known, alike = c(0, 0.5), size = Inf, people = 203L),
    expand.grid(truth = known[1L], alike = 0.5, size = 240, people = 203L),
    expand.grid(truth = known[-3L], alike = 0.5, size = Inf, people = 40L)
  )
  designs$truth <- as.character(designs$truth)
  bind(lapply(seq_len(nrow(designs)), function(i) {
    d <- designs[i, ]
    hits <- repeated(runs, function() {
      bands_hold(truths[[d$truth]], d$people, d$size, d$alike, known = d$alike > 0)
    }, rep("coverage", 3L))
    bind(lapply(1:3, function(column) {
      checked(
        sprintf("Noise band of %s", c("JSD", "RMSE", "r")[column]),
        sprintf("%d people, %s, alike %g, %g answers", d$people, d$truth, d$alike, d$size),
        NA_real_, "coverage", hits[, column]
      )
    }))
  }))
}

simulations <- list("intervals by participant" = participants, "noise bands" = bands)
