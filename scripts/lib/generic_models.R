# The generic analysis's planned contrasts and declared mixed models. Sourced after common.R,
# statistics.R and generic_measures.R; needs lme4, and lmerTest for the tests of gaussian models.

#' The measure that a contrast or model names: a response, or the probability of an option.
measure_of <- function(stacked, name) {
  rows <- stacked[stacked$response == name, , drop = FALSE]
  if (any(is.na(rows$distribution))) rows <- rows[is.na(rows$distribution), , drop = FALSE]
  rows
}

#' Rows of a cell, or of several: `where` gives values by factor.
in_cell <- function(rows, where) {
  keep <- rep(TRUE, nrow(rows))
  for (name in names(where)) keep <- keep & rows[[name]] == plain_text(where[[name]])
  rows[keep & !is.na(keep), , drop = FALSE]
}

where_text <- function(where) {
  toString(sprintf("%s = %s", names(where), vapply(where, as.character, character(1L))))
}

#' The planned differences of each model and experiment, and those of people and of theory.
generic_contrasts <- function(stacked, cells, found, declaration, margin) {
  planned <- declaration$contrasts
  if (length(planned) == 0L) return(data.frame())
  ranges <- lapply(found, function(one) one$range)
  names(ranges) <- vapply(found, function(one) one$response, character(1L))
  item <- item_column(declaration)
  models <- by_group(stacked, c(model_keys, "experiment"), function(piece) {
    margins <- vapply(planned, function(plan) {
      range <- ranges[[plan$response]]
      if (length(range) == 2L) margin * diff(range) / 100 else NA_real_
    }, numeric(1L))
    rows <- bind(Map(function(plan, scaled) {
      contrast_row(measure_of(piece, plan$response), plan, item, scaled)
    }, planned, margins))
    rows$p_bh <- stats::p.adjust(rows$p, "BH")
    rows$pattern <- contrast_pattern(rows, margins)
    rows
  })
  theirs <- cells[cells$experiment == "reference", , drop = FALSE]
  people <- by_group(theirs, model_keys, function(piece) {
    bind(lapply(planned, function(plan) {
      rows <- measure_of(piece, plan$response)
      sides <- vapply(list(plan$higher, plan$lower), function(where) {
        cell <- in_cell(rows, where)
        weight <- if (all(is.na(cell$total))) rep(1, nrow(cell)) else cell$total
        if (nrow(cell) == 0L) NA_real_ else stats::weighted.mean(cell$value, weight)
      }, numeric(1L))
      if (anyNA(sides)) return(NULL)
      cbind(plan_columns(plan, ""), experiment = "reference", difference = sides[1L] - sides[2L])
    }))
  })
  bind(list(models, people))
}

plan_columns <- function(plan, unit) {
  test <- plan$people
  number <- function(value) if (is.null(value)) NA_real_ else as.numeric(value)
  t <- number(test$t)
  df <- number(test$df)
  data.frame(
    contrast = plan$name, response = plan$response, higher = where_text(plan$higher),
    lower = where_text(plan$lower), unit = unit, people_t = t, people_df = df,
    people_p_two_sided = if (is.na(df)) NA_real_ else 2 * stats::pt(-abs(t), df)
  )
}

#' One contrast: paired over the items that both cells hold, else between the items of the two.
contrast_row <- function(rows, plan, item, margin) {
  means <- lapply(list(plan$higher, plan$lower), function(where) {
    cell <- in_cell(rows, where)
    if (nrow(cell) == 0L) numeric(0) else tapply(cell$value, as.character(cell$item), mean)
  })
  both <- intersect(names(means[[1L]]), names(means[[2L]]))
  if (length(both) > 1L || all(lengths(means) < 2L)) {
    difference <- as.numeric(means[[1L]][both] - means[[2L]][both])
    tested <- test_differences(difference, both, margin, item)
    if (length(both) == 0L && all(lengths(means) > 0L)) {
      tested$difference <- mean(means[[1L]]) - mean(means[[2L]])
      tested$note <- sprintf("one %s a cell: no test", item)
    }
    unit <- sprintf("pairs of %s", item)
  } else {
    tested <- test_between(means[[1L]], means[[2L]], margin)
    unit <- item
  }
  tested <- tested[setdiff(names(tested), c("n_items", "n_answers"))]
  sides <- rbind(in_cell(rows, plan$higher), in_cell(rows, plan$lower))
  tested$note <- notes(tested$note, copies_note(sides))
  paired <- grepl("^pairs", unit) && length(both) > 0L
  counts <- if (paired) rep(length(both), 2L) else lengths(means)
  cbind(plan_columns(plan, unit), n_higher = counts[1L], n_lower = counts[2L], tested)
}

#' Welch's test of the difference of two groups of means, with an equivalence test.
test_between <- function(high, low, margin) {
  out <- test_differences(numeric(0), character(0), margin)
  out$note <- ""
  if (length(high) == 0L || length(low) == 0L) {
    out$note <- "a cell has no usable answer"
    return(out)
  }
  out$difference <- mean(high) - mean(low)
  if (min(length(high), length(low)) < 2L) {
    out$note <- "a cell has one item only: no test"
  } else if (is_constant(high) && is_constant(low)) {
    out$sd <- 0
    out$note <- "constant: every item of a cell is the same, so no t test exists"
  } else {
    welch <- stats::t.test(high, low)
    error <- welch$stderr
    out[c("t", "df", "p")] <- c(welch$statistic, welch$parameter, welch$p.value)
    out[c("ci_low", "ci_high")] <- as.list(welch$conf.int)
    out$sd <- sqrt((stats::var(high) + stats::var(low)) / 2)
    out$p_equivalence <- equivalence_p(out$difference, error, out$df, margin)
  }
  out
}

#' "higher" as planned, "lower", "no difference" (equivalent to none) or "undecided"; NA without a
#' test. As `contrast_outcome` has it.
contrast_pattern <- function(rows, margins) {
  named <- c(
    holds = "higher", reversed = "lower", equivalent = "no difference", undecided = "undecided"
  )
  unname(named[contrast_outcome(rows$difference, rows$p_bh, rows$p_equivalence, rows$sd, margins)])
}

# Mixed models ------------------------------------------------------------------------------------

#' What a formula may consist of beside the names of columns.
formula_signs <- c("~", "+", "-", "*", ":", "|", "||", "(", "^", "/")

#' A formula that holds nothing but names of columns and signs; R would run any call in it.
checked_formula <- function(text, columns) {
  bare <- new.env(parent = asNamespace("stats"))
  formula <- tryCatch(stats::as.formula(text, env = bare), error = function(condition) {
    stop(sprintf("models: formula '%s' is no formula of R", text), call. = FALSE)
  })
  stray <- setdiff(all.names(formula), c(formula_signs, columns))
  if (length(stray) > 0L) {
    stop(sprintf(
      "models: formula '%s' names %s; it may name %s", text, toString(stray), toString(columns)
    ), call. = FALSE)
  }
  formula
}

#' Every declared model for each language model and experiment: coefficients, random effects, and
#' likelihood ratio tests of the terms in `compare`; a note where one cannot be fitted.
generic_models <- function(stacked, declaration) {
  planned <- declaration$models
  if (length(planned) == 0L) return(data.frame())
  by_group(stacked, c(model_keys, "experiment"), function(piece) {
    bind(lapply(planned, function(plan) {
      family <- plan$family %or% "gaussian"
      rows <- model_data(measure_of(piece, plan$response), declaration)
      cbind(
        data.frame(model = plan$name, response = plan$response, family = family),
        fit_declared(rows, plan, family, declaration, piece$experiment[1L])
      )
    }))
  })
}

#' The data of a model: scored numbers of one prompt agree over replications, and enter once.
model_data <- function(rows, declaration) {
  if (nrow(rows) == 0L) return(rows)
  item <- item_column(declaration)
  if (rows$experiment[1L] == "exp2") {
    value <- tapply(rows$value, rows$prompt_id, mean)
    rows <- rows[!duplicated(rows$prompt_id), , drop = FALSE]
    rows$value <- as.numeric(value[as.character(rows$prompt_id)])
  }
  levels <- declared_levels(declaration)
  for (name in names(levels)) {
    known <- levels[[name]] %or% sort(unique(rows[[name]]))
    rows[[name]] <- droplevels(factor(rows[[name]], union(known, unique(rows[[name]]))))
  }
  rows[[item]] <- rows$item
  rows$response <- rows$value
  rows
}

no_fit <- function(note, formula) {
  data.frame(
    kind = "none", term = "", estimate = NA_real_, se = NA_real_, statistic = NA_real_,
    df = NA_real_, p = NA_real_, n = NA_real_, formula = formula, singular = NA, converged = NA,
    note = note
  )
}

fit_declared <- function(rows, plan, family, declaration, experiment) {
  text <- plan$formula
  factors <- unlist(declaration$factors)
  item <- item_column(declaration)
  formula <- checked_formula(text, c("response", factors, item, "replication", "prompt_id"))
  why <- unfit(rows, family, experiment, formula, intersect(all.vars(formula), factors))
  if (nzchar(why)) return(no_fit(why, text))
  full <- fit_mixed(formula, rows, family)
  if (is.null(full$value)) return(no_fit(notes(full$said), text))
  tests <- lapply(unlist(plan$compare), function(term) {
    checked_formula(paste("~", term), factors)
    smaller <- stats::update(formula, paste(". ~ . -", term))
    compare_mixed(full, fit_mixed(smaller, rows, family), term)
  })
  out <- bind(c(list(describe_mixed(full, family)), tests))
  out$n <- nrow(rows)
  out$formula <- text
  out
}

#' Why a model cannot be fitted to these rows, or "".
unfit <- function(rows, family, experiment, formula, factors) {
  if (nrow(rows) == 0L) return("no usable answer")
  if (family == "binomial") {
    if (experiment == "exp2") {
      return("scored probabilities are no counts: a binomial model is for experiment 1")
    }
    if (!all(rows$value %in% c(0, 1))) {
      return("the response is not 0 or 1, so no binomial model exists")
    }
  }
  if (is_constant(rows$value)) {
    return(sprintf("constant data: every response is %s, so no model exists", rows$value[1L]))
  }
  same <- function(names) {
    names[vapply(names, function(name) length(unique(rows[[name]])) < 2L, logical(1L))]
  }
  groups <- setdiff(all.vars(formula), c("response", factors))
  notes(
    sprintf("only one level of %s", same(factors)),
    sprintf("only one %s: no random effect exists", same(groups))
  )
}

fit_mixed <- function(formula, rows, family) {
  mixed <- any(c("|", "||") %in% all.names(formula))
  fit <- try_fit(if (family == "binomial" && mixed) {
    lme4::glmer(
      formula, rows, family = stats::binomial(),
      control = lme4::glmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 2e5))
    )
  } else if (family == "binomial") {
    stats::glm(formula, stats::binomial(), rows)
  } else if (mixed) {
    lmerTest::lmer(formula, rows)
  } else {
    stats::lm(formula, rows)
  })
  fit$mixed <- mixed
  fit
}

describe_mixed <- function(fit, family) {
  table <- summary(fit$value)$coefficients
  column <- function(name) {
    at <- grep(name, colnames(table), fixed = TRUE)
    if (length(at) == 0L) rep(NA_real_, nrow(table)) else table[, at[1L]]
  }
  spread <- if (fit$mixed) as.data.frame(lme4::VarCorr(fit$value)) else data.frame()
  spread <- spread[is.na(spread$var2), , drop = FALSE]
  singular <- if (fit$mixed) lme4::isSingular(fit$value) else NA
  huge <- family == "binomial" && any(abs(table[, "Estimate"]) > 15)
  group <- if (nrow(spread) > 0L) {
    ifelse(is.na(spread$var1), spread$grp, paste(spread$grp, spread$var1))
  }
  data.frame(
    kind = c(rep("coefficient", nrow(table)), rep("random effect (sd)", nrow(spread))),
    term = c(rownames(table), group), estimate = c(table[, "Estimate"], spread$sdcor),
    se = c(table[, "Std. Error"], rep(NA_real_, nrow(spread))),
    statistic = c(column(" value"), rep(NA_real_, nrow(spread))),
    df = c(column("df"), rep(NA_real_, nrow(spread))),
    p = c(column("Pr(>"), rep(NA_real_, nrow(spread))),
    singular = singular, converged = !any(grepl("converge|degenerate", fit$said)),
    note = notes(
      fit$said,
      if (isTRUE(singular)) {
        paste("singular fit: no variance left for", toString(zero_variances(fit$value)))
      },
      if (huge) "an estimate is extreme: some cells are all or nothing (separation)"
    ),
    row.names = NULL
  )
}

#' Likelihood ratio test of a model against the one without a term; by maximum likelihood.
compare_mixed <- function(larger, smaller, term) {
  out <- no_fit("", "")
  out[c("kind", "term")] <- c("likelihood ratio", term)
  if (is.null(smaller$value)) {
    out$note <- notes("the model without the term failed", smaller$said)
    return(out)
  }
  by_likelihood <- function(fit) {
    value <- fit$value
    if (inherits(value, "lmerMod") || inherits(value, "lmerModLmerTest")) {
      value <- try_fit(lme4::refitML(value))$value
    }
    stats::logLik(value)
  }
  first <- by_likelihood(larger)
  second <- by_likelihood(smaller)
  out$df <- attr(first, "df") - attr(second, "df")
  if (out$df < 1) {
    out$note <- "the model without the term is the same model"
    return(out)
  }
  out$statistic <- max(0, 2 * (as.numeric(first) - as.numeric(second)))
  out$p <- stats::pchisq(out$statistic, out$df, lower.tail = FALSE)
  out$converged <- !any(grepl("converge|degenerate", c(larger$said, smaller$said)))
  out$note <- notes(unique(c(larger$said, smaller$said)))
  out
}
