# Intervals of study 2's fitted speaker, in Python as the fit is: theory_coverage.py. A fit takes a
# fifth of a second or more, so that no runs are added.

fitted_speaker <- function(runs) {
  lines <- system2("python", c("tests/statistics/theory_coverage.py", runs), stdout = TRUE)
  if (!is.null(attr(lines, "status"))) stop("theory_coverage.py failed", call. = FALSE)
  rows <- utils::read.csv(text = lines)
  bind(lapply(seq_len(nrow(rows)), function(i) {
    one <- rows[i, ]
    checked(
      sprintf("Parameters of a speaker fitted to %s answers, 12 items", one$kind),
      sprintf("%s, utterances %g logits apart", one$parameter, one$spread), NA_real_, "coverage",
      rep(c(TRUE, FALSE), c(one$covered, one$runs - one$covered))
    )
  }))
}

simulations <- if (quick) list() else list("fitted speaker" = fitted_speaker)
