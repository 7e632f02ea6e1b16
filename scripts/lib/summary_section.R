# The report's summary of many models: who comes closest, one table to compare them, and for each
# study a table of models by conditions. Source after report.R and sections.R.

#' Series (model x experiment) of which each has its sentences in sight.
most_sentences <- 4L

#' Upper ends of the steps in which distances are coloured, in bits.
heat_steps <- c(0.01, 0.03, 0.06, 0.12, 0.25, 0.5)

#' Cells that the list of the farthest names.
most_farthest <- 10L

#' The findings of each study, as HTML: what they are in all, and each model's, if these are few.
#'
#' @param studies As `load_studies` gives them.
show_findings <- function(studies, settings) {
  unlist(lapply(studies, function(own) {
    shown <- lapply(own$tables, language_models, settings)
    said <- own$findings(shown)
    c(
      sprintf("<h3>%s</h3>", literal(own$section$heading)), points(own$closest(shown)),
      if (length(said) <= most_sentences) points(said)
    )
  }))
}

#' The findings of each model, folded, where they are many.
show_each_model <- function(studies, settings) {
  html_block(unlist(lapply(studies, function(own) {
    said <- own$findings(lapply(own$tables, language_models, settings))
    if (length(said) <= most_sentences) return(NULL)
    heading <- literal(own$section$heading)
    c(sprintf("<details><summary>%s: each model in words</summary>", heading), points(said),
      "</details>")
  })))
}

#' One table of all studies, a row for each model and experiment.
show_headlines <- function(studies, settings) {
  tables <- lapply(studies, function(own) {
    table <- own$headline(lapply(own$tables, language_models, settings))
    if (!isTRUE(nrow(table) > 0L)) return(NULL)
    own_columns <- setdiff(names(table), c("label", "experiment"))
    label <- own$section$label
    label <- paste0(toupper(substring(label, 1L, 1L)), substring(label, 2L))
    names(table)[match(own_columns, names(table))] <- paste0(label, ": ", own_columns)
    table
  })
  tables <- Filter(Negate(is.null), tables)
  if (length(tables) == 0L) return(invisible(NULL))
  rows <- unique(do.call(rbind, lapply(tables, `[`, c("label", "experiment"))))
  rows <- rows[order(rows$experiment, rows$label), , drop = FALSE]
  for (table in tables) {
    rows <- look_up(
      rows, table, c("label", "experiment"), setdiff(names(table), c("label", "experiment"))
    )
  }
  shown <- as.data.frame(lapply(rows, show_text), check.names = FALSE)
  names(shown) <- c("Model", "Experiment", names(rows)[-(1:2)])
  shown$Experiment <- show_experiment(rows$experiment)
  show_table(shown, paste(
    "All models beside each other. Distances (JSD, r) are corrected for the bias that few items",
    "and answers give, where they have an interval. The study's section explains each number",
    "and has its tests."
  ), fold = FALSE)
}

#' Models by conditions: the distance of each cell, coloured, and a mark where favourites differ.
show_conditions <- function(own, settings) {
  cells <- own$conditions(lapply(own$tables, language_models, settings))
  if (!isTRUE(nrow(cells) > 0L)) return(invisible(NULL))
  names <- unique(cells$condition)
  target <- cells$target[1L]
  rows <- unique(cells[c("label", "experiment")])
  rows <- rows[order(rows$experiment, rows$label), , drop = FALSE]
  at <- function(condition) {
    here <- cells[cells$condition == condition, , drop = FALSE]
    here[match(paste(rows$label, rows$experiment), paste(here$label, here$experiment)), ]
  }
  places <- lapply(names, at)
  texts <- lapply(places, function(here) {
    paste0(show_number(here$jsd_bits, 3), ifelse(here$same_favourite %in% FALSE, " \u2260", ""))
  })
  table <- data.frame(
    Model = rows$label, Experiment = show_experiment(rows$experiment),
    stats::setNames(texts, names), check.names = FALSE
  )
  unlinked <- rep(list(NA_character_), 2L)
  show_table(
    table, sprintf(paste(
      "%s: distance of each model from %s in every condition, JSD in bits, in steps of colour. The",
      "mark \u2260 stands where the model's favourite answer is another than theirs (not where",
      "either has two). A number opens the condition's trials in trials.html."
    ), own$section$heading, target),
    align = c("l", "l", rep("r", length(names))), fold = FALSE,
    classes = c(list("", ""), lapply(places, function(here) heat_class(here$jsd_bits))),
    links = c(unlinked, lapply(places, function(here) trial_links(own$study$name, here)))
  )
}

heat_class <- function(values) {
  ifelse(is.na(values), "", paste0("heat", findInterval(values, heat_steps)))
}

#' The conditions in which models are farthest from people or their model, with their trials.
show_farthest <- function(own, settings) {
  cells <- own$conditions(lapply(own$tables, language_models, settings))
  cells <- cells[!is.na(cells$jsd_bits), , drop = FALSE]
  if (!isTRUE(nrow(cells) > 0L)) return(invisible(NULL))
  shown <- utils::head(cells[order(-cells$jsd_bits), , drop = FALSE], most_farthest)
  show_table(
    data.frame(
      Model = shown$label, Experiment = show_experiment(shown$experiment),
      Condition = shown$condition, "JSD (bits)" = show_number(shown$jsd_bits, 3),
      "Favourite of the model" = show_text(shown$favourite),
      "Share" = show_number(shown$favourite_share),
      Theirs = show_text(shown$their_favourite),
      "Their share" = show_number(shown$their_share), Trials = "read", check.names = FALSE
    ), sprintf(paste(
      "%s: the %d of %d conditions and models that are farthest from %s: the answers to look at.",
      "Favourite: the answer with the largest mean share or probability."
    ), own$section$heading, nrow(shown), nrow(cells), cells$target[1L]), fold = TRUE,
    links = c(rep(list(NA_character_), 8L), list(trial_links(own$study$name, shown)))
  )
}

#' Addresses of the trial browser: a model's trials in a condition.
#'
#' @param cells With `model_key`, `variant`, and `filter`: a named list of columns and values each.
trial_links <- function(study, cells) {
  part <- function(column, value) {
    paste0("f=", utils::URLencode(paste(column, "is", value, sep = "~"), reserved = TRUE))
  }
  vapply(seq_len(nrow(cells)), function(i) {
    if (is.na(cells$model_key[i])) return(NA_character_)
    given <- c(
      list(model_key = cells$model_key[i], variant = cells$variant[i]), cells$filter[[i]]
    )
    query <- paste(mapply(part, names(given), given), collapse = "&")
    paste0("trials.html#", utils::URLencode(study, reserved = TRUE), "?", query)
  }, character(1L))
}

#' Distances by condition of distributions over options, from cells in long form.
#'
#' @param cells A row for each model (`is_model`), condition and option.
#' @param theirs The same of people or a model of people.
#' @param keys Columns that make a condition.
#' @param value,option Columns.
#' @param describe,filter Functions of the keys' values (a row): what a reader calls it, and how the
#'   trial browser filters it.
#' @param target Who `theirs` are, in words.
condition_distances <- function(cells, theirs, keys, value, option, describe, filter, target) {
  cells <- cells[is_model(cells), , drop = FALSE]
  if (nrow(cells) == 0L || nrow(theirs) == 0L) return(data.frame())
  pasted <- function(rows, columns) do.call(paste, c(unname(as.list(rows[columns])), sep = " "))
  place <- pasted(theirs, keys)
  found <- by_group(cells, c("label", "model_key", "variant", "experiment", keys), function(piece) {
    first <- piece[1L, , drop = FALSE]
    other <- theirs[place == pasted(first, keys), , drop = FALSE]
    options <- pasted(piece, option)
    compared <- compare_favourites(
      piece[[value]], other[[value]][match(options, pasted(other, option))], options
    )
    if (is.null(compared) || nrow(other) != nrow(piece)) return(NULL)
    data.frame(
      condition = describe(first), compared, target = target, filter = I(list(filter(first)))
    )
  })
  if (nrow(found) == 0L) return(found)
  found[do.call(order, unname(as.list(found[keys]))), , drop = FALSE]
}

#' Two distributions over the same options: their distance, and the favourites of both, NA where two
#' options share the first place. NULL where either is not known whole.
compare_favourites <- function(p, q, options) {
  if (anyNA(p) || anyNA(q) || sum(p) <= 0 || sum(q) <= 0) return(NULL)
  favourite <- function(shares) {
    top <- which(shares >= max(shares) - 1e-9)
    if (length(top) == 1L) options[top] else NA_character_
  }
  data.frame(
    jsd_bits = jsd_bits(p, q), favourite = favourite(p), favourite_share = max(p / sum(p)),
    their_favourite = favourite(q), their_share = max(q / sum(q)),
    same_favourite = favourite(p) == favourite(q)
  )
}

# Sentences -------------------------------------------------------------------------------------

#' Which models come closest to people by a distance with intervals, an experiment each.
#'
#' @param rows A row for each model and experiment: `label`, `experiment`, `jsd_bits`,
#'   `jsd_corrected`, `jsd_low`, `jsd_high`, `jsd_noise_high`.
closest_sentences <- function(rows) {
  rows <- rows[is_model(rows) & !is.na(rows$jsd_corrected), , drop = FALSE]
  by_experiment(rows, function(mine) {
    mine <- mine[order(mine$jsd_corrected), , drop = FALSE]
    c(if (nrow(mine) > 1L) sentence_closest(mine), sentence_noise_band(mine))
  })
}

sentence_closest <- function(mine) {
  first <- mine[1L, ]
  overlap <- mine$label[-1L][which(mine$jsd_low[-1L] <= first$jsd_high)]
  sprintf(
    "Closest to people: %s, JSD %s bits; %s.", first$label,
    show_interval(first$jsd_corrected, first$jsd_low, first$jsd_high, 3),
    if (is.na(first$jsd_high) || anyNA(mine$jsd_low[-1L])) {
      "not every model has an interval, so that no more can be said"
    } else if (length(overlap) > 0L) {
      sprintf("the intervals of %s overlap this one", few_names(overlap))
    } else {
      "no other model's interval overlaps this one"
    }
  )
}

#' Whether any model is as close as one that chooses as people do.
sentence_noise_band <- function(mine) {
  mine <- mine[!is.na(mine$jsd_noise_high), , drop = FALSE]
  if (nrow(mine) == 0L) return(NULL)
  within <- mine$label[mine$jsd_bits <= mine$jsd_noise_high]
  sprintf(
    "Within the noise band, where a model would be that chooses exactly as people do: %s.",
    if (length(within) > 0L) {
      few_names(within)
    } else if (nrow(mine) == 1L) {
      "not this model"
    } else {
      "no model"
    }
  )
}

#' In which conditions no model has the favourite of people, an experiment each.
#'
#' @param cells As `condition_distances` gives them.
nowhere_sentences <- function(cells) {
  if (!isTRUE(nrow(cells) > 0L)) return(NULL)
  by_experiment(cells[!is.na(cells$same_favourite), , drop = FALSE], function(mine) {
    same <- tapply(mine$same_favourite, factor(mine$condition, unique(mine$condition)), any)
    none <- names(same)[!same]
    one <- length(unique(mine$label)) == 1L
    if (length(none) == 0L) {
      return(sprintf(
        "The favourite answer of %s is that of %s in all %d conditions.", mine$target[1L],
        if (one) "the model" else "some model", length(same)
      ))
    }
    sprintf(
      "In %d of %d conditions %s the favourite answer of %s: %s.", length(none), length(same),
      if (one) "the model does not have" else "no model has", mine$target[1L], few_parts(none)
    )
  })
}

#' What `say` says of each experiment's rows, one text each, by "Experiment 1.".
by_experiment <- function(rows, say) {
  if (!isTRUE(nrow(rows) > 0L)) return(NULL)
  said <- vapply(split(rows, rows$experiment), function(mine) {
    paste(say(mine), collapse = " ")
  }, character(1L))
  names(said) <- sprintf("Experiment %s.", sub("exp", "", names(said)))
  said[nzchar(said)]
}

#' Texts by experiment, one after the other.
joined <- function(...) {
  parts <- c(...)
  if (length(parts) == 0L) return(NULL)
  vapply(split(unname(parts), names(parts)), paste, character(1L), collapse = " ")
}

#' "a, b and c", or the first few and how many more.
few_names <- function(names, most = 4L) {
  if (length(names) <= most) return(listed(names))
  sprintf("%s and %d more", toString(names[seq_len(most)]), length(names) - most)
}

#' The same of names that hold commas.
few_parts <- function(names, most = 6L) {
  more <- length(names) - most
  paste(c(
    utils::head(names, most), if (more > 0L) sprintf("and %d more", more)
  ), collapse = "; ")
}
