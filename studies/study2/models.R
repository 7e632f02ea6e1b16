# Study 2's models: negation in the generated answers, per model and with the model as a factor.
# Sourced after common.R and statistics.R.

#' Logistic mixed model of negation in the generated answers, per model, and one with the model as a
#' factor. Rows with the same predictors are aggregated: the likelihood is the same.
negation_models <- function(choices) {
  generated <- choices[choices$experiment == "exp1", , drop = FALSE]
  if (nrow(generated) == 0L) {
    groups <- unique(choices[model_keys])
    if (nrow(choices) == 0L) return(data.frame())
    return(cbind(groups, glmer_note("experiment 1 was not run or has no usable answer")))
  }
  each <- by_group(generated, model_keys, fit_negation)
  models <- unique(generated$label)
  if (length(models) < 2L) return(each)
  pooled <- cbind(
    data.frame(label = "all models", model_key = NA, model_name = NA, variant = NA),
    fit_pooled(generated)
  )
  bind(list(each, pooled))
}

glmer_note <- function(note, formula = "") {
  data.frame(
    kind = "none", term = "", estimate = NA_real_, se = NA_real_, statistic = NA_real_,
    df = NA_real_, p = NA_real_, n = NA_real_, formula = formula, singular = NA, converged = NA,
    note = note
  )
}

#' Counts of negated and plain answers by the predictors.
negation_counts <- function(rows, columns) {
  rows$negation <- rowSums(choice_matrix(rows)[, negated, drop = FALSE])
  counts <- stats::aggregate(
    cbind(yes = rows$negation, no = 1 - rows$negation), by = rows[columns], FUN = sum
  )
  counts$goal <- factor(counts$goal, goals)
  counts$state_centred <- counts$state - 1.5
  counts
}

#' The second grouping factor: replications where there are several, else participants.
second_group <- function(rows) {
  if (length(unique(rows$replication)) > 1L) "replication" else "participant"
}

#' Fixed terms and random intercepts that the data can carry, with notes on those they cannot.
negation_terms <- function(counts, groups) {
  several_goals <- length(unique(counts$goal)) > 1L
  several_states <- length(unique(counts$state)) > 1L
  fixed <- c(
    if (several_states) "state_centred", if (several_goals) "goal",
    if (several_goals && several_states) "state_centred:goal"
  )
  counts$goal <- droplevels(counts$goal)
  if (length(fixed) > 0L) {
    design <- stats::model.matrix(stats::reformulate(fixed), counts)
    if (qr(design)$rank < ncol(design)) fixed <- setdiff(fixed, "state_centred:goal")
  }
  random <- groups[vapply(groups, function(name) {
    levels <- length(unique(counts[[name]]))
    levels > 1L && levels < sum(counts$yes + counts$no)
  }, logical(1L))]
  list(fixed = fixed, random = random)
}

fit_negation <- function(rows) {
  groups <- c("item", second_group(rows))
  counts <- negation_counts(rows, c("goal", "state", groups))
  total <- sum(counts$yes + counts$no)
  rate <- sum(counts$yes) / total
  if (rate == 0 || rate == 1) {
    return(glmer_note(sprintf(
      "constant data: %s of the %d answers is negated, so no model exists",
      if (rate == 0) "none" else "every one", total
    )))
  }
  terms <- negation_terms(counts, groups)
  if (length(terms$fixed) == 0L) return(glmer_note("one goal and one state: nothing to compare"))
  if (length(terms$random) == 0L) return(glmer_note("too few items for a mixed model"))
  counts$goal <- droplevels(counts$goal)
  full <- fit_glmer(counts, terms$fixed, terms$random)
  if (is.null(full$value)) return(glmer_note(notes(full$said), full$formula))
  bind(list(
    describe_glmer(full, total),
    likelihood_ratios(counts, terms, full, total)
  ))
}

fit_glmer <- function(counts, fixed, random, fast = FALSE) {
  right <- c(if (length(fixed) > 0L) fixed else "1", sprintf("(1 | %s)", random))
  formula <- paste("cbind(yes, no) ~", paste(right, collapse = " + "))
  fit <- try_fit(lme4::glmer(
    stats::as.formula(formula), counts, family = stats::binomial(), nAGQ = if (fast) 0L else 1L,
    control = lme4::glmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 2e5))
  ))
  fit$formula <- gsub("state_centred", "state", sub("cbind(yes, no)", "negation", formula,
    fixed = TRUE))
  fit
}

describe_glmer <- function(fit, total) {
  summary <- summary(fit$value)$coefficients
  spread <- vapply(lme4::VarCorr(fit$value), function(v) sqrt(v[1L]), numeric(1L))
  singular <- lme4::isSingular(fit$value)
  converged <- !any(grepl("converge|degenerate", fit$said))
  huge <- any(abs(summary[, "Estimate"]) > 15)
  note <- notes(
    fit$said,
    if (singular) {
      paste("singular fit: no variance left for", toString(zero_variances(fit$value)))
    },
    if (huge) "an estimate is extreme: some cells are all or nothing (separation)"
  )
  data.frame(
    kind = c(rep("coefficient", nrow(summary)), rep("random intercept", length(spread))),
    term = gsub("state_centred", "state", c(rownames(summary), names(spread))),
    estimate = c(summary[, "Estimate"], spread),
    se = c(summary[, "Std. Error"], rep(NA_real_, length(spread))),
    statistic = c(summary[, "z value"], rep(NA_real_, length(spread))),
    df = NA_real_,
    p = c(summary[, "Pr(>|z|)"], rep(NA_real_, length(spread))),
    n = total, formula = fit$formula, singular = singular, converged = converged, note = note,
    row.names = NULL
  )
}

#' Likelihood ratio test of each term against the model without it, keeping marginality (Type II).
likelihood_ratios <- function(counts, terms, full, total) {
  main <- setdiff(terms$fixed, "state_centred:goal")
  with_interaction <- "state_centred:goal" %in% terms$fixed
  additive <- if (with_interaction) fit_glmer(counts, main, terms$random) else full
  tests <- lapply(main, function(term) {
    compare(additive, fit_glmer(counts, setdiff(main, term), terms$random), term, total)
  })
  if (with_interaction) {
    tests <- c(tests, list(compare(full, additive, "state_centred:goal", total)))
  }
  bind(tests)
}

compare <- function(larger, smaller, term, total) {
  out <- data.frame(
    kind = "likelihood ratio", term = gsub("state_centred", "state", term), estimate = NA_real_,
    se = NA_real_, statistic = NA_real_, df = NA_real_, p = NA_real_, n = total,
    formula = larger$formula, singular = NA, converged = NA, note = ""
  )
  if (is.null(larger$value) || is.null(smaller$value)) {
    out$note <- notes("a model of the comparison failed", larger$said, smaller$said)
    return(out)
  }
  first <- stats::logLik(larger$value)
  second <- stats::logLik(smaller$value)
  out$df <- attr(first, "df") - attr(second, "df")
  out$statistic <- max(0, 2 * (as.numeric(first) - as.numeric(second)))
  out$p <- stats::pchisq(out$statistic, out$df, lower.tail = FALSE)
  out$singular <- lme4::isSingular(larger$value) || lme4::isSingular(smaller$value)
  out$converged <- !any(grepl("converge|degenerate", c(larger$said, smaller$said)))
  out$note <- notes(unique(c(larger$said, smaller$said)))
  out
}

#' Does negation, and how it depends on state and goal, differ between models?
fit_pooled <- function(rows) {
  second <- second_group(rows)
  counts <- negation_counts(rows, c("label", "goal", "state", "item", second))
  total <- sum(counts$yes + counts$no)
  terms <- negation_terms(counts, c("item", second))
  if (length(terms$random) == 0L) return(glmer_note("too few items for a mixed model"))
  if (min(sum(counts$yes), sum(counts$no)) == 0) {
    return(glmer_note("constant data: no model exists"))
  }
  counts$goal <- droplevels(counts$goal)
  none <- fit_glmer(counts, terms$fixed, terms$random, fast = TRUE)
  model <- fit_glmer(counts, c(terms$fixed, "label"), terms$random, fast = TRUE)
  tests <- list(compare(model, none, "model", total))
  if (length(terms$fixed) > 0L) {
    crossed <- c(terms$fixed, "label", paste0(terms$fixed, ":label"))
    full <- fit_glmer(counts, crossed, terms$random, fast = TRUE)
    tests <- c(tests, list(compare(full, model, "model x (state, goal)", total)))
  }
  tests <- bind(tests)
  tests$formula <- gsub("label", "model", tests$formula)
  tests$note <- vapply(tests$note, function(note) {
    notes(note, "fitted with nAGQ = 0, a faster approximation")
  }, character(1L))
  tests
}
