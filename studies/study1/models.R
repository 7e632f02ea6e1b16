# Study 1's models: ANOVA of the bets on state 3, with random intercepts where answers repeat.
# Sourced after common.R and statistics.R.

#' ANOVA of the bets on state 3 with access and observe, per model and experiment.
#'
#' Type II: each factor is tested in the model with both; their interaction (one degree of freedom,
#' as only cells with observe <= access exist) in the model that adds it. Generated answers enter as
#' rows with random intercepts; scored bets enter as one mean a prompt, as rows of one prompt agree.
state3_anova <- function(bets) {
  by_group(bets, c(model_keys, "experiment"), function(piece) {
    data <- data.frame(
      bet = piece$b3, access = factor(piece$access), observe = factor(piece$observe),
      story = factor(piece$story_shortname), prompt = factor(piece$prompt_id),
      replication = factor(piece$replication),
      both = as.numeric(piece$access == 3 & piece$observe == 2)
    )
    generated <- piece$experiment[1L] == "exp1"
    if (!generated) {
      first <- !duplicated(data$prompt)
      bet <- tapply(data$bet, data$prompt, mean)
      data <- data[first, , drop = FALSE]
      data$bet <- as.numeric(bet[as.character(data$prompt)])
    }
    fit_state3(data, if (generated) c("story", "prompt", "replication") else "story")
  })
}

#' The three rows of one ANOVA; every reason why a test does not exist is in `note`.
fit_state3 <- function(data, random) {
  result <- data.frame(
    term = c("access", "observe", "access:observe"), df_num = NA_real_, df_den = NA_real_,
    f = NA_real_, p = NA_real_, n_rows = nrow(data), n_prompts = length(unique(data$prompt)),
    formula = "", singular = NA, note = untestable(data)
  )
  if (nzchar(result$note[1L])) return(result)
  factors <- c("access", "observe")
  single <- vapply(factors, function(name) nlevels(data[[name]]) < 2L, logical(1L))
  for (name in factors[single]) {
    result$note[result$term %in% c(name, "access:observe")] <- sprintf("only one level of %s", name)
  }
  factors <- factors[!single]
  random <- estimable(data, random)
  if (length(factors) > 0L) {
    result <- fill_tests(result, term_tests(data, factors, random, factors), factors)
  }
  if (length(factors) == 2L) {
    tested <- term_tests(data, c(factors, "both"), random, "access:observe")
    result <- fill_tests(result, tested, "access:observe")
  }
  result
}

#' Why these bets allow no F test at all, or "".
untestable <- function(data) {
  cell <- interaction(data$access, data$observe, drop = TRUE)
  if (is_constant(data$bet)) {
    sprintf("constant data: every bet is %.1f %%, so no test exists", data$bet[1L])
  } else if (nrow(data) == nlevels(cell)) {
    "one answer a cell: no variation within cells, so no F exists"
  } else if (max(abs(data$bet - stats::ave(data$bet, cell))) < 1e-9) {
    "no variation within cells: the bets depend on the cell alone, so no F exists"
  } else {
    ""
  }
}

#' The random intercepts that these rows can carry: more levels than one (for prompts, than cells)
#' and fewer than rows.
estimable <- function(data, random) {
  cells <- nlevels(interaction(data$access, data$observe, drop = TRUE))
  keep <- vapply(random, function(name) {
    levels <- length(unique(data[[name]]))
    levels > (if (name == "prompt") cells else 1L) && levels < nrow(data)
  }, logical(1L))
  random[keep]
}

fill_tests <- function(result, tested, terms) {
  at <- result$term %in% terms
  for (name in c("formula", "singular", "note")) result[[name]][at] <- tested[[name]]
  if (!is.null(tested$rows)) {
    rows <- tested$rows[match(result$term[at], tested$rows$term), ]
    for (name in c("df_num", "df_den", "f", "p")) result[[name]][at] <- rows[[name]]
  }
  result
}

#' F tests of `terms` in one model; a mixed model if a random intercept can be estimated.
term_tests <- function(data, fixed, random, terms) {
  right <- c(fixed, sprintf("(1 | %s)", random))
  if (length(random) == 0L) right <- fixed
  formula <- paste("bet ~", paste(right, collapse = " + "))
  shown <- sub(" + both", " + access:observe", formula, fixed = TRUE)
  answer <- list(formula = shown, singular = NA, note = "", rows = NULL)
  design <- stats::model.matrix(stats::reformulate(fixed), data)
  if (qr(design)$rank < ncol(design)) {
    answer$note <- "the cells present do not separate the factors"
    return(answer)
  }
  if (nrow(data) <= ncol(design)) {
    answer$note <- "no residual degrees of freedom"
    return(answer)
  }
  wanted <- if (identical(terms, "access:observe")) "both" else terms
  if (length(random) > 0L) {
    fit <- try_fit(lmerTest::lmer(stats::as.formula(formula), data))
    table <- try_fit(as.data.frame(stats::anova(fit$value, type = "II")))
    if (!is.null(fit$value) && !is.null(table$value)) {
      answer$singular <- lme4::isSingular(fit$value)
      answer$note <- notes(
        fit$said, table$said,
        if (answer$singular) {
          paste("singular fit: no variance left for", toString(zero_variances(fit$value)))
        }
      )
      rows <- table$value[wanted, ]
      answer$rows <- data.frame(
        term = terms, df_num = rows$NumDF, df_den = rows$DenDF, f = rows[["F value"]],
        p = rows[["Pr(>F)"]]
      )
      return(answer)
    }
    answer$note <- notes(fit$said, table$said, "fixed effects only")
    answer$formula <- sub(" \\+ \\(1 .*", "", shown)
  }
  fit <- stats::lm(stats::reformulate(fixed, "bet"), data)
  table <- try_fit(stats::drop1(fit, test = "F"))
  answer$note <- notes(answer$note, table$said)
  if (!is.null(table$value)) {
    answer$rows <- data.frame(
      term = terms, df_num = table$value[wanted, "Df"], df_den = fit$df.residual,
      f = table$value[wanted, "F value"], p = table$value[wanted, "Pr(>F)"]
    )
  }
  answer
}
