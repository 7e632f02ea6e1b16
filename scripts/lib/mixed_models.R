# Mixed models that describe: estimates and spreads, with what must be known of each fit. Tests are
# in item_tests.R: no p value is read off a mixed model, whose likelihood ratios and Wald tests
# reject too often with 6 or 12 items. Needs lme4.

#' Fit a formula: a mixed model if it has random terms; `value` is NULL where the fit failed.
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
    lme4::lmer(formula, rows)
  } else {
    stats::lm(formula, rows)
  })
  fit$mixed <- mixed
  fit
}

#' A row that says why there is no model.
no_model <- function(note, formula = "") {
  data.frame(
    kind = "none", term = "", estimate = NA_real_, se = NA_real_, statistic = NA_real_,
    n = NA_real_, formula = formula, singular = NA, converged = NA, note = note
  )
}

#' Coefficients and standard deviations of random effects, a row each; every reason to doubt the fit
#' is in `note`. A fit that failed gives one row with its reason, and no number.
#'
#' @param n The number of answers behind the fit.
describe_mixed <- function(fit, family, n, formula) {
  if (is.null(fit$value)) return(no_model(notes(fit$said), formula))
  table <- coefficients_of(fit$value)
  spread <- if (fit$mixed) as.data.frame(lme4::VarCorr(fit$value)) else data.frame()
  # Of the rows between random effects, the correlations, none is shown.
  spread <- spread[is.na(spread$var2), , drop = FALSE]
  group <- if (nrow(spread) > 0L) {
    ifelse(is.na(spread$var1) | spread$var1 == "(Intercept)", spread$grp,
      paste(spread$grp, spread$var1))
  }
  singular <- if (fit$mixed) lme4::isSingular(fit$value) else NA
  none <- rep(NA_real_, nrow(spread))
  # The optimiser's path differs with where R's memory lies, from run to run by 1e-6 of a number.
  shown <- function(values) signif(ifelse(abs(values) < 1e-4, 0, values), 4L)
  data.frame(
    kind = c(rep("coefficient", nrow(table)), rep("random effect (sd)", nrow(spread))),
    term = c(rownames(table), group), estimate = shown(c(table[, "Estimate"], spread$sdcor)),
    se = shown(c(table[, "Std. Error"], none)),
    statistic = shown(c(table[, grep(" value", colnames(table), fixed = TRUE)[1L]], none)),
    n = n, formula = formula, singular = singular,
    converged = !any(grepl("converge|degenerate", fit$said)),
    note = notes(
      fit$said,
      if (isTRUE(singular)) {
        paste("singular fit: no variance left for", toString(zero_variances(fit$value)))
      },
      if (is_separated(fit$value, table, family)) {
        "an estimate is extreme: some cells are all or nothing (separation)"
      }
    ),
    row.names = NULL
  )
}

#' Estimates and standard errors; of a mixed model those given its variances, which always exist.
coefficients_of <- function(model) {
  if (!inherits(model, "merMod")) return(summary(model)$coefficients)
  estimate <- lme4::fixef(model)
  error <- sqrt(diag(as.matrix(stats::vcov(model, use.hessian = FALSE))))
  cbind(Estimate = estimate, "Std. Error" = error, "t or z value" = estimate / error)
}

#' Does a logistic model run away towards shares of 0 or 1?
is_separated <- function(model, table, family) {
  family == "binomial" && (
    any(abs(table[, "Estimate"]) > 10) || any(table[, "Std. Error"] > 50)
  )
}
