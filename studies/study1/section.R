# What the report says of study 1 outside its section, in Markdown, and the findings of its summary.
# Sourced after scripts/lib/common.R, html.R, report.R and sections.R.

section <- list(
  label = "study 1",
  heading = "Study 1, knowledge attribution",
  about = "a study of what listeners infer about a speaker's knowledge (study 1)",
  kind = "pragmatics",
  judged = list(value = "bet_normalised", outcome = "state", cell = c("access", "observe")),
  glossary = c(
    paste(
      "- A **cell** of study 1 is written access/said: 3/2 means that the speaker looked at 3 of",
      "the 3 items and said that 2 of them have the property. A **bet** is the percentage given to",
      "one state, the number of items (0 to 3) that have the property."
    ),
    paste(
      "- **RSA** is the Rational Speech Act model of a listener who reasons about what the speaker",
      "saw and meant. With full access, \"two\" suggests \"not three\"; with partial access the",
      "speaker may simply not know, and this *implicature* should be **cancelled**."
    )
  ),
  distances = paste(
    "**EMD**, the earth mover's distance, counts by how many states the bets would have to move."
  ),
  intervals = "The items of study 1 are its six stories; so few make wide intervals.",
  methods = c(
    paste(
      "- **Study 1, contrasts.** Paired t tests and equivalence tests on the mean difference of",
      "each story. A contrast is *equivalent* if it is within the margin by the equivalence test,",
      "else it *holds* or is *reversed* with p (BH) below .05, else it is *undecided*: that a test",
      "finds nothing does not show that nothing is there. One that is the same for every story has",
      "no test and is judged by its size. People's *cancelled* is as published, from one-tailed",
      "tests; their bets are not public, so that equivalence cannot be tested. A decided contrast",
      "agrees if it holds where people's does and not where theirs is cancelled; chance is what",
      "outcomes dealt out at random would give. Cancellation is paired by story, and its p are",
      "adjusted (BH) over its five indices."
    ),
    paste(
      "- **Study 1, analysis of variance.** Only cells with said \u2264 access exist, so the",
      "design is incomplete and the interaction has one degree of freedom. Each factor is tested",
      "beside the other (Type II). A participant number only labels rows of a language model's",
      "trials and is not a random effect. Stories are the items.", item_tests_method
    )
  ),
  people = paste(
    "No individual bets are public for study 1; the published tests stand in for them, quoted from",
    "secondary sources that disagree on which of the contrasts of cell 3/1 has t = 13.1 and which",
    "17.1."
  ),
  fitted = paste(
    "The speaker's rationality alpha, the base rate of the property that the listener starts",
    "from, and the share of the bets that is spread evenly over all states (error), by minimal",
    "divergence of the listener's beliefs from the bets, scaled to 100 %. In the paper alpha is",
    "3.4 and the base rate .62, without error. In the theory rsa all stories share one base rate;",
    "in rsa_elicited each story has the prior that the model itself gave for it, and no base rate",
    "is fitted. The interval by story says what other stories would give; that by condition, from",
    "fits without one of the six cells each, how far it reaches that the listener is only about",
    "right."
  ),
  agreement = list(study1_agreement = "Study 1: mean bets, generated against scored.")
)

cell_name <- function(access, observe) sprintf("%d/%d", access, observe)

#' Findings of study 1, one sentence a model and experiment, all from the tables, named by the
#' model's label.
findings <- function(tables) {
  distances <- tables$distances
  if (is.null(distances) || nrow(distances) == 0L) return(no_answer)
  groups <- unique(distances[c("label", "experiment")])
  said <- vapply(seq_len(nrow(groups)), function(i) {
    mine <- function(table) {
      here <- table$label == groups$label[i] & table$experiment == groups$experiment[i]
      table[here, , drop = FALSE]
    }
    paste0(
      sprintf("%s: ", in_experiment[[groups$experiment[i]]]), sentence_favourites(mine(distances)),
      sentence_cancellation(mine(tables$cancellation)), sentence_contrasts(mine(tables$contrasts)),
      sentence_knowledge(mine(tables$knowledge)), "."
    )
  }, character(1L))
  stats::setNames(said, groups$label)
}

#' A row for each model and experiment, for the table of all models.
headline <- function(tables) {
  if (!isTRUE(nrow(tables$distances) > 0L)) return(NULL)
  groups <- unique(tables$distances[c("label", "experiment")])
  bind(lapply(seq_len(nrow(groups)), function(i) {
    mine <- function(table) {
      here <- table$label == groups$label[i] & table$experiment == groups$experiment[i]
      table[here, , drop = FALSE]
    }
    rsa <- mine(tables$distances)
    rsa <- rsa[rsa$reference == "rsa" & !is.na(rsa$jsd_bits), , drop = FALSE]
    index <- mine(tables$cancellation)
    index <- index[index$filter == "all answers" & index$word == "two", , drop = FALSE][1L, ]
    planned <- contrast_agreement(mine(tables$contrasts))
    data.frame(
      groups[i, ], "favourite as RSA (cells)" = sprintf(
        "%d of %d", sum(rsa$same_favourite, na.rm = TRUE), nrow(rsa)
      ),
      "JSD to RSA (bits)" = show_number(mean_or_na(rsa$jsd_bits), 3),
      "cancellation of \"two\" (points)" = show_interval(
        index$index, index$ci_low, index$ci_high, 1
      ),
      "decided contrasts as in people" = sprintf("%d of %d", planned$agree, planned$decided),
      check.names = FALSE
    )
  }))
}

contrast_agreement <- function(rows) {
  decided_agreement(
    rows$same_pattern, rows$model_pattern == "holds", rows$human_pattern == "holds"
  )
}

#' Distances from the RSA listener by cell: no bets of people are public.
conditions <- function(tables) {
  condition_distances(
    tables$cells, reference_rows(tables$cells, "rsa"), c("access", "observe"), "bet_normalised",
    "state", function(row) {
      sprintf("saw %d, said %d", as.integer(row$access), as.integer(row$observe))
    },
    function(row) list(access = as.integer(row$access), observe = as.integer(row$observe)),
    "the RSA listener"
  )
}

#' Who comes closest to people in the planned contrasts, and in which of these no one does.
closest <- function(tables) {
  rows <- tables$contrasts
  planned <- by_experiment(rows[is_model(rows), , drop = FALSE], sentences_planned)
  joined(planned, nowhere_sentences(conditions(tables)))
}

sentences_planned <- function(mine) {
  counts <- lapply(split(mine, mine$label), contrast_agreement)
  agree <- vapply(counts, function(one) as.numeric(one$agree), numeric(1L))
  decided <- vapply(counts, function(one) as.numeric(one$decided), numeric(1L))
  if (all(decided == 0)) return("No planned contrast is decided for any model.")
  best <- names(agree)[agree == max(agree)]
  contrast <- sprintf(
    "saw %d, said %d: %d \u2212 %d", mine$access, mine$observe, mine$state_a, mine$state_b
  )
  same <- tapply(mine$same_pattern %in% TRUE, factor(contrast, unique(contrast)), any)
  none <- names(same)[!same]
  one <- length(agree) == 1L
  c(
    if (!one) sprintf(
      "Closest to people by the planned contrasts: %s, %d as in people, of %s decided.",
      few_names(best), as.integer(max(agree)), paste(unique(decided[best]), collapse = " or ")
    ),
    if (length(none) == 0L) {
      sprintf(
        "Each of the %d planned contrasts comes out as in people%s.", length(same),
        if (one) "" else " in some model"
      )
    } else {
      sprintf(
        "%d of %d planned contrasts come out as in people %s: %s.", length(none), length(same),
        if (one) "not at all, or undecided" else "in no model (they differ, or are undecided)",
        few_parts(none)
      )
    }
  )
}

#' What each figure shows, in words, by its name.
figure_results <- function(tables) {
  after_two <- function(rows) {
    bet <- function(access) {
      at <- rows$state == 3 & rows$observe == 2 & rows$access == access
      rows[at, , drop = FALSE][1L, ]
    }
    if (is.na(bet(2)$bet) || is.na(bet(3)$bet)) return("")
    shown <- function(row) show_interval(row$bet, row$ci_low, row$ci_high, 1)
    sprintf(
      "after \"two\" the bet on all 3 is %s %% where the speaker saw 2, %s %% where all 3",
      shown(bet(2)), shown(bet(3))
    )
  }
  list(
    study1_bets = said_of_each(tables$distances, sentence_favourites),
    study1_state3_by_access = said_of_each(tables$cells, after_two),
    study1_contrasts = said_of_each(tables$contrasts, sentence_contrasts),
    study1_knowledge = said_of_each(tables$knowledge, sentence_knowledge),
    study1_agreement = said_of_agreement(tables$agreement),
    study1_scoring_methods = said_of_scoring(tables$scoring_methods)
  )
}

sentence_favourites <- function(rows) {
  rsa <- rows[rows$reference == "rsa" & !is.na(rows$jsd_bits), , drop = FALSE]
  sprintf(
    "the favourite state is that of the RSA listener in %d of %d cells (mean JSD %s bits)",
    sum(rsa$same_favourite, na.rm = TRUE), nrow(rsa), show_number(mean_or_na(rsa$jsd_bits), 3)
  )
}

sentence_cancellation <- function(rows) {
  wanted <- rows$filter == "all answers" & rows$word == "two" & !is.na(rows$index)
  rows <- rows[wanted, , drop = FALSE]
  if (nrow(rows) == 0L) return("")
  direction <- if (is.na(rows$ci_low[1L])) {
    "no interval can be given"
  } else if (rows$ci_low[1L] > 0) {
    "the reading \"not all\" weakens when the speaker has not seen everything, as RSA predicts"
  } else if (rows$ci_high[1L] < 0) {
    "the reading \"not all\" gets stronger with less access, against RSA"
  } else {
    "its interval includes 0: no reliable cancellation"
  }
  sprintf(
    "; cancellation index for \"two\" %s points (RSA %s): %s",
    show_interval(rows$index[1L], rows$ci_low[1L], rows$ci_high[1L], 1),
    show_number(rows$rsa[1L], 1), direction
  )
}

sentence_contrasts <- function(rows) {
  found <- contrast_agreement(rows)
  untested <- sum(is.na(rows$model_pattern))
  undecided <- nrow(rows) - found$decided - untested
  if (untested == nrow(rows)) {
    return(sprintf("; none of the %d planned contrasts can be tested", untested))
  }
  paste0(
    if (found$decided == 0L) {
      "; no planned contrast is decided"
    } else {
      sprintf(
        "; %d of %d decided contrasts are as in people (by chance %s)", found$agree,
        found$decided, show_number(found$chance, 1)
      )
    },
    if (undecided > 0L) sprintf(", %d are undecided", undecided),
    if (untested > 0L) sprintf(", %d cannot be tested", untested)
  )
}

sentence_knowledge <- function(rows) {
  rows <- rows[!is.na(rows$p_knows), , drop = FALSE]
  if (nrow(rows) == 0L) return("")
  sprintf(
    "; P(\"the speaker knows exactly\") is %s",
    toString(sprintf("%s with access %d", show_number(rows$p_knows), rows$access))
  )
}

#' Each model's own prior of every story, and what the RSA listener of the paper makes of it.
#'
#' @param fits The table `study1_fits.csv`: rows of kind prior, prediction and flips.
#' @param cells The table of cells, with the listener's rows of the paper.
#' @param origins As `mark_labels` takes them.
show_own_priors <- function(fits, cells, origins) {
  if (!isTRUE(any(fits$kind == "prior"))) return(invisible(NULL))
  fits$condition <- ifelse(is.na(fits$condition), "", fits$condition)
  marked <- mark_labels(fits, origins)
  cat("\n\n## Each model's own prior\n\n")
  cat(own_prior_text, "\n\n")
  doubted <- own_prior_doubts(marked)
  if (length(doubted) > 0L) cat(html_block(paragraphs(doubted, "note")))
  cat(show_table(own_prior_flips(marked, cells), paste(
    "The RSA listener of the paper (alpha 3.4) with each model's own prior of every story:",
    "mean belief in percent over the stories, with its interval by story, and of how many stories",
    "the favourite is another than with the base rate of .62."
  )))
  cat(show_table(own_prior_fit(marked), paste(
    "How far each model's bets are from that listener, with its own priors and with the base rate",
    "of .62: root mean square difference over stories, cells and states, in points."
  )))
  cat(show_table(own_prior_stories(marked), paste(
    "What each model expects of every story before anything is said, in percent: its four bets,",
    "scaled to 100 %. All stories: the mean, with its interval by story."
  ), fold = TRUE))
}

own_prior_text <- paste(
  "Experiment 2 also shows each story without the utterance and asks for the four bets. RSA's",
  "belief depends on this prior: with a base rate of .9, which \"almost always\" suggests, cells",
  "3/1 and 3/2 favour state 3. Where the listener with a model's own priors has another favourite,",
  "a model that answers otherwise than the RSA row of the sections above may still reason as the",
  "listener does. Priors whose options got little mass count here; a note below the fit in the",
  "section above says of how many stories, and rows are flagged (`auxiliary_low_option_mass`)."
)

#' Which models' priors are no beliefs about the stories, a sentence each.
own_prior_doubts <- function(fits) {
  rows <- fits[fits$kind == "prior" & !nzchar(fits$condition), , drop = FALSE]
  rows <- rows[!duplicated(rows$label), , drop = FALSE]
  said <- vapply(strsplit(rows$note, "; ", fixed = TRUE), function(parts) {
    paste(grep("^(degenerate|the elicited prior)", parts, value = TRUE), collapse = "; ")
  }, character(1L))
  doubted <- nzchar(said)
  sprintf(paste(
    "%s: %s. What the listener makes of such priors, the flips among it, says nothing of how this",
    "model reasons."
  ), rows$label[doubted], said[doubted])
}

#' "47.1 [40.0, 54.2]" in percent.
show_share <- function(row) {
  show_interval(100 * row$estimate, 100 * row$low, 100 * row$high, 1)
}

own_prior_flips <- function(fits, cells) {
  rows <- fits[fits$kind == "prediction" & nzchar(fits$condition), , drop = FALSE]
  paper <- cells[cells$label == "rsa" & cells$experiment == "reference", , drop = FALSE]
  own_prior_named(by_group(rows, c("label", "condition"), function(piece) {
    at <- as.integer(strsplit(piece$condition[1L], ", ", fixed = TRUE)[[1L]])
    flip <- fits[
      fits$kind == "flips" & fits$label == piece$label[1L] & fits$condition == piece$condition[1L],
    ]
    here <- paper[paper$access == at[1L] & paper$observe == at[2L], , drop = FALSE]
    data.frame(
      Cell = cell_name(at[1L], at[2L]), Stories = piece$n[1L],
      t(stats::setNames(
        show_share(piece[match(paste("state", 0:3), piece$parameter), ]), paste("State", 0:3)
      )),
      "Favourite (.62)" = favourite_state(here$state, here$bet),
      "Favourite (own)" = favourite_state(
        as.integer(sub("state ", "", piece$parameter, fixed = TRUE)), piece$estimate
      ),
      "Stories that flip" = sprintf("%d of %d", as.integer(flip$estimate[1L]), piece$n[1L]),
      Which = show_text(flip$note[1L]), check.names = FALSE
    )
  }))
}

favourite_state <- function(state, value) {
  if (length(value) == 0L || anyNA(value)) return("\u2013")
  show_number(state[which.max(value)], 0)
}

own_prior_fit <- function(fits) {
  rows <- fits[grepl("^rmse_", fits$parameter) & fits$kind == "prediction", , drop = FALSE]
  own_prior_named(by_group(rows, c("label", "experiment"), function(piece) {
    value <- function(name) show_number(100 * piece$estimate[piece$parameter == name][1L], 1)
    data.frame(
      Stories = piece$n[1L], "With its own priors" = value("rmse_elicited"),
      "With the base rate .62" = value("rmse_declared"), check.names = FALSE
    )
  }))
}

own_prior_stories <- function(fits) {
  rows <- fits[fits$kind == "prior", , drop = FALSE]
  rows$condition <- ifelse(nzchar(rows$condition), rows$condition, "all stories")
  own_prior_named(by_group(rows, c("label", "condition"), function(piece) {
    piece <- piece[match(paste("state", 0:3), piece$parameter), , drop = FALSE]
    data.frame(
      t(stats::setNames(show_share(piece), paste("State", 0:3))),
      "Things of 3" = show_number(sum(0:3 * piece$estimate)), Note = show_text(piece$note[1L]),
      check.names = FALSE
    )
  }))
}

#' The keys of a table as readers know them.
own_prior_named <- function(table) {
  if ("experiment" %in% names(table)) table$experiment <- show_experiment(table$experiment)
  if ("Cell" %in% names(table)) table$condition <- NULL
  names(table) <- sub("^label$", "Model", names(table))
  names(table) <- sub("^experiment$", "Experiment", names(table))
  names(table) <- sub("^condition$", "Story", names(table))
  table
}
