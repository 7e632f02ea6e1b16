# What the report shows of models against each other, of variance components and of precision: the
# same subsection in every study. Source after common.R, html.R, report.R and sections.R.

#' Most pairs of models that the page shows; all are in the table's file.
most_pairs <- 24L

#' The subsection, Markdown and tables.
#'
#' @param tables,figures A study's, as `load_studies` gives them.
#' @param study The study's name.
#' @param origins As `mark_labels` takes them.
show_comparison <- function(tables, figures, study, origins) {
  cat("\n\n## Models compared, and how precise this is\n\n")
  cat(show_model_pairs(tables$model_pairs, study, origins))
  cat(show_components(tables$variance_components))
  show_figures(figures, stats::setNames(list(paste(
    "Half-width of the 95% interval by item, by the number of items and replications, with the",
    "wordings of this run."
  )), paste0(study, "_precision")), said = notes_below(tables$cells, report_notes)) |> cat()
  show_precision(tables$precision, study)
}

show_model_pairs <- function(pairs, study, origins) {
  if (!isTRUE(nrow(pairs) > 0L)) {
    return(html_block(paragraphs(paste(
      "Models are compared in pairs; this run has one model in each variant and experiment, so",
      "there is no pair."
    ), "note")))
  }
  keys <- c("experiment", "variant", "measure")
  groups <- by_group(pairs, keys, function(piece) {
    count <- function(outcome) sum(piece$outcome %in% outcome)
    data.frame(
      pairs = nrow(piece), differ = count(c("a higher", "b higher")),
      equivalent = count("equivalent"), undecided = count("undecided"),
      none = sum(is.na(piece$outcome)),
      sd = stats::median(piece$sd, na.rm = TRUE)
    )
  })
  overview <- show_table(data.frame(
    Quantity = groups$measure, Experiment = show_experiment(groups$experiment),
    Variant = show_text(groups$variant), Pairs = groups$pairs, Differ = groups$differ,
    Equivalent = groups$equivalent, Undecided = groups$undecided, "No test" = groups$none,
    "SD over items (median)" = show_number(groups$sd, 3), check.names = FALSE
  ), paste(
    "Pairs of models: in how many the two differ (p after BH over all pairs of a row below .05),",
    "are equivalent, or neither is shown."
  ))
  many <- max(groups$pairs) > most_pairs
  shown <- by_group(pairs, keys, function(piece) {
    utils::head(piece[order(-abs(piece$difference)), setdiff(names(piece), keys)], if (many) {
      max(3L, most_pairs %/% nrow(groups))
    } else {
      nrow(piece)
    })
  })
  signed <- function(rows, side) {
    marked <- rows[[paste0("model_", side)]] %in% names(origins)
    label <- rows[[paste0("label_", side)]]
    ifelse(marked, paste(label, mark), label)
  }
  one <- function(side) {
    show_interval(
      shown[[paste0("value_", side)]], shown[[paste0("low_", side)]],
      shown[[paste0("high_", side)]]
    )
  }
  list <- show_table(data.frame(
    Quantity = shown$measure, Experiment = show_experiment(shown$experiment),
    Model = signed(shown, "a"), "Less model" = signed(shown, "b"), Items = shown$n_items,
    "First" = one("a"), "Second" = one("b"),
    Difference = show_interval(shown$difference, shown$ci_low, shown$ci_high),
    Test = show_text(shown$test),
    "p (BH)" = show_p(shown$p_bh), "p (equivalence)" = show_p(shown$p_equivalence),
    "Cohen's h" = show_number(shown$cohen_h), Outcome = show_text(c(
      "a higher" = "first higher", "b higher" = "second higher", equivalent = "equivalent",
      undecided = "undecided"
    )[shown$outcome]), Note = show_text(shown$note), check.names = FALSE
  ), paste0(
    if (many) "The largest differences of each measure. " else "",
    "Models in pairs, paired by item, with t intervals of the difference; BH over all pairs of a",
    " measure, experiment and variant. All pairs are in ", study, "_model_pairs.csv."
  ))
  paste0(overview, "\n\n", list, "\n\n")
}

show_components <- function(components) {
  if (!isTRUE(nrow(components) > 0L)) {
    return(html_block(paragraphs("No usable answer, so no components of variance.", "note")))
  }
  keys <- c("model_key", "experiment", "measure")
  wide <- by_group(components, keys, function(piece) {
    at <- function(name) piece[match(name, piece$component), , drop = FALSE]
    share <- function(name) {
      one <- at(name)
      ifelse(is.na(one$icc), "\u2013", sprintf(
        "%s (%s)", show_number(one$sd, 3), show_number(one$icc)
      ))
    }
    runs <- at("replication")
    data.frame(
      Item = share("item"), Wording = share("wording"), both = share("item x wording"),
      Replication = share("replication"), by_run = share("item x replication"),
      Prompt = share("prompt"), Draw = share("draw"),
      icc = if (is.na(runs$icc)) "\u2013" else sprintf(
        "%s: %s", show_interval(runs$icc, runs$icc_low, runs$icc_high), show_text(runs$icc_outcome)
      ),
      deviation = if (is.na(runs$deviation)) "\u2013" else if (is.na(runs$deviation_limit)) {
        show_number(runs$deviation, 3)
      } else {
        sprintf("%s of %s", show_number(runs$deviation, 3), show_number(runs$deviation_limit, 3))
      },
      note = component_note(piece)
    )
  })
  paste0(show_table(data.frame(
    Model = mark_keys(wide$model_key), Experiment = show_experiment(wide$experiment),
    Quantity = wide$measure, Items = wide$Item, Wordings = wide$Wording,
    "Items x wordings" = wide$both, Replications = wide$Replication,
    "Items x replications" = wide$by_run, Prompts = wide$Prompt, Draws = wide$Draw,
    "ICC of replications (target < .10)" = wide$icc,
    "Replications apart (target 5%)" = wide$deviation, check.names = FALSE
  ), paste(
    "Where the variance of one pass through an item's conditions lies: standard deviation of each",
    "component, in the measure's unit, and its share of the variance (ICC). A component below zero",
    "is shown as 0. Replications apart: the farthest mean of a replication from the mean of all,",
    "of what 5% of the scale allows. Intervals are in variance_components.csv."
  ), fold = nrow(wide) > 12L), shared_notes(wide$note), "\n\n")
}

#' Long notes, which many rows share, below their table.
shared_notes <- function(said) {
  each <- unique(said[nzchar(said)])
  if (length(each) == 0L) return("")
  html_block(paragraphs(vapply(each, function(one) {
    sprintf("In %d of %d rows, %s.", sum(said == one), length(said), one)
  }, character(1L)), "note"))
}

#' The notes of a model's components, each once with the components that it is of.
component_note <- function(piece) {
  said <- strsplit(piece$note, "; ", fixed = TRUE)
  of <- rep(piece$component, lengths(said))
  said <- unlist(said)
  notes(vapply(unique(said[nzchar(said)]), function(one) {
    sprintf("%s: %s", toString(of[said == one]), one)
  }, character(1L)))
}

#' The rows that are shown and drawn: those of all models together, where there are several.
planned_rows <- function(precision) {
  together <- is.na(precision$model_key)
  if (any(together)) precision[together, , drop = FALSE] else precision
}

#' What the figure of precision shows, in words: how narrow this run's intervals are, and how narrow
#' with most items.
said_of_precision <- function(precision) {
  none <- "There are no components of variance to plan with."
  if (!isTRUE(nrow(precision) > 0L)) return(none)
  rows <- planned_rows(precision)
  keys <- c("label", "experiment", "measure", "wordings", "replications")
  said <- by_group(rows, keys, function(piece) {
    own <- which(piece$as_run)[1L]
    if (is.na(own) || is.na(piece$half_width[own])) return(NULL)
    most <- which.max(piece$items)
    data.frame(text = sprintf(
      "%s, experiment %s, %s: %s with %d items and %d replication%s%s",
      piece$label[own], sub("exp", "", piece$experiment[own]), piece$measure[own],
      show_number(piece$half_width[own], 3), piece$items[own], piece$replications[own],
      if (piece$replications[own] == 1L) "" else "s",
      if (most == own) "" else sprintf(
        ", %s with %d items", show_number(piece$half_width[most], 3), piece$items[most]
      )
    ))
  })$text
  more <- length(said) - 6L
  said <- c(utils::head(said, 6L), if (more > 0L) sprintf("and %d more, in the table", more))
  if (length(said) == 0L) return(none)
  paste0("Half-widths: ", paste(said, collapse = "; "), ".")
}

show_precision <- function(precision, study) {
  if (!isTRUE(nrow(precision) > 0L)) {
    return(html_block(paragraphs(
      "Precision of other designs cannot be planned: there are no components of variance.", "note"
    )))
  }
  rows <- planned_rows(precision)
  keys <- c("label", "experiment", "measure", "wordings", "replications")
  wide <- by_group(rows, keys, function(piece) {
    piece <- piece[order(piece$items), , drop = FALSE]
    as_run <- piece[piece$items %in% rows$items[rows$as_run], , drop = FALSE][1L, ]
    width <- function(items) {
      one <- piece[match(items, piece$items), , drop = FALSE]
      show_number(one$half_width, 3)
    }
    data.frame(
      own = sprintf("%s [%s, %s]", show_number(as_run$half_width, 3),
        show_number(as_run$half_width_low, 3), show_number(as_run$half_width_high, 3)),
      at_12 = width(12), at_24 = width(24), at_48 = width(48), at_96 = width(96),
      needed = if (is.na(as_run$items_needed)) "\u2013" else show_number(as_run$items_needed, 0),
      detectable = show_number(as_run$detectable, 3),
      power = ifelse(is.na(as_run$power), "\u2013", sprintf(
        "%s (%s)", show_number(as_run$power), show_number(as_run$difference, 2)
      )),
      moved = show_number(as_run$sd_of_wordings, 3), note = as_run$note
    )
  })
  show_table(data.frame(
    Model = wide$label, Experiment = show_experiment(wide$experiment),
    Quantity = wide$measure, Wordings = wide$wordings, Replications = wide$replications,
    "This run's items" = wide$own,
    "12 items" = wide$at_12, "24" = wide$at_24, "48" = wide$at_48, "96" = wide$at_96,
    "Items for \u00b1 5%" = wide$needed, "Found with power .8" = wide$detectable,
    "Power (difference)" = wide$power, "SD of other wordings" = wide$moved,
    Note = show_text(wide$note), check.names = FALSE
  ), paste0(
    "Planned from these components: half-width of the 95% interval by item with other numbers of",
    " wordings, replications and items (in brackets, how far the few items of this run may mistake",
    " it); items for a half-width of 5% of the scale; the true value that this run's items find",
    " with power .8, and the power for the equivalence margin. The rest is in ", study,
    "_precision.csv."
  ), fold = nrow(wide) > 12L)
}

#' How models are compared and runs planned, for the methods.
comparison_method <- paste(
  "- **Models compared, components, precision.** Models are compared in pairs, paired by item: the",
  "difference of their means of an item's conditions, with t over items, which is Miller's (2024)",
  "paired difference with errors clustered by item. McNemar's exact test stands where items are",
  "the pairs, each with one distinct answer, yes or no, of either model. BH is over all pairs of",
  "one measure, experiment and variant. Components of variance are those of the analysis of",
  "variance of one pass through an item's conditions, by the method of moments, copies collapsed;",
  "their intervals are Williams's and Tukey's. Precision of another design follows from them."
)

#' What studies say of their limits, as a point of a list; nothing where none does.
limits_text <- function(studies) {
  said <- study_texts(studies, "limits")
  if (nzchar(said)) paste0("\n- **Limits of this version.**", said) else ""
}
