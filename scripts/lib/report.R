# What the report needs: rounded tables, sentences made from the result tables, and readers for
# metadata.json and validation.json. Source after common.R and html.R; needs knitr and jsonlite.

#' A number as readers expect it; NA is an en dash.
show_number <- function(values, digits = 2) {
  values <- as.numeric(values)
  text <- formatC(values, digits = digits, format = "f", big.mark = ",")
  text[!is.na(values) & suppressWarnings(as.numeric(gsub(",", "", text))) == 0] <-
    formatC(0, digits = digits, format = "f")
  ifelse(is.na(values), "\u2013", sub("^-", "\u2212", text))
}

#' A small number with two significant digits, such as 3.1e-06; NA is an en dash.
show_small <- function(values) {
  ifelse(is.na(values), "\u2013", formatC(as.numeric(values), digits = 2, format = "g"))
}

#' A p value: three decimals, or "< .001".
show_p <- function(values) {
  values <- as.numeric(values)
  text <- sub("^0", "", formatC(values, digits = 3, format = "f"))
  ifelse(is.na(values), "\u2013", ifelse(values < 0.001, "< .001", text))
}

#' "0.52 [0.41, 0.63]", without the bracket where there is no interval.
show_interval <- function(value, low, high, digits = 2) {
  bracket <- sprintf(" [%s, %s]", show_number(low, digits), show_number(high, digits))
  paste0(show_number(value, digits), ifelse(is.na(low) | is.na(high), "", bracket))
}

#' A noise band; a dash where there is none.
show_band <- function(low, high, digits = 3) {
  text <- sprintf("%s to %s", show_number(low, digits), show_number(high, digits))
  ifelse(is.na(low), "\u2013", text)
}

#' What is said of noise bands and of people's halves.
noise_band_caption <- paste(
  "Noise band: where 95 of 100 models would be that choose exactly as people do, with as many",
  "answers, were the people drawn anew. Half against half: how far people are from each other, the",
  "mean of random halves and the middle 95% of them."
)

#' "0.002 to 0.004", a dash where nothing is left open.
show_range <- function(low, high, digits) {
  text <- sprintf("%s to %s", show_number(low, digits), show_number(high, digits))
  ifelse(is.na(low) | is.na(high) | show_number(low, digits) == show_number(high, digits),
    "\u2013", text)
}

#' A setting as it was written.
show_setting <- function(values) {
  ifelse(is.na(values), "\u2013", format(as.numeric(values), trim = TRUE, drop0trailing = TRUE))
}

show_text <- function(values) {
  text <- trimws(as.character(values))
  ifelse(is.na(text) | text == "", "\u2013", text)
}

experiment_short <- c(exp1 = "1 generated", exp2 = "2 scored", reference = "\u2013")
show_experiment <- function(values) unname(experiment_short[values])

#' How many rows there are to look at, and how many of them are listed where not all are.
show_listed <- function(total, listed) {
  ifelse(listed < total, sprintf("%d (first %d of %d listed)", total, listed, total), total)
}

#' What the report shows tables and figures with: the facts that notes below them say.
#'
#' @param params As `notes_below` takes them.
report_notes <- new.env()
set_report_notes <- function(params) {
  report_notes$origins <- params[["origins"]]
  report_notes$generation <- params[["generation"]]
  report_notes$results <- list()
  report_notes$numbers <- c(Table = 0L, Figure = 0L)
}

#' A caption with the next number of its kind, "Table" or "Figure", before it.
numbered <- function(kind, caption) {
  report_notes$numbers[[kind]] <- report_notes$numbers[[kind]] + 1L
  sprintf("%s %d. %s", kind, report_notes$numbers[[kind]], caption)
}

#' A model's key, marked as its label is.
mark_keys <- function(keys) {
  ifelse(keys %in% names(report_notes$origins), paste(keys, mark), keys)
}

#' A captioned table that scrolls sideways on small screens, with the notes that apply to the models
#' and experiments in it; a sentence where it has no row. A long table is folded under its caption.
#'
#' @param number Whether the caption gets a number; tables are numbered in the order shown.
#' @param classes,links As `table_html` takes them.
show_table <- function(table, caption, align = NULL, fold = nrow(table) > 40L, number = TRUE,
                       classes = NULL, links = NULL) {
  if (number) caption <- numbered("Table", caption)
  id <- if (number) paste0("table-", report_notes$numbers[["Table"]])
  if (is.null(table) || nrow(table) == 0L) {
    return(html_block(paragraphs(sprintf("%s: nothing to show for this run.", caption), "empty")))
  }
  empty <- vapply(table, function(column) all(as.character(column) == "\u2013"), logical(1L))
  drop <- names(table) %in% c("Note", "Variant") & empty
  table <- table[, !drop, drop = FALSE]
  if (is.null(align)) align <- ifelse(vapply(table, looks_numeric, logical(1L)), "r", "l")
  said <- table_notes(table)
  html <- c(
    "<div class=\"wide\">",
    table_html(table, align, if (!fold) caption, id, classes, links), "</div>",
    if (length(said) > 0L) paragraphs(said, "note")
  )
  if (fold) {
    summary <- sprintf("<summary>%s</summary>", literal(caption, longest = 2000L))
    html <- c("<details>", summary, html, "</details>")
  }
  html_block(html)
}

#' The notes for a table: its column Model has labels, Experiment what `show_experiment` gave.
table_notes <- function(table) {
  experiments <- names(experiment_short)[match(table[["Experiment"]], experiment_short)]
  # What compares the experiments says at which settings.
  if ("Measure" %in% names(table)) {
    return(notes_compared(list(label = table[["Model"]]), report_notes))
  }
  labels <- c(table[["Model"]], table[["Less model"]])
  notes_below(list(experiment = experiments, label = labels), report_notes)
}

looks_numeric <- function(column) {
  text <- as.character(column)
  is.numeric(column) || all(grepl("^[<\u2212\u2013.0-9, /%()\\[\\]-]+$", text, perl = TRUE))
}

#' Figures of a study in the order given, each with its number, its caption and the notes that apply
#' to these rows (`said`); those absent are left out.
show_figures <- function(paths, wanted, rows,
                         said = c(drawn_note(rows), notes_below(rows, report_notes))) {
  parts <- lapply(names(wanted), function(name) {
    path <- paths[basename(paths) == paste0(name, ".svg")]
    if (length(path) == 0L) return(NULL)
    caption <- numbered("Figure", wanted[[name]])
    figure_html(
      path[1L], caption, said, report_notes$results[[name]],
      paste0("figure-", report_notes$numbers[["Figure"]]), paste0("analysis/figures/", name)
    )
  })
  if (length(unlist(parts)) > 0L) html_block(unlist(parts))
}

#' What failed and is therefore not in the report, from the JSON that the workflow gives; nothing
#' where nothing did.
show_failed <- function(json) {
  failed <- jsonlite::fromJSON(json)
  if (length(failed) == 0L) return(invisible())
  step <- trimws(paste(failed$stage, ifelse(is.na(failed$study), "", failed$study)))
  show_table(
    data.frame(
      Model = mark_keys(failed$model), Replication = failed$replication, "Failed at" = step,
      Reason = failed$reason, check.names = FALSE
    ),
    "Not in this report: what failed when it was made. The same command tries it again.",
    number = FALSE
  )
}

# JSON files ------------------------------------------------------------------------------------

#' Read JSON files. One that cannot be read is an error: the report would pass over it in silence.
read_json_files <- function(paths) {
  lapply(paths, function(path) {
    tryCatch(
      jsonlite::read_json(path, simplifyVector = FALSE),
      error = function(condition) {
        stop(sprintf(
          "%s: cannot be read as JSON (%s). Delete it and run again to have it rebuilt.", path,
          substr(gsub("\\s+", " ", conditionMessage(condition)), 1L, 200L)
        ), call. = FALSE)
      }
    )
  })
}

#' A field along a path of names as one text; "" if a step is missing.
dig <- function(record, ...) {
  for (name in c(...)) {
    if (!is.list(record) || is.null(record[[name]])) return("")
    record <- record[[name]]
  }
  flat <- unlist(record)
  if (is.null(flat)) return("")
  if (is.null(names(flat)) || any(names(flat) == "")) return(toString(flat))
  toString(sprintf("%s %s", names(flat), flat))
}

first_of <- function(...) {
  values <- c(...)
  values <- values[nzchar(values)]
  if (length(values) == 0L) "" else values[1L]
}

#' One row a job that gave answers to a model's replication: what ran, where, with which seeds, and
#' the experiments that its answers are in.
metadata_table <- function(records) {
  bind(lapply(records, function(record) {
    jobs <- bind(lapply(names(record$runs), function(label) {
      bind(lapply(record$runs[[label]]$answered_by, job_row, label = label))
    }))
    same <- setdiff(names(jobs), c("label", "answers"))
    jobs <- by_group(jobs, same, function(piece) {
      data.frame(
        answers = sum(piece$answers), experiments = toString(gsub("_", " ", piece$label))
      )
    })
    if (nrow(jobs) == 0L) return(NULL)
    cbind(data.frame(
      model = first_of(dig(record, "model_key"), dig(record, "model_name")),
      name = first_of(dig(record, "model_source"), dig(record, "model_name")),
      revision = dig(record, "revision"),
      replication = dig(record, "replication_index"), seeds = dig(record, "seeds")
    ), jobs)
  }))
}

#' The hub's commits in texts, as people tell them apart.
short_commits <- function(values) gsub("\\b([0-9a-f]{12})[0-9a-f]{28}\\b", "\\1", values)

#' A sentence on each model that was asked at several commits of the hub.
mixed_commits <- function(metadata) {
  if (nrow(metadata) == 0L) return(NULL)
  unlist(lapply(unique(metadata$model), function(model) {
    revisions <- metadata$revision[metadata$model %in% model]
    found <- unique(unlist(regmatches(revisions, gregexpr("\\b[0-9a-f]{40}\\b", revisions))))
    if (length(found) < 2L) return(NULL)
    sprintf(
      paste(
        "Answers of %s come from %d commits of the hub (%s), which may be different models. Name",
        "one of them in its revision, and run again."
      ),
      mark_keys(model), length(found), toString(short_commits(found))
    )
  }))
}

#' Facts of one job, as `grace.provenance.metadata.AnsweredBy` has them.
job_row <- function(job, label) {
  fact <- function(...) dig(job, "deployment_info", ...)
  gpus <- fact("gpu_count")
  data.frame(
    label = label, answers = max(0, as.numeric(job$answers)),
    started = dig(job, "started"), commit = dig(job, "commit"),
    changed = isTRUE(job$dirty), node = first_of(fact("pod"), fact("node")),
    engine = trimws(paste(fact("engine"), fact("engine_version"))),
    gpu = if (gpus %in% "0") "none" else trimws(paste(
      if (nzchar(gpus)) paste(gpus, "x"), fact("gpu_type")
    )),
    cuda = fact("cuda"), tensor = fact("tensor_parallel_size"), image = fact("image_digest")
  )
}

#' One row a validation check.
checks_table <- function(records) {
  bind(lapply(records, function(record) {
    checks <- if (!is.null(record$checks)) record$checks else if (is.null(names(record))) record
    bind(lapply(checks, function(check) {
      listed <- length(check$rows_to_review)
      total <- max(as.integer(check$rows_to_review_total), listed)
      data.frame(
        model = dig(record, "model_key"),
        replication = first_of(dig(record, "replication"), dig(record, "replication_index")),
        study = dig(check, "study"), experiment = dig(check, "experiment"),
        check = dig(check, "name"), description = dig(check, "description"),
        value = dig(check, "value"), threshold = dig(check, "threshold"),
        comparison = dig(check, "comparison"), passed = isTRUE(check$passed),
        rows_to_review = total, rows_listed = listed
      )
    }))
  }))
}

#' Who read the answers of each model and study, and how far the readings agree; nothing where the
#' rules read all. The files are `<study>_extraction.json`; `price` is that of a million tokens,
#' `input` and `output`, where one is known.
show_extraction <- function(records, price = NULL) {
  if (length(records) == 0L) return(invisible())
  number <- function(record, name) as.numeric(first_of(dig(record, name), "NA"))
  rows <- bind(lapply(records, function(record) {
    data.frame(
      Model = mark_keys(dig(record, "model_key")), Replication = dig(record, "replication"),
      Study = dig(record, "study"), Method = dig(record, "method"),
      Reader = show_text(dig(record, "extractor", "model")),
      Answers = number(record, "answers"), "Read by rules" = number(record, "read_by_rules"),
      "Model asked" = number(record, "asked"), "Model read" = number(record, "read_by_model"),
      "No answer" = number(record, "no_answer"), "Not read" = number(record, "failed"),
      "Same as rules" = number(record, "same"), Different = number(record, "different"),
      "Left open by rules" = number(record, "left_open"),
      Agreement = show_number(number(record, "mean_agreement"), 3),
      Requests = number(record, "requests"), "Invalid replies" = number(record, "invalid_replies"),
      "Tokens in" = show_number(number(record, "prompt_tokens"), 0),
      "Tokens out" = show_number(number(record, "completion_tokens"), 0), check.names = FALSE
    )
  }))
  priced <- length(price) > 0L
  if (priced) rows$Cost <- show_number(extraction_costs(records, price), 4)
  show_table(rows[order(rows$Study, rows$Model, rows$Replication), , drop = FALSE], paste(c(
    "How written answers were read. Model asked: answers that the reader, a language model, was",
    "given. Same as rules: rules and reader give the same to every field; different: to some field",
    "they give different values. Agreement: the mean over answers of the least share, over fields,",
    "of readings (each query, and the rules) that give the value kept.",
    if (priced) {
      paste(
        "Cost: at", show_number(price$input, 2), "and", show_number(price$output, 2),
        "a million tokens in and out, of all replies behind the readings, in all",
        paste0(show_number(sum(extraction_costs(records, price)), 4), ".")
      )
    }
  ), collapse = " "))
}

#' The table of agreements with review sheets; NULL where there is none (no path).
read_review <- function(path) {
  if (length(path) == 0L) return(NULL)
  read_csv(path, colClasses = list(character = c("study", "model_key", "what")))
}

#' What people who filled in review sheets say of how answers were read; nothing where no sheet was
#' written. `table` is review_agreement.csv: its first row of a study is over all models.
show_review <- function(table) {
  if (is.null(table) || nrow(table) == 0L) return(invisible())
  whole <- table[is.na(table$model_key) | !nzchar(table$model_key), , drop = FALSE]
  waiting <- whole[whole$what == "all fields" & whole$checked == 0, , drop = FALSE]
  if (nrow(waiting) > 0L) {
    cat(sprintf(
      "\n\nReview sheets that no one has filled in yet: %s.\n\n",
      paste(sprintf("%s (%d answers)", show_text(waiting$study), waiting$answers), collapse = ", ")
    ))
  }
  rows <- table[table$checked > 0, , drop = FALSE]
  if (nrow(rows) == 0L) return(invisible())
  between <- function(low, high, digits) {
    ifelse(is.na(low), "", sprintf("[%s, %s]", show_number(low, digits), show_number(high, digits)))
  }
  everyone <- is.na(rows$model_key) | !nzchar(rows$model_key)
  models <- mark_keys(rows$model_key)
  marked <- any(endsWith(models[!everyone], mark))
  all_models <- if (marked) paste("all models", mark) else "all models"
  show_table(data.frame(
    Study = show_text(rows$study),
    Model = ifelse(everyone, all_models, models),
    Field = show_text(rows$what), "On the sheet" = rows$answers, Checked = rows$checked,
    "Read rightly" = rows$right, "Agreement (%)" = show_number(100 * rows$share, 1),
    "95 %" = between(100 * rows$low, 100 * rows$high, 1), Kappa = show_number(rows$kappa, 2),
    "95 % of kappa" = between(rows$kappa_low, rows$kappa_high, 2), check.names = FALSE
  ), paste(
    "Answers as they were read against a person's reading of them, from the review sheets. Kappa:",
    "Cohen's, over the values of a field, or whole readings; empty where both gave one value to",
    "all. Intervals: Wilson's, for answers drawn at random; of kappa with agreement by chance as",
    "found."
  ))
}

#' What the replies behind the readings of each record cost, from their tokens and `price`, that of
#' a million of them.
extraction_costs <- function(records, price) {
  tokens <- function(name) {
    vapply(records, function(record) as.numeric(first_of(dig(record, name), "0")), numeric(1L))
  }
  (tokens("prompt_tokens") * price$input + tokens("completion_tokens") * price$output) / 1e6
}

# Sentences -------------------------------------------------------------------------------------

in_experiment <- c(
  exp1 = "in the generated answers (experiment 1)",
  exp2 = "in the scored probabilities (experiment 2)"
)

no_answer <- "No usable answer in this run."

#' The models with a usable answer or measurement, by label.
usable_models <- function(qualities) unique(qualities$label[which(qualities$usable > 0)])

#' What a reader must know before anything else: whose answers are all unusable, or that all are.
alarms <- function(qualities) {
  none <- qualities[qualities$usable %in% 0, , drop = FALSE]
  if (length(usable_models(qualities)) == 0L) {
    c(
      paste(
        "No model of this run has a usable answer or measurement. This report says nothing about",
        "any language model, and the run counts as failed."
      ),
      "Data quality, below, and validation.json of each replication say what went wrong."
    )
  } else if (nrow(none) > 0L) {
    sprintf(
      "None of the %s of %s in %s, experiment %s, is usable. Nothing below counts them.",
      ifelse(none$experiment == "exp1", paste(none$trials, "answers"),
        paste(none$trials, "measurements")),
      none$label, none$study, sub("exp", "", none$experiment)
    )
  }
}

#' What a quality table knows of reasoning, a row for each model, study and experiment that has
#' traces; empty where none has.
traces_table <- function(quality) {
  if (!"traces" %in% names(quality)) return(data.frame())
  quality <- quality[!is.na(quality$traces), , drop = FALSE]
  if (nrow(quality) == 0L) return(data.frame())
  known <- function(name) if (name %in% names(quality)) quality[[name]] else NA_real_
  data.frame(
    Model = quality$label, Study = quality$study, Experiment = show_experiment(quality$experiment),
    Traces = show_number(quality$traces, 0),
    "Cut off (%)" = show_number(quality$truncated_percent, 1),
    "No answer (%)" = show_number(known("unanswered_percent"), 1),
    "Mean tokens" = show_number(quality$trace_tokens, 0),
    "Mean characters" = show_number(quality$trace_characters, 0),
    "Standard error" = show_number(known("trace_error"), 3), check.names = FALSE
  )
}

traces_note <- paste(
  "Reasoning: traces before answers (experiment 1) or before measurements (experiment 2, several",
  "to each query). Cut off: without an end of their own within their budget of tokens; in",
  "experiment 1 such a trace has no answer. No answer: the model ended its turn within the trace.",
  "Standard error: what the draw of traces leaves in a distribution averaged over them: the",
  "largest of its options, mean over trials."
)

#' What readers should be warned of, from the checks, the notes and the rates.
findings_quality <- function(qualities, checks) {
  qualities <- qualities[!is.na(qualities$usable_percent), , drop = FALSE]
  low <- qualities[qualities$usable_percent < 95, , drop = FALSE]
  empty <- data.frame()
  if (!is.null(qualities$cells_empty)) {
    some <- !is.na(qualities$cells_empty) & nzchar(qualities$cells_empty) & qualities$usable > 0
    empty <- qualities[some, , drop = FALSE]
  }
  weak <- qualities[which(qualities$option_mass_min < 0.5), , drop = FALSE]
  said <- c(
    if (nrow(qualities) > 0L) {
      sprintf(
        "%s of %s answers and measurements are usable (%s %%).",
        show_number(sum(qualities$usable), 0), show_number(sum(qualities$trials), 0),
        show_number(100 * sum(qualities$usable) / sum(qualities$trials), 1)
      )
    },
    if (nrow(low) > 0L) {
      sprintf(
        "Fewer than 95 %% usable: %s.",
        toString(sprintf(
          "%s %s experiment %s", low$label, low$study, sub("exp", "", low$experiment)
        ))
      )
    },
    if (nrow(empty) > 0L) {
      sprintf(
        "%s has no usable answer of %s, experiment %s, in %d of %d cells; no table has them: %s.",
        empty$label, empty$study, sub("exp", "", empty$experiment),
        lengths(strsplit(empty$cells_empty, "; ", fixed = TRUE)), empty$cells_asked,
        empty$cells_empty
      )
    },
    if (nrow(weak) > 0L) {
      sprintf(
        paste(
          "Some prompts leave more than half of the probability outside the answer options:",
          "%s. Their scored distributions describe a small part of what the model would say."
        ),
        toString(sprintf("%s %s", weak$label, weak$study))
      )
    }
  )
  if (nrow(checks) > 0L) {
    failed <- sum(!checks$passed)
    said <- c(said, sprintf(
      "%d of %d validation checks passed%s.", sum(checks$passed), nrow(checks),
      if (failed > 0L) sprintf("; the %d that failed are listed under data quality", failed) else ""
    ))
  }
  said
}
