# People as a sample: intervals with participants as units, how well half of them predicts the other
# half (the ceiling of every comparison with them), and how far from them a model would be that
# chooses exactly as they do (the noise band). Base R; source after statistics.R and inference.R.

#' People's answers to all outcomes of all cells, with what is to be drawn anew: participants with
#' all of their answers or, where the file does not say who answered, answers one by one.
#'
#' @param keys Text of each cell and outcome, a matrix of cells x outcomes.
#' @param totals Of all people: `key` and `n`.
#' @param own Of each participant: `participant`, `key` and `n`; NULL where not known.
#' @return `counts`, cells x outcomes, and `own`, participants x (outcomes within cells) or NULL.
people_sample <- function(keys, totals, own = NULL) {
  n <- totals$n[match(keys, totals$key)]
  counts <- matrix(ifelse(is.na(n), 0, n), nrow(keys))
  if (is.null(own)) return(list(counts = counts, own = NULL))
  flat <- as.vector(t(keys))
  own <- own[own$key %in% flat, , drop = FALSE]
  who <- unique(own$participant)
  answers <- matrix(0, length(who), length(flat))
  at <- cbind(match(own$participant, who), match(own$key, flat))
  answers[at] <- own$n
  list(counts = counts, own = answers)
}

#' Some of the cells alone, by number.
of_cells <- function(people, cells) {
  outcomes <- ncol(people$counts)
  columns <- as.vector(outer(seq_len(outcomes), (cells - 1L) * outcomes, "+"))
  own <- people$own
  if (!is.null(own)) {
    own <- own[, columns, drop = FALSE]
    own <- own[rowSums(own) > 0, , drop = FALSE]
  }
  list(counts = people$counts[cells, , drop = FALSE], own = own)
}

#' How many people there are, or answers where it is not known who gave them.
sample_size <- function(people) {
  if (is.null(people$own)) sum(people$counts) else nrow(people$own)
}

#' What varies in people's numbers, in words.
people_unit <- function(people) if (is.null(people$own)) "answer" else "participant"

#' Draw people again, with replacement: shares, draws x (outcomes within cells); NaN in a cell that
#' nobody who was drawn answered in.
drawn_people <- function(people, times) {
  outcomes <- ncol(people$counts)
  if (is.null(people$own)) {
    cells <- lapply(seq_len(nrow(people$counts)), function(i) {
      total <- sum(people$counts[i, ])
      if (total == 0) return(matrix(0, times, outcomes))
      t(stats::rmultinom(times, total, people$counts[i, ]))
    })
    return(cell_shares(do.call(cbind, cells), outcomes))
  }
  size <- nrow(people$own)
  weights <- stats::rmultinom(times, size, rep(1, size))
  cell_shares(crossprod(weights, people$own), outcomes)
}

#' Part people at random into halves: the shares of each, as `drawn_people` gives them.
halved_people <- function(people, times) {
  outcomes <- ncol(people$counts)
  whole <- as.vector(t(people$counts))
  first <- if (is.null(people$own)) {
    do.call(cbind, lapply(seq_len(nrow(people$counts)), function(i) {
      t(drawn_without(people$counts[i, ], sum(people$counts[i, ]) %/% 2L, times))
    }))
  } else {
    size <- nrow(people$own)
    chosen <- vapply(seq_len(times), function(i) {
      as.numeric(seq_len(size) %in% sample.int(size, size %/% 2L))
    }, numeric(size))
    crossprod(chosen, people$own)
  }
  second <- matrix(whole, times, length(whole), byrow = TRUE) - first
  list(first = cell_shares(first, outcomes), second = cell_shares(second, outcomes))
}

#' Counts of `size` answers drawn from these without replacement: outcomes x times.
drawn_without <- function(counts, size, times) {
  found <- matrix(0, length(counts), times)
  left <- rep(size, times)
  for (i in seq_along(counts)) {
    later <- sum(counts[-seq_len(i)])
    found[i, ] <- stats::rhyper(times, counts[i], later, left)
    left <- left - found[i, ]
  }
  found
}

#' Counts as shares of their cell.
cell_shares <- function(counts, outcomes) {
  cell <- rep(seq_len(ncol(counts) / outcomes), each = outcomes)
  totals <- t(rowsum(t(counts), cell))
  counts / totals[, cell, drop = FALSE]
}

#' Distances of two sets of shares, row by row: mean JSD over cells, RMSE, r. Cells that one side
#' lacks are left out.
distances_of_draws <- function(first, second, outcomes) {
  cells <- ncol(first) / outcomes
  by_cell <- function(x) matrix(t(x), ncol = outcomes, byrow = TRUE)
  jsd <- matrix(jsd_pairs(by_cell(first), by_cell(second)), ncol = cells, byrow = TRUE)
  known <- is.finite(first) & is.finite(second)
  data.frame(
    jsd = rowMeans(jsd, na.rm = TRUE),
    rmse = sqrt(rowMeans((first - second)^2, na.rm = TRUE)),
    r = vapply(seq_len(nrow(first)), function(i) {
      correlation(first[i, known[i, ]], second[i, known[i, ]])
    }, numeric(1L))
  )
}

compared_distances <- c("jsd", "rmse", "r")

#' Middle 95% of each distance: `<name>_noise_low`, `<name>_noise_high`.
noise_columns <- function(drawn) {
  limits <- lapply(compared_distances, function(name) {
    if (all(is.na(drawn[[name]]))) return(c(NA_real_, NA_real_))
    stats::quantile(drawn[[name]], c(0.025, 0.975), na.rm = TRUE, names = FALSE)
  })
  names <- paste0(rep(compared_distances, each = 2L), c("_noise_low", "_noise_high"))
  as.data.frame(as.list(stats::setNames(unlist(limits), names)))
}

#' The noise band: where the distances from these people lie, in 95 of 100 cases, of a model that
#' chooses exactly as people do. People are drawn anew, and the model's answers with them.
#'
#' How likely answers are that nobody gave is not known, and JSD hangs on it: the band reaches from
#' where it ends if they are impossible to where it ends if they are as likely as Turing's estimate
#' has it (`unseen_shares`).
#'
#' @param people As `people_sample` gives them, of the cells that are compared.
#' @param sizes The model's answers in each cell; Inf where its probabilities are known.
noise_band <- function(people, sizes, seed, times = 400L) {
  set.seed(seed)
  unseen <- unseen_shares(people$counts)
  band <- noise_of(people, sizes, times, 0 * unseen)
  if (!any(unseen > 0)) return(band)
  with_unseen <- noise_of(people, sizes, times, unseen)
  low <- endsWith(names(band), "_low")
  band[low] <- Map(pmin, band[low], with_unseen[low])
  band[!low] <- Map(pmax, band[!low], with_unseen[!low])
  band
}

#' How likely in each cell the answers are together that nobody gave: the share of those that one
#' alone gave (Turing's estimate: Good 1953, Biometrika 40), at most a half. 0 where all were given.
unseen_shares <- function(counts) {
  ifelse(rowSums(counts == 0) > 0, pmin(0.5, rowSums(counts == 1) / rowSums(counts)), 0)
}

#' The middle 95% of distances between people who are drawn anew and answers like theirs, if what
#' nobody gave has these chances, each answer of a cell the same.
noise_of <- function(people, sizes, times, unseen) {
  counts <- people$counts
  outcomes <- ncol(counts)
  theirs <- drawn_people(people, times)
  mine <- vector("list", nrow(counts))
  for (i in seq_len(nrow(counts))) {
    share <- counts[i, ] / sum(counts[i, ])
    missing <- which(counts[i, ] == 0)
    if (unseen[i] > 0) {
      share <- (1 - unseen[i]) * share
      share[missing] <- unseen[i] / length(missing)
      columns <- (i - 1L) * outcomes + seq_len(outcomes)
      theirs[, columns] <- with_missing(theirs[, columns], sum(counts[i, ]), missing, unseen[i])
    }
    mine[[i]] <- if (is.finite(sizes[i])) {
      t(stats::rmultinom(times, sizes[i], share)) / sizes[i]
    } else {
      matrix(share, times, outcomes, byrow = TRUE)
    }
  }
  noise_columns(distances_of_draws(do.call(cbind, mine), theirs, outcomes))
}

#' Shares of a cell, draws x outcomes, of which each of `total` answers is one of the `missing`
#' outcomes with this chance instead.
with_missing <- function(shares, total, missing, chance) {
  times <- nrow(shares)
  moved <- stats::rbinom(times, total, chance)
  shares <- shares * (1 - moved / total)
  for (k in seq_along(missing)) {
    here <- stats::rbinom(times, moved, 1 / (length(missing) - k + 1L))
    shares[, missing[k]] <- here / total
    moved <- moved - here
  }
  # Nobody who was drawn answered in this cell.
  shares[is.nan(rowSums(shares)), ] <- NaN
  shares
}

#' The ceiling: distances of one random half of people from the other, on average over the ways to
#' part them, with the middle 95% of these. `note` has the correlation that two samples as large as
#' all of these people would have (Spearman and Brown).
people_ceiling <- function(people, seed, times = 1000L) {
  size <- sample_size(people)
  drawn <- if (size < 4L) {
    data.frame(jsd = NA_real_, rmse = NA_real_, r = NA_real_)
  } else {
    set.seed(seed)
    halves <- halved_people(people, times)
    distances_of_draws(halves$first, halves$second, ncol(people$counts))
  }
  means <- vapply(drawn, function(x) mean_or_na(x), numeric(1L))
  cbind(
    data.frame(
      n_answers = sum(people$counts), jsd_bits = means[["jsd"]], rmse = means[["rmse"]],
      r = means[["r"]]
    ),
    noise_columns(drawn),
    note = if (size < 4L) {
      sprintf("too few %ss to part into halves", people_unit(people))
    } else {
      sprintf(
        paste(
          "one half of %s %ss against the other, mean of %d partings;",
          "between samples of all of them r would be %.4f (Spearman-Brown)%s"
        ),
        format(size, big.mark = ","), people_unit(people), times,
        2 * means[["r"]] / (1 + means[["r"]]),
        if (is.null(people$own)) "; the file does not say who gave which answer" else ""
      )
    }
  )
}

#' A share of people's answers with participants as units: the ratio of what they said to what they
#' were asked, with Wilson's interval of as many independent answers as have its error.
#'
#' @param hits,answers Of each participant; those without an answer do not count.
#' @return `low`, `high` and `effective`, and `p`, the test against `null`, if one is given.
share_by_participant <- function(hits, answers, null = NA) {
  asked <- answers > 0
  hits <- hits[asked]
  answers <- answers[asked]
  size <- length(hits)
  none <- list(low = NA_real_, high = NA_real_, effective = NA_real_, p = NA_real_)
  if (size < 2L) return(none)
  share <- sum(hits) / sum(answers)
  residuals <- hits - share * answers
  error <- size / (size - 1) * sum(residuals^2) / sum(answers)^2
  # All said the same: one participant is one answer, however often asked.
  effective <- if (share %in% c(0, 1) || error <= 0) size else share * (1 - share) / error
  limits <- wilson_share(share, effective, size - 1)
  statistic <- (share - null) / sqrt(null * (1 - null) / effective)
  list(
    low = limits[1L], high = limits[2L], effective = effective,
    p = 2 * stats::pt(-abs(statistic), size - 1)
  )
}

#' Middle 95% of a number of people over people drawn anew.
#'
#' @param statistic Of shares, draws x (outcomes within cells); a number for each draw.
people_interval <- function(people, statistic, seed, times = 1000L) {
  if (sample_size(people) < 4L) return(c(NA_real_, NA_real_))
  set.seed(seed)
  found <- statistic(drawn_people(people, times))
  if (all(is.na(found))) return(c(NA_real_, NA_real_))
  stats::quantile(found, c(0.025, 0.975), na.rm = TRUE, names = FALSE)
}
