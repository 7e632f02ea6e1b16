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
#' is in `note`. A fit that failed gives one row with its reason, and no number; a coefficient of a
#' logistic model that separated data leave without an estimate has none.
#'
#' @param n The number of answers behind the fit.
describe_mixed <- function(fit, family, n, formula) {
  if (is.null(fit$value)) return(no_model(notes(fit$said), formula))
  table <- coefficients_of(fit$value)
  infinite <- if (family == "binomial") separated(fit$value) else rep(FALSE, nrow(table))
  table[infinite, ] <- NA_real_
  spread <- if (fit$mixed) as.data.frame(lme4::VarCorr(fit$value)) else data.frame()
  # Of the rows between random effects, the correlations, none is shown.
  spread <- spread[is.na(spread$var2), , drop = FALSE]
  group <- if (nrow(spread) > 0L) {
    ifelse(is.na(spread$var1) | spread$var1 == "(Intercept)", spread$grp,
      paste(spread$grp, spread$var1))
  }
  singular <- if (fit$mixed) lme4::isSingular(fit$value) else NA
  none <- rep(NA_real_, nrow(spread))
  # The optimiser's path differs from run to run by 1e-6 of a number, perhaps with R's memory.
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
      if (any(infinite)) separation_note(sum(infinite), nrow(table))
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

#' Which coefficients of a logistic model have no estimate, as the data are separated: some of their
#' cells are all or nothing, and the likelihood rises for ever with the coefficient.
#'
#' What separates the fixed effects separates them whatever the items' own effects are. So the model
#' without random effects shows it: its fitted chances reach 0 or 1, where the weights vanish, and
#' with them the standard errors of the coefficients that run away exceed all bounds (Albert and
#' Anderson 1984, Biometrika 71(1), section 4).
#'
#' @return TRUE or FALSE of each coefficient of `coefficients_of(model)`.
separated <- function(model) {
  x <- stats::model.matrix(model)
  x <- x[, rownames(coefficients_of(model)), drop = FALSE]
  y <- stats::model.response(stats::model.frame(model))
  fit <- suppressWarnings(stats::glm.fit(
    x, y, family = stats::binomial(), control = list(epsilon = 1e-12, maxit = 100)
  ))
  chance <- fit$fitted.values
  if (all(chance > 1e-7 & chance < 1 - 1e-7)) return(rep(FALSE, ncol(x)))
  kept <- seq_len(fit$rank)
  error <- rep(Inf, ncol(x))
  error[fit$qr$pivot[kept]] <- sqrt(diag(chol2inv(fit$qr$qr[kept, kept, drop = FALSE])))
  error > 100
}

separation_note <- function(lacking, all) {
  sprintf(
    paste(
      "separated data: some cells are all or nothing, so that %d of the %d coefficients have no",
      "estimate and none is given; shares and tests by item are not touched"
    ), lacking, all
  )
}
