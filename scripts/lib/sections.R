# A report out of sections, one a study: what each study's files define, and what of it stands in
# the parts that studies share. Source after common.R, html.R and report.R; needs knitr.

#' What a study may say, by the name of its place: Markdown, "" where it says nothing.
section_texts <- c("glossary", "distances", "intervals", "methods", "people", "limits")

#' The studies of a report, in the order given, each an environment in which its files run. They
#' find there `study` (name, declaration), `tables` by name, `figures` (paths) and `settings`, and
#' define `section` (a list), `findings(tables)` and `figure_results(tables)`: by figure, what it
#' shows, in words.
#'
#' @param given For each study `name`, `sources` and `section`: paths as seen from `folder`.
#' @param input Files by `tables_<study>` and `figures_<study>`.
#' @param code Files that the report's digest is of, as seen from `folder`.
load_studies <- function(given, folder, input, settings, code) {
  files <- c(
    "lib/generic_section.R", unlist(lapply(given, function(one) c(one$sources, one$section)))
  )
  stray <- setdiff(files, code)
  if (length(stray) > 0L) {
    stop(sprintf("%s: in the report, but not in its `code`", toString(stray)), call. = FALSE)
  }
  lapply(given, function(one) {
    own <- new.env(parent = globalenv())
    own$study <- list(name = one$name, declaration = read_declaration(
      settings[["studies"]][[one$name]]
    ))
    own$tables <- named_tables(input[[paste0("tables_", one$name)]], one$name)
    own$figures <- as.character(unlist(input[[paste0("figures_", one$name)]]))
    own$settings <- settings
    own$document <- file.path(folder, one$section)
    # The generic section first, which a study's own replaces in part.
    source(file.path(folder, "lib", "generic_section.R"), local = own)
    generic <- own$section
    for (file in one$sources) source(file.path(folder, file), local = own)
    for (name in c("label", "heading", "about")) {
      own$section[[name]] <- own$section[[name]] %or% generic[[name]]
    }
    shown <- lapply(own$tables, language_models, settings)
    report_notes$results <- c(report_notes$results, own$figure_results(shown))
    report_notes$results[[paste0(one$name, "_precision")]] <-
      said_of_precision(own$tables$precision)
    own
  })
}

#' A figure's caption: the declaration's, unless that names a file for Snakemake's own report.
figure_caption <- function(study, key, default) {
  declared <- study$declaration$figures[[key]]$caption
  if (is.null(declared) || grepl("\\.rst$", declared)) default else declared
}

#' Result tables by name, without the study's: `<study>_cells.csv` is `cells`.
named_tables <- function(paths, study) {
  paths <- as.character(unlist(paths))
  names <- substring(sub("\\.csv$", "", basename(paths)), nchar(study) + 2L)
  stats::setNames(lapply(seq_along(paths), function(i) {
    read_result(paths[i], sub("\\.csv$", "", basename(paths[i])))
  }), names)
}

#' Which studies any model was asked in.
was_run <- function(studies) {
  vapply(studies, function(own) isTRUE(nrow(own$tables$quality) > 0L), logical(1L))
}

#' A table of all studies, by name, with the study's label before it; without rows if none has any.
over_studies <- function(studies, name) {
  bind(lapply(studies, function(own) {
    table <- own$tables[[name]]
    # One study may have times where another has none.
    times <- vapply(table, inherits, logical(1L), what = "POSIXct")
    table[times] <- lapply(table[times], format, "%Y-%m-%d %H:%M:%S")
    if (isTRUE(nrow(table) > 0L)) cbind(study = own$section$label, table)
  }))
}

#' What the studies say at a place, one text or several each, in their order, as Markdown.
#'
#' @param before What each text begins with: "\n" for points of a list.
study_texts <- function(studies, place, before = " ") {
  stopifnot(place %in% section_texts)
  texts <- unlist(lapply(studies, function(own) own$section[[place]]))
  paste(c(rep(before, length(texts)), texts)[order(rep(seq_along(texts), 2L))], collapse = "")
}

#' What the studies say of their people, as a point of a list; nothing where none does.
people_text <- function(studies) {
  said <- study_texts(studies, "people")
  if (nzchar(said)) paste0("\n- **People.**", said) else ""
}

study_labels <- function(studies) vapply(studies, function(own) own$section$label, character(1L))

#' "a, b and c".
listed <- function(texts) {
  if (length(texts) < 2L) return(paste(texts))
  paste(toString(utils::head(texts, -1L)), utils::tail(texts, 1L), sep = " and ")
}

#' What a table says of each model and experiment, in one text: for those who cannot see a figure.
#'
#' @param say What the rows of one say; "" for nothing.
#' @param most Models and experiments that are named.
said_of_each <- function(table, say, most = 6L) {
  if (!isTRUE(nrow(table) > 0L)) return(NULL)
  groups <- unique(table[is_model(table), c("label", "experiment"), drop = FALSE])
  said <- vapply(seq_len(min(nrow(groups), most)), function(i) {
    mine <- table$label == groups$label[i] & table$experiment == groups$experiment[i]
    text <- sub("^; ", "", say(table[mine, , drop = FALSE]))
    if (!nzchar(text)) return("")
    sprintf("%s, experiment %s: %s", groups$label[i], sub("exp", "", groups$experiment[i]), text)
  }, character(1L))
  more <- nrow(groups) - length(said)
  said <- c(said[nzchar(said)], if (more > 0L) sprintf("and %d more, in the tables", more))
  if (length(said) > 0L) paste0(paste(said, collapse = "; "), ".")
}

#' The same of the measures of agreement between the experiments.
said_of_agreement <- function(agreement) {
  if (!isTRUE(nrow(agreement) > 0L)) return(NULL)
  rows <- utils::head(agreement[!is.na(agreement$value), , drop = FALSE], 6L)
  if (nrow(rows) == 0L) return(NULL)
  paste0(paste(sprintf(
    "%s, %s: %s", rows$label, rows$measure, show_number(rows$value, 3)
  ), collapse = "; "), ".")
}

#' What the report is about, for its first sentence: studies with people or models of people in
#' `reference` are compared, others described.
#'
#' @param qualities Of all studies. A model in several wordings is one model.
about_sentence <- function(qualities, studies) {
  used <- qualities[which(qualities$usable > 0), , drop = FALSE]
  models <- mark_keys(unique(used$model_key))
  wordings <- sort(unique(used$variant))
  who <- paste0(
    if (length(models) == 1L) {
      paste("the language model", models)
    } else {
      sprintf("%d language models (%s)", length(models), toString(models))
    },
    if (length(wordings) > 1L) {
      sprintf(" in %d wordings (%s)", length(wordings), toString(wordings))
    }
  )
  compared <- vapply(studies, function(own) !identical(own$section$compared, FALSE), logical(1L))
  about <- function(which) {
    listed(vapply(studies[which], function(own) own$section$about, character(1L)))
  }
  if (!any(compared)) return(sprintf("This report describes %s in %s.", who, about(!compared)))
  paste0(
    sprintf("This report compares %s with people and with models of people in %s.", who,
      about(compared)),
    if (any(!compared)) sprintf(" It describes them in %s.", about(!compared))
  )
}

#' The page's title: "Grace: two pragmatics studies on language models", the kind only if all the
#' studies share one. HTML.
page_title <- function(studies) {
  if (length(studies) == 0L) return("Grace: studies on language models")
  kinds <- unique(unlist(lapply(studies, function(own) own$section$kind %or% "")))
  words <- c("a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
  count <- length(studies)
  noun <- if (count == 1L) "study" else "studies"
  said <- c(
    if (count <= length(words)) words[count] else count,
    if (length(kinds) == 1L && nzchar(kinds)) kinds, noun, "on language models"
  )
  paste("Grace:", literal(paste(said, collapse = " ")))
}

#' A study's section as Markdown, knitted where its tables are.
knit_section <- function(own) {
  # Two studies may name chunks alike, and the generic section is knitted for several.
  before <- options(knitr.duplicate.label = "allow")
  on.exit(options(before))
  knitr::knit_child(own$document, envir = own, quiet = TRUE)
}

#' Analyses of variance by item, as a table.
show_item_tests <- function(tests, caption) {
  show_table(if (isTRUE(nrow(tests) > 0L)) data.frame(
    Model = tests$label, Experiment = show_experiment(tests$experiment), Effect = tests$term,
    df = ifelse(is.na(tests$df_num), "\u2013", sprintf(
      "%s, %s", show_number(tests$df_num, 1), show_number(tests$df_den, 1)
    )),
    F = show_number(tests$f), p = show_p(tests$p), "Partial eta\u00b2" = show_number(tests$eta_sq),
    Items = show_number(tests$n_items, 0), "Distinct answers" = show_number(tests$n_answers, 0),
    Analysis = show_text(tests$formula), Note = show_text(tests$note), check.names = FALSE
  ), caption)
}

#' How F tests by item are made, for the methods.
item_tests_method <- paste(
  "The answers of an item in a cell are averaged, copies once, and each effect is tested against",
  "its own spread over items, as a mixed model with an item slope for every effect does (Type II;",
  "the interactions are in the error's model). Degrees of freedom are multiplied by Box's epsilon,",
  "in Lecoutre's correction of Huynh and Feldt. In simulations of known truth these tests reject a",
  "true null in about 5% of runs with 6 or 12 items. An effect that no item varies in has no test."
)

# Wordings -----------------------------------------------------------------------------------------

#' A table of estimates over wordings; nothing where models were asked in one.
show_wordings <- function(found, digits = 1) {
  if (!isTRUE(nrow(found) > 0L)) return(invisible(NULL))
  show_table(data.frame(
    Model = found$label, Experiment = show_experiment(found$experiment),
    Measure = show_text(found$measure), Wordings = found$wordings, Items = found$n_items,
    Mean = show_interval(found$estimate, found$ci_low, found$ci_high, digits),
    "Lowest, highest wording" = ifelse(is.na(found$lowest), "\u2013", sprintf(
      "%s, %s", show_number(found$lowest, digits), show_number(found$highest, digits)
    )),
    "SD of wordings" = show_number(found$sd_wording, digits), Note = show_text(found$note),
    check.names = FALSE
  ), paste(
    "Over wordings: the mean over items and wordings, with its interval for other items in other",
    "words (both are random; of three wordings or more). SD of wordings: by how much the wording",
    "alone moves the number."
  ))
}

# Ways of scoring ---------------------------------------------------------------------------------

#' A study's part on the ways of scoring: the figure, what depends on them, and how far they agree.
#' Nothing where experiment 2 was not run.
#'
#' @param study Its name, as its figure has it.
show_scoring <- function(tables, figures, study) {
  found <- tables$scoring_methods
  if (!isTRUE(nrow(found) > 0L)) return(invisible(NULL))
  cat("\n\n## Which conclusions depend on the way of scoring\n\n")
  cat(scoring_text, "\n\n")
  said <- scoring_findings(found)
  if (length(said) == 0L) {
    said <- "No planned test can be made under any way of scoring; the last table's notes say why."
  } else {
    said <- paste(sprintf("%s: %s", as_markdown(names(said)), said), collapse = " ")
  }
  cat(said, "\n\n")
  sampled <- if ("exp1" %in% found$method) c("exp1", "exp2")
  if (any(!is.na(found$outcome))) cat(show_figures(
    figures, stats::setNames(
      list("Outcome of every planned test under each way of scoring."),
      paste0(study, "_scoring_methods")
    ), list(label = found$label, experiment = sampled)
  ))
  pairs <- tables$scoring_agreement
  cat(show_table(if (isTRUE(nrow(pairs) > 0L)) data.frame(
    Model = pairs$label, Scoring = show_scoring_name(pairs$method),
    "Compared with" = show_scoring_name(pairs$compared_with),
    Tests = show_number(pairs$n_conclusions, 0),
    "Same outcome" = show_number(pairs$n_same, 0),
    "Decided by both" = show_number(pairs$n_decided, 0),
    "of these the same" = show_number(pairs$n_decided_same, 0),
    "by chance" = show_number(pairs$by_chance, 1), "JSD (bits)" = show_number(pairs$jsd_bits, 3),
    "Same favourite (share)" = show_number(pairs$same_favourite), Note = show_text(pairs$note),
    check.names = FALSE
  ), paste(
    "How far ways of scoring agree with each other and with people: in the outcomes of planned",
    "tests, and in the mean distributions of cells (JSD, favourite)."
  )))
  cat(show_table(data.frame(
    Model = found$label, Conclusion = found$conclusion, Scoring = show_scoring_name(found$method),
    Items = show_number(found$n_items, 0),
    Value = show_interval(found$value, found$ci_low, found$ci_high, 3), p = show_p(found$p),
    Outcome = show_text(found$outcome), People = show_text(found$people),
    Note = show_text(found$note)
  ), "Every conclusion under each way of scoring; p after BH where the test is one of a family.",
    fold = TRUE))
}

show_scoring_name <- function(methods) {
  ifelse(methods %in% names(scoring_names), scoring_names[methods], methods)
}

scoring_text <- paste(
  "Experiment 2's log-probabilities can be read in several ways, and these need not agree",
  "(Tsvilodub et al., 2024). Whole string: the probability of all tokens of an option, normalised",
  "over the options, as everywhere else in this report. Whole string and its end: with the end of",
  "the answer after it. Mean per token: the geometric mean of its tokens' probabilities. First",
  "token: that of the first token in which options differ; options that share it share its",
  "probability evenly. PMI to the mean prompt: the probability of the whole string over its mean",
  "probability after all prompts of the study, so that options that a model prefers whatever it is",
  "asked count less. PMI to a null context: the same over its probability after the prompt with",
  "\"N/A\" in place of the story. Sampled: experiment 1's answers, at that experiment's settings.",
  "The tests are those of the sections above."
)

#' How many planned tests have one outcome under every way of scoring, a sentence a model, by label.
scoring_findings <- function(found) {
  if (!isTRUE(nrow(found) > 0L)) return(character(0))
  tested <- found[!is.na(found$outcome), , drop = FALSE]
  vapply(unique(tested$label), function(label) {
    mine <- tested[tested$label == label, , drop = FALSE]
    outcomes <- split(mine$outcome, mine$conclusion)
    several <- outcomes[lengths(outcomes) > 1L]
    same <- vapply(several, function(one) length(unique(one)) == 1L, logical(1L))
    turned <- vapply(several, function(one) all(c("holds", "reversed") %in% one), logical(1L))
    sprintf(
      "%d of %d planned tests have the same outcome under all ways of scoring%s.",
      sum(same), length(several),
      if (any(turned)) {
        sprintf("; %d hold under one and are reversed under another", sum(turned))
      } else {
        ""
      }
    )
  }, character(1L))
}

#' The same as one text, for the figure's description.
said_of_scoring <- function(found) {
  said <- utils::head(scoring_findings(found), 6L)
  if (length(said) > 0L) paste(sprintf("%s: %s", names(said), said), collapse = " ")
}

# Cognitive models fitted to each model ------------------------------------------------------------

#' Two tables of a study's fits: parameters that a condition has of its own, and all else. Shows
#' nothing where none was fitted.
#'
#' @param fits The table `<study>_fits.csv`, or NULL.
#' @param origins As `mark_labels` takes them.
#' @param condition What the conditions are, for a heading.
#' @param about What was fitted, for the captions.
show_fits <- function(fits, origins, condition, about) {
  if (!isTRUE(nrow(fits) > 0L)) return(invisible(NULL))
  fits <- mark_labels(fits, origins)
  fits$condition <- ifelse(is.na(fits$condition), "", fits$condition)
  own <- fits$kind == "parameter" & nzchar(fits$condition)
  if (any(own)) {
    # Of two tables in a chunk knitr shows the last alone.
    cat(show_table(fit_parameters(fits[own, , drop = FALSE], condition), paste(
      about, "Parameters by", sprintf("%s,", condition), "with 95% intervals, by item and by",
      "condition."
    )))
  }
  show_table(fit_summary(fits[!own, , drop = FALSE]), paste(
    about,
    "Further parameters (intervals by item and by condition), and how well the model",
    "describes the answers: r\u00b2 and RMSE over cells and outcomes; deviance from the",
    "saturated model and AIC only for answers that were drawn one by one. Checks: posterior",
    "predictive p that answers drawn from the fitted model deviate as much, over the",
    "conditions and over the items; small where it does not describe them. Each condition's",
    "and item's own is in the table of fits."
  ))
}

#' A row for each model, experiment and condition, a column for each parameter.
fit_parameters <- function(rows, condition) {
  names <- unique(rows$parameter)
  wide <- fits_by_model(rows, "condition", function(piece) {
    at <- match(names, piece$parameter)
    cells <- as.list(show_parameter(piece[at, , drop = FALSE]))
    cbind(
      as.data.frame(stats::setNames(cells, names), check.names = FALSE),
      Note = show_text(fit_note(piece))
    )
  })
  names(wide)[3L] <- paste0(toupper(substring(condition, 1L, 1L)), substring(condition, 2L))
  wide
}

#' A row for each model and experiment.
fit_summary <- function(rows) {
  names <- unique(rows$parameter[rows$kind == "parameter"])
  fits_by_model(rows, NULL, function(piece) {
    pick <- function(kind, parameter, column = "estimate") {
      piece[[column]][piece$kind == kind & piece$parameter %in% parameter][1L]
    }
    check <- function(parameter) {
      piece$p[piece$kind == "check" & piece$parameter %in% parameter & piece$condition == "all"][1L]
    }
    parameters <- lapply(names, function(name) {
      show_parameter(piece[match(name, piece$parameter), , drop = FALSE])
    })
    # Every parameter may be one of the conditions'.
    own <- data.frame(row.names = 1L)
    own[names] <- parameters
    cbind(
      own,
      data.frame(
        Answers = show_number(pick("fit", "r2", "n"), 0),
        "r\u00b2" = show_number(pick("fit", "r2"), 3), RMSE = show_number(pick("fit", "rmse"), 3),
        "Deviance (df)" = ifelse(
          is.na(pick("fit", "deviance")), "\u2013",
          sprintf(
            "%s (%s)", show_number(pick("fit", "deviance"), 1),
            show_number(pick("fit", "deviance_df"), 0)
          )
        ),
        AIC = show_number(pick("fit", "aic"), 1),
        "p (conditions)" = show_p(check("by condition")), "p (items)" = show_p(check("by item")),
        Note = show_text(fit_note(piece[piece$kind == "parameter", , drop = FALSE])),
        check.names = FALSE
      )
    )
  })
}

#' "0.34 [0.30, 0.38], [0.25, 0.44]": by item, then by condition; a dash for what there is not.
show_parameter <- function(rows) {
  bracket <- function(low, high) {
    ifelse(is.na(low), "[\u2013]", sprintf("[%s, %s]", show_number(low), show_number(high)))
  }
  ifelse(is.na(rows$estimate), "\u2013", sprintf(
    "%s %s, %s", show_number(rows$estimate), bracket(rows$low, rows$high),
    bracket(rows$low_by_condition, rows$high_by_condition)
  ))
}

#' What is to be known of some parameters, each thing once, with their names unless of all.
fit_note <- function(piece) {
  if (nrow(piece) == 0L) return("")
  said <- strsplit(piece$note, "; ", fixed = TRUE)
  names <- rep(piece$parameter, lengths(said))
  said <- unlist(said)
  notes(vapply(unique(said), function(one) {
    whose <- unique(names[said == one])
    of_all <- length(whose) == length(unique(piece$parameter))
    if (of_all) one else sprintf("%s: %s", toString(whose), one)
  }, character(1L)))
}

#' Rows of `fn` by theory, model and experiment, in the table's order, models before people.
fits_by_model <- function(rows, keys, fn) {
  keys <- c("label", "experiment", keys)
  if (length(unique(rows$source)) > 1L) keys <- c(keys, "source")
  id <- do.call(paste, c(unname(as.list(rows[keys])), sep = "\r"))
  pieces <- split(rows, factor(id, levels = unique(id)))
  people <- vapply(pieces, function(piece) piece$experiment[1L] == "reference", logical(1L))
  bind(lapply(pieces[order(people)], function(piece) {
    first <- piece[1L, keys, drop = FALSE]
    first$experiment <- show_experiment(first$experiment)
    names(first) <- c(
      "Model", "Experiment", sub("^source$", "Theory", keys[-(1:2)])
    )
    cbind(first, fn(piece), row.names = NULL)
  }))
}
