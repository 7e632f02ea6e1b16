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

#' The same for each row of two matrices.
jsd_pairs <- function(p, q) {
  scaled <- function(x) {
    total <- rowSums(x)
    x / ifelse(!is.na(total) & total > 0, total, NA_real_)
  }
  p <- scaled(p)
  q <- scaled(q)
  middle <- (p + q) / 2
  part <- function(x) rowSums(ifelse(x > 0, x * log2(x / middle), 0))
  pmax(0, (part(p) + part(q)) / 2)
}

#' Earth mover's distance between distributions over ordered options one unit apart.
emd <- function(p, q) {
  if (anyNA(p) || anyNA(q) || sum(p) <= 0 || sum(q) <= 0) return(NA_real_)
  sum(abs(cumsum(p / sum(p)) - cumsum(q / sum(q))))
}

#' `fn`, which remembers what it gave for the same arguments, numbers and texts.
remembering <- function(fn) {
  known <- new.env()
  function(...) {
    key <- paste(vapply(list(...), paste, character(1L), collapse = " "), collapse = "\r")
    if (is.null(known[[key]])) known[[key]] <- fn(...)
    known[[key]]
  }
}

#' Sampling floor: the expected JSD (bits) between two samples from one distribution.
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
  mean(jsd_pairs(t(model), t(human)))
}

#' Pearson correlation; NA where a side does not vary.
correlation <- function(x, y) {
  if (length(x) < 3L || is_constant(x) || is_constant(y)) NA_real_ else stats::cor(x, y)
}

#' The distances of cells' distributions, row by row of `target`, as functions of all their numbers
#' one after the other.
distance_functions <- function(target) {
  flat <- as.vector(t(target))
  list(
    jsd = function(x) mean(jsd_pairs(matrix(x, nrow(target), byrow = TRUE), target)),
    rmse = function(x) sqrt(mean((x - flat)^2)),
    r = function(x) if (all(is.finite(x))) correlation(x, flat) else NA_real_
  )
}

#' Whether both have the same favourite; NA where one of them has a tie for it.
same_favourite <- function(first, second) {
  favourite <- function(x) {
    if (anyNA(x)) return(NA_integer_)
    best <- which(x >= max(x) - 1e-9 * max(1, abs(x)))
    if (length(best) == 1L) best else NA_integer_
  }
  favourite(first) == favourite(second)
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

#' Cohen's h of two shares (Cohen 1988, chapter 6): the difference of their arcsine transforms.
cohen_h <- function(first, second) {
  angle <- function(share) 2 * asin(sqrt(pmin(1, pmax(0, share))))
  angle(first) - angle(second)
}

#' Two-sided p of McNemar's exact test: the binomial test of the items on which models differ.
mcnemar_exact <- function(only_a, only_b) {
  pmin(1, 2 * stats::pbinom(pmin(only_a, only_b), only_a + only_b, 0.5))
}

#' Is this spread only rounding error?
is_constant <- function(values, tolerance = 1e-9) {
  length(values) == 0L || max(values) - min(values) <= tolerance * max(1, max(abs(values)))
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
