# What training changes in the studies: stages of a recipe in pairs, by item, over its training
# seeds, and the distributions within the options. From the studies' result tables alone. Base R
# only; source after common.R, statistics.R, inference.R and training_comparison.R.
#
# A `training` is a list of `base`, a model's key, and of checkpoints the vectors `models`, `stages`
# and `seeds`.

#' The key of a stage's model in a seed; NA where the run has none.
model_of_stage <- function(training, stage, seed) {
  if (stage == "base") return(training$base)
  at <- which(training$stages == stage & training$seeds == seed)
  if (length(at) == 1L) training$models[at] else NA_character_
}

#' Every step of every seed on every measure: rows of `model_pairs`, turned so that the difference
#' is of the later stage less the earlier. BH is over the steps and seeds of one measure, experiment
#' and variant.
stage_differences <- function(pairs, training) {
  if (!isTRUE(nrow(pairs) > 0L)) return(data.frame())
  pairs_of <- stage_steps(training$stages)
  steps <- expand.grid(
    comparison = names(pairs_of), seed = sort(unique(training$seeds)), stringsAsFactors = FALSE
  )
  found <- bind(lapply(seq_len(nrow(steps)), function(i) {
    stages <- pairs_of[[steps$comparison[i]]]
    from <- model_of_stage(training, stages[1L], steps$seed[i])
    to <- model_of_stage(training, stages[2L], steps$seed[i])
    turned <- bind(list(
      turned_pairs(pairs[pairs$model_a %in% to & pairs$model_b %in% from, , drop = FALSE], 1),
      turned_pairs(pairs[pairs$model_a %in% from & pairs$model_b %in% to, , drop = FALSE], -1)
    ))
    if (nrow(turned) == 0L) return(NULL)
    cbind(steps[i, , drop = FALSE], from = from, to = to, turned, row.names = NULL)
  }))
  if (nrow(found) == 0L) return(found)
  family <- do.call(paste, c(unname(as.list(found[measure_keys(found)])), sep = "\r"))
  found$p_bh <- stats::ave(found$p, family, FUN = function(p) stats::p.adjust(p, "BH"))
  found
}

#' What tells one measure's rows from another's.
measure_keys <- function(rows) {
  intersect(c("study", "experiment", "variant", "measure"), names(rows))
}

#' Pairs of models as differences of the one less the other.
#'
#' @param sign 1 where the later stage is `a`, -1 where it is `b`.
turned_pairs <- function(pairs, sign) {
  if (nrow(pairs) == 0L) return(NULL)
  after <- if (sign > 0) "a" else "b"
  before <- setdiff(c("a", "b"), after)
  side <- function(name, which) pairs[[paste(name, which, sep = "_")]]
  ends <- sign * as.matrix(pairs[c("ci_low", "ci_high")])
  out <- pairs[intersect(c(measure_keys(pairs), "n_items", "test", "p", "p_equivalence", "note"),
    names(pairs))]
  out$before <- side("value", before)
  out$after <- side("value", after)
  out$difference <- sign * pairs$difference
  out$ci_low <- pmin(ends[, 1L], ends[, 2L])
  out$ci_high <- pmax(ends[, 1L], ends[, 2L])
  out$cohen_h <- sign * pairs$cohen_h
  out$cohen_dz <- sign * pairs$cohen_dz
  out
}

#' The differences of a step over training seeds, items and seeds both random: the mean, with each
#' seed's, and an interval that holds for other items and other seeds where there are three or more.
#'
#' Every item is asked of every seed's model, so the error is that of two crossed random effects
#' (`crossed_half_width`). The covariances of the seeds' differences over items, which it takes,
#' follow from the standard deviations of all pairs of these models.
stages_over_seeds <- function(differences, pairs, training) {
  if (nrow(differences) == 0L) return(data.frame())
  keys <- measure_keys(differences)
  differences$order <- match(differences$comparison, names(stage_steps(training$stages)))
  by_group(differences, c(keys, "order"), function(piece) {
    piece <- piece[!is.na(piece$difference), , drop = FALSE]
    if (nrow(piece) == 0L) return(NULL)
    out <- over_seeds(piece$difference, piece$seed)
    out$each <- each_seed(piece$seed, piece$difference)
    out[c("ci_low", "ci_high")] <- NA_real_
    out <- cbind(comparison = piece$comparison[1L], n_items = max(piece$n_items), out)
    out$sd_seed <- NA_real_
    if (nrow(piece) < 3L) return(out)
    own <- pairs
    for (key in keys) own <- own[own[[key]] %in% piece[[key]][1L], , drop = FALSE]
    shared <- item_covariance(own, piece$from, piece$to)
    if (is.null(shared)) {
      out$note <- "the seeds' models do not share all items: no interval over items and seeds"
      return(out)
    }
    crossed <- crossed_seeds(piece$difference, shared$covariance, shared$items)
    out$sd_seed <- crossed$sd_seed
    if (is.na(crossed$half)) {
      out$note <- "constant over items and seeds, so there is no interval"
    } else {
      out$ci_low <- out$mean - crossed$half
      out$ci_high <- out$mean + crossed$half
      out$note <- ""
    }
    out
  })
}

#' Covariances over items of differences between models, each column's `to` less its `from`, from
#' the variances of all pairs of these models. NULL where a pair is not there, or of other items.
item_covariance <- function(pairs, from, to) {
  models <- unique(c(from, to))
  variance <- matrix(0, length(models), length(models), dimnames = list(models, models))
  for (i in seq_along(models)) {
    for (j in seq_len(i - 1L)) {
      both <- pairs$model_a %in% models[c(i, j)] & pairs$model_b %in% models[c(i, j)]
      found <- pairs[both, , drop = FALSE]
      if (nrow(found) != 1L || is.na(found$sd)) return(NULL)
      variance[i, j] <- variance[j, i] <- found$sd^2
      if (i == 2L) items <- found$n_items
      if (found$n_items != items) return(NULL)
    }
  }
  contrasts <- matrix(0, length(models), length(from))
  contrasts[cbind(match(to, models), seq_along(to))] <- 1
  contrasts[cbind(match(from, models), seq_along(from))] <- -1
  list(covariance = -t(contrasts) %*% variance %*% contrasts / 2, items = items)
}

#' Half-width of the interval of a mean over items and seeds, and the spread of seeds.
crossed_seeds <- function(differences, covariance, items) {
  k <- length(differences)
  square <- c(
    item = sum(covariance) / k, unit = items * stats::var(differences),
    rest = max(0, (sum(diag(covariance)) - sum(covariance) / k) / (k - 1))
  )
  if (all(square <= 1e-18)) return(list(half = NA_real_, sd_seed = 0))
  list(
    half = crossed_half_width(square, items, k)$half,
    sd_seed = sqrt(max(0, (square[["unit"]] - square[["rest"]]) / items))
  )
}

#' Where a step differs by format: for two variants, the difference of its changes, by training
#' seed.
format_changes <- function(differences, training) {
  variants <- sort(unique(differences$variant))
  if (nrow(differences) == 0L || length(variants) < 2L) return(data.frame())
  keys <- setdiff(measure_keys(differences), "variant")
  differences$order <- match(differences$comparison, names(stage_steps(training$stages)))
  by_group(differences, c(keys, "order"), function(piece) {
    first <- piece[piece$variant == variants[1L], , drop = FALSE]
    bind(lapply(variants[-1L], function(variant) {
      other <- piece[piece$variant == variant, , drop = FALSE]
      seeds <- intersect(first$seed, other$seed)
      if (length(seeds) == 0L) return(NULL)
      change <- other$difference[match(seeds, other$seed)] -
        first$difference[match(seeds, first$seed)]
      out <- over_seeds(change, seeds)
      out$each <- each_seed(seeds, change)
      cbind(
        comparison = piece$comparison[1L], formats = sprintf("%s less %s", variant, variants[1L]),
        out
      )
    }))
  })
}

#' The form of each model's answers apart from the judgement: option mass (experiment 2) and share
#' of usable answers (experiment 1); and the distribution within the options (experiment 2).
#'
#' @param own A study as `load_studies` gives it; `section$judged` says which columns of its cells
#'   hold the distribution: `value`, `outcome`, and `cell`.
#' @return A row a model and variant: option mass, usable answers in per cent, and from the base's
#'   distributions the mean divergence over cells (`jsd_bits`) and the share of cells with the same
#'   favourite. NA for an experiment that was not run.
form_and_judgement <- function(own, training) {
  quality <- own$tables$quality
  models <- c(training$base, training$models)
  found <- bind(lapply(models, function(model) {
    rows <- quality[quality$model_key %in% model, , drop = FALSE]
    bind(lapply(sort(unique(rows$variant)), function(variant) {
      of <- function(experiment, column) {
        rows[[column]][rows$variant == variant & rows$experiment == experiment][1L]
      }
      cbind(
        study = own$section$label, model = model, variant = variant,
        option_mass = of("exp2", "option_mass_mean"),
        option_mass_min = of("exp2", "option_mass_min"),
        usable_percent = of("exp1", "usable_percent"),
        cell_distances(
          judged_cells(own, training$base, variant), judged_cells(own, model, variant)
        )
      )
    }))
  }))
  if (nrow(found) > 0L) {
    found[found$model == training$base, c("jsd_bits", "same_favourite")] <- NA_real_
  }
  found
}

#' A model's distributions within the options, a list by cell; empty where there are none.
judged_cells <- function(own, model, variant) {
  judged <- own$section$judged
  cells <- own$tables$cells
  if (is.null(judged) || is.null(cells)) return(list())
  cells <- cells[
    cells$model_key %in% model & cells$variant %in% variant & cells$experiment %in% "exp2", ,
    drop = FALSE
  ]
  if (!is.null(cells$distribution)) cells <- cells[!is.na(cells$distribution), , drop = FALSE]
  if (nrow(cells) == 0L) return(list())
  name <- function(columns) do.call(paste, c(unname(as.list(cells[columns])), sep = "\r"))
  lapply(split(seq_len(nrow(cells)), name(judged$cell)), function(rows) {
    stats::setNames(cells[[judged$value]][rows], name(judged$outcome)[rows])
  })
}

cell_distances <- function(base, other) {
  both <- intersect(names(base), names(other))
  if (length(both) == 0L) {
    return(data.frame(n_cells = 0L, jsd_bits = NA_real_, same_favourite = NA_real_))
  }
  jsd <- mapply(function(p, q) jsd_bits(p, q[names(p)]), base[both], other[both])
  same <- mapply(function(p, q) same_favourite(p, q[names(p)]), base[both], other[both])
  data.frame(
    n_cells = length(both), jsd_bits = mean(jsd, na.rm = TRUE),
    same_favourite = mean(same, na.rm = TRUE)
  )
}
