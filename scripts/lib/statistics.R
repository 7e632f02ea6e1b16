# Statistics that studies share. Base R only.

#' A seed for one group's random numbers, so that adding a model changes no other model's numbers.
key_seed <- function(seed, ...) {
  step <- function(hash, code) (hash * 31 + code) %% 2147483647
  as.integer(Reduce(step, utf8ToInt(paste(..., sep = "/")), as.numeric(seed)))
}

#' Jensen-Shannon divergence in bits between two distributions (normalised here); NA if either is
#' empty or holds NA.
jsd_bits <- function(p, q) {
  if (anyNA(p) || anyNA(q) || sum(p) <= 0 || sum(q) <= 0) return(NA_real_)
  p <- p / sum(p)
  q <- q / sum(q)
  middle <- (p + q) / 2
  part <- function(x) sum(ifelse(x > 0, x * log2(x / middle), 0))
  max(0, (part(p) + part(q)) / 2)
}

#' The same for every row of `p` (draws x options) against one distribution.
jsd_rows <- function(p, q) {
  if (anyNA(q) || sum(q) <= 0) return(rep(NA_real_, nrow(p)))
  total <- rowSums(p)
  p <- p / ifelse(total > 0, total, NA_real_)
  q <- matrix(q / sum(q), nrow(p), length(q), byrow = TRUE)
  middle <- (p + q) / 2
  part <- function(x) rowSums(ifelse(x > 0, x * log2(x / middle), 0))
  pmax(0, (part(p) + part(q)) / 2)
}

#' Earth mover's distance between distributions over ordered options one unit apart.
emd <- function(p, q) {
  if (anyNA(p) || anyNA(q) || sum(p) <= 0 || sum(q) <= 0) return(NA_real_)
  sum(abs(cumsum(p / sum(p)) - cumsum(q / sum(q))))
}

emd_rows <- function(p, q) apply(p, 1L, emd, q = q)

#' Expected JSD (bits) between two samples from one distribution: what sampling alone produces.
#'
#' @param size Number of draws on the model's side; Inf if its distribution is known exactly.
jsd_floor <- function(target, size, people, simulations, seed) {
  if (anyNA(target) || is.na(people)) return(NA_real_)
  set.seed(seed)
  human <- stats::rmultinom(simulations, people, target)
  model <- if (is.finite(size)) {
    stats::rmultinom(simulations, size, target)
  } else {
    matrix(target, length(target), simulations)
  }
  mean(vapply(seq_len(simulations), function(i) jsd_bits(model[, i], human[, i]), numeric(1L)))
}

#' Pearson correlation; NA where a side does not vary.
correlation <- function(x, y) {
  if (length(x) < 3L || is_constant(x) || is_constant(y)) NA_real_ else stats::cor(x, y)
}

#' Wilson interval of `n` out of `total`; a count of zero has a lower limit of exactly zero.
wilson <- function(n, total, level = 0.95) {
  z <- stats::qnorm(1 - (1 - level) / 2)
  total <- rep_len(total, length(n))
  share <- n / total
  middle <- (share + z^2 / (2 * total)) / (1 + z^2 / total)
  half <- z * sqrt(share * (1 - share) / total + z^2 / (4 * total^2)) / (1 + z^2 / total)
  low <- ifelse(n == 0, 0, middle - half)
  high <- ifelse(n == total, 1, middle + half)
  empty <- is.na(total) | total == 0
  data.frame(low = ifelse(empty, NA_real_, low), high = ifelse(empty, NA_real_, high))
}

#' Bootstrap means: prompts are resampled, then draws within each prompt drawn.
#'
#' Draws within a prompt that was chosen k times are one multinomial sample of size k * n, which has
#' the distribution of k independent resamples.
#'
#' @param values Numeric matrix, one row an answer, one column a measure.
#' @param prompt Prompt id of each row; identical prompts share one.
#' @return Matrix draws x measures.
bootstrap_means <- function(values, prompt, draws, seed) {
  set.seed(seed)
  values <- as.matrix(values)
  groups <- split(seq_len(nrow(values)), prompt)
  count <- length(groups)
  times <- matrix(stats::rmultinom(draws, count, rep(1, count)), nrow = count)
  sums <- matrix(0, draws, ncol(values), dimnames = list(NULL, colnames(values)))
  sizes <- numeric(draws)
  for (g in seq_len(count)) {
    mine <- values[groups[[g]], , drop = FALSE]
    size <- nrow(mine)
    constant <- size == 1L || all(mine == rep(mine[1L, ], each = size))
    for (k in setdiff(unique(times[g, ]), 0)) {
      where <- which(times[g, ] == k)
      add <- if (constant) {
        matrix(mine[1L, ] * k * size, length(where), ncol(values), byrow = TRUE)
      } else {
        crossprod(stats::rmultinom(length(where), k * size, rep(1, size)), mine)
      }
      sums[where, ] <- sums[where, , drop = FALSE] + add
      sizes[where] <- sizes[where] + k * size
    }
  }
  sums / sizes
}

#' Percentile interval of bootstrap draws; NA where a draw is undefined throughout.
percentile_interval <- function(draws, level = 0.95) {
  draws <- draws[is.finite(draws)]
  if (length(draws) == 0L) return(c(NA_real_, NA_real_))
  stats::quantile(draws, c((1 - level) / 2, 1 - (1 - level) / 2), names = FALSE)
}

#' What a reader must know about an interval from this few prompts.
sample_note <- function(prompt) {
  if (length(prompt) <= 1L) {
    "one observation: no interval"
  } else if (length(unique(prompt)) == 1L) {
    "one prompt: the interval covers its draws only"
  } else {
    ""
  }
}

#' Interval limits, NA where there is a single observation.
interval_or_na <- function(draws, prompt) {
  if (length(prompt) <= 1L) c(NA_real_, NA_real_) else percentile_interval(draws)
}

#' Is this spread only rounding error?
is_constant <- function(values, tolerance = 1e-9) {
  length(values) == 0L || max(values) - min(values) <= tolerance * max(1, max(abs(values)))
}

#' Two-sided t test of differences against 0 over prompts, with an equivalence test (TOST).
#'
#' Differences of answers to one prompt are averaged first: prompts are the independent units.
#'
#' @param margin Equivalence margin, in the unit of the differences.
test_differences <- function(difference, prompt, margin) {
  if (length(difference) == 0L) {
    means <- numeric(0)
  } else {
    means <- as.numeric(tapply(difference, as.character(prompt), mean))
  }
  count <- length(means)
  out <- data.frame(
    n_prompts = count, n_answers = length(difference),
    difference = if (count > 0L) mean(means) else NA_real_,
    sd = if (count > 1L) stats::sd(means) else NA_real_,
    ci_low = NA_real_, ci_high = NA_real_, t = NA_real_, df = NA_real_, p = NA_real_,
    cohen_dz = NA_real_, p_equivalence = NA_real_, note = ""
  )
  if (count == 0L) {
    out$note <- "no usable answer"
  } else if (count == 1L) {
    out$note <- "one prompt only: no test"
  } else if (is_constant(means)) {
    out$sd <- 0
    out$note <- "constant: the difference is the same for every prompt, so no t test exists"
  } else {
    out$df <- count - 1
    error <- out$sd / sqrt(count)
    out$t <- out$difference / error
    out$p <- 2 * stats::pt(-abs(out$t), out$df)
    out$cohen_dz <- out$difference / out$sd
    half <- stats::qt(0.975, out$df) * error
    out$ci_low <- out$difference - half
    out$ci_high <- out$difference + half
    out$p_equivalence <- max(
      stats::pt((out$difference + margin) / error, out$df, lower.tail = FALSE),
      stats::pt((out$difference - margin) / error, out$df)
    )
  }
  out
}

#' The random intercepts of a mixed model that were estimated at zero.
zero_variances <- function(fit) {
  theta <- lme4::getME(fit, "theta")
  sub("\\.\\(Intercept\\)$", "", names(theta)[theta < 1e-4])
}

#' Evaluate a model fit, keeping its warnings; `value` is NULL if it failed.
try_fit <- function(expression) {
  said <- character(0)
  note <- function(condition) said <<- c(said, trimws(conditionMessage(condition)))
  value <- tryCatch(
    withCallingHandlers(
      expression,
      warning = function(condition) {
        note(condition)
        invokeRestart("muffleWarning")
      },
      message = function(condition) {
        note(condition)
        invokeRestart("muffleMessage")
      }
    ),
    error = function(condition) {
      said <<- c(said, paste("fit failed:", trimws(conditionMessage(condition))))
      NULL
    }
  )
  said <- unique(gsub("\\s+", " ", said))
  said <- said[!grepl("singular", said, ignore.case = TRUE)]
  list(value = value, said = said)
}
