# Study 2, politeness: tables and figures from results/analysis-ready/study2.csv.
#
# Sourced by scripts/analysis.R, after the libraries in scripts/lib and the files beside this one.

goals <- c("informative", "social", "both")
goal_states <- expand.grid(state = 0:3, goal = goals, stringsAsFactors = FALSE)
utterances <- data.frame(
  frame = rep(c("was", "wasn't"), each = 4L),
  assessment = rep(c("terrible", "bad", "good", "amazing"), 2L)
)
utterances$column <- paste0("prob_", sub("'", "", utterances$frame), "_", utterances$assessment)
utterances$text <- paste(utterances$frame, utterances$assessment)
negated <- utterances$frame == "wasn't"
chosen <- paste0("u", seq_len(nrow(utterances)))

study2_text <- c(
  "model_key", "model_name", "variant", "Participant_ID", "Domain", "Goal_simplified", "Was_Wasnt",
  "Assessment", "response_timestamp", "prompt_id", "exp1_status", "exp2_status", "quality_flags"
)
study2_numbers <- c("replication", "State_number", utterances$column, "option_mass", paste0("sampled_", utterances$column),
  "sampled_bound"
)

#' The frame however its apostrophe is written: "was" or "wasn't"; anything else is NA.
plain_frame <- function(frame) {
  unname(c(was = "was", wasnt = "wasn't")[gsub("[^a-z]", "", tolower(frame))])
}

#' The number of the utterance that each generated answer is, or NA.
said_utterance <- function(table) {
  match(paste(plain_frame(table$Was_Wasnt), tolower(table$Assessment)), utterances$text)
}

#' Which rows count: answered, with one of the eight utterances or all eight probabilities.
usable_choices <- function(table, experiment) {
  answered(table, experiment) & if (experiment == "exp1") {
    !is.na(said_utterance(table))
  } else {
    all_within(table[utterances$column], 0, 1)
  }
}

#' One row a usable answer: u1-u8 are the eight utterances, 0/1 if generated, probabilities if
#' scored.
stack_choices <- function(table) {
  base <- table[, c(model_keys, "replication", "prompt_id")]
  base$participant <- table$Participant_ID
  base$item <- table$Domain
  base$goal <- tolower(table$Goal_simplified)
  base$state <- table$State_number
  said <- said_utterance(table)
  one_hot <- function() {
    choice <- matrix(0, nrow(table), length(chosen))
    choice[cbind(seq_along(said), said)[!is.na(said), , drop = FALSE]] <- 1
    choice[is.na(said), ] <- NA
    choice
  }
  part <- function(experiment, choice) {
    rows <- base
    rows$experiment <- rep(experiment, nrow(rows))
    rows[chosen] <- as.data.frame(as.matrix(choice))
    rows[usable_choices(table, experiment), , drop = FALSE]
  }
  bind(list(part("exp1", one_hot()), part("exp2", table[utterances$column])))
}

choice_matrix <- function(rows) as.matrix(rows[chosen])

choice_seed <- function(seed, piece) {
  key_seed(seed, piece$label[1L], piece$experiment[1L], piece$goal[1L], piece$state[1L])
}

#' The eight reference probabilities of a goal and state, or NA.
utterance_reference <- function(reference, source, goal, state) {
  rows <- reference[reference$source == source & reference$goal == goal &
    reference$state == state, , drop = FALSE]
  rows$probability[match(utterances$text, paste(rows$frame, rows$assessment))]
}

people_names <- c(
  human = "people (Yoon et al. 2020)", polite_rsa = "polite RSA, fitted to these people"
)

people_keys <- function(source, rows) {
  data.frame(
    label = rep(source, rows), model_key = source, model_name = people_names[[source]],
    variant = NA, experiment = "reference"
  )
}

#' Number of people behind a reference row; NA for a model of people.
people_total <- function(reference, source, goal, state) {
  rows <- reference[reference$source == source & reference$goal == goal &
    reference$state == state, , drop = FALSE]
  if (nrow(rows) == 0L) NA_real_ else rows$total[1L]
}

#' Proportion of each of the eight utterances, per goal and state: Wilson intervals for counts,
#' bootstrap intervals over prompts for scored probabilities.
utterance_cells <- function(choices, reference, draws, seed) {
  models <- by_group(choices, c(model_keys, "experiment", "goal", "state"), function(piece) {
    values <- choice_matrix(piece)
    total <- nrow(values)
    generated <- piece$experiment[1L] == "exp1"
    if (generated) {
      limits <- wilson(colSums(values), total)
    } else {
      means <- bootstrap_means(values, piece$prompt_id, draws, choice_seed(seed, piece))
      limits <- as.data.frame(t(vapply(seq_along(chosen), function(i) {
        interval_or_na(means[, i], piece$prompt_id)
      }, numeric(2L))))
      names(limits) <- c("low", "high")
    }
    data.frame(
      frame = utterances$frame, assessment = utterances$assessment,
      n_prompts = length(unique(piece$prompt_id)), n = if (generated) colSums(values) else NA_real_,
      total = total, proportion = colMeans(values), ci_low = limits$low, ci_high = limits$high,
      note = if (generated) "" else sample_note(piece$prompt_id), row.names = NULL
    )
  })
  people <- lapply(names(people_names), people_cells, reference = reference)
  cells <- bind(c(list(models), people))
  cells$chance <- 1 / nrow(utterances)
  for (source in names(people_names)) {
    keys <- c("goal", "state", "frame", "assessment")
    target <- reference[reference$source == source, , drop = FALSE]
    target[[source]] <- target$probability
    cells <- look_up(cells, target, keys, source)
  }
  cells
}

people_cells <- function(source, reference) {
  rows <- reference[reference$source == source, , drop = FALSE]
  if (nrow(rows) == 0L) return(NULL)
  limits <- wilson(rows$n, rows$total)
  cbind(people_keys(source, nrow(rows)), data.frame(
    goal = rows$goal, state = rows$state, frame = rows$frame, assessment = rows$assessment,
    n = rows$n, total = rows$total, proportion = rows$probability, ci_low = limits$low,
    ci_high = limits$high, note = ""
  ))
}

#' Rate of negated utterances ("wasn't ...") per goal and state.
negation_rates <- function(choices, reference, draws, seed) {
  models <- by_group(choices, c(model_keys, "experiment", "goal", "state"), function(piece) {
    rate <- rowSums(choice_matrix(piece)[, negated, drop = FALSE])
    generated <- piece$experiment[1L] == "exp1"
    if (generated) {
      limits <- unlist(wilson(sum(rate), length(rate)))
    } else {
      means <- bootstrap_means(rate, piece$prompt_id, draws, choice_seed(seed, piece))
      limits <- interval_or_na(means[, 1L], piece$prompt_id)
    }
    data.frame(
      n_prompts = length(unique(piece$prompt_id)), n = if (generated) sum(rate) else NA_real_,
      total = length(rate), negation = mean(rate), ci_low = limits[[1L]], ci_high = limits[[2L]],
      note = if (generated) "" else sample_note(piece$prompt_id)
    )
  })
  people <- bind(lapply(names(people_names), function(source) {
    bind(lapply(seq_len(nrow(goal_states)), function(i) {
      goal <- goal_states$goal[i]
      state <- goal_states$state[i]
      rate <- sum(utterance_reference(reference, source, goal, state)[negated])
      total <- people_total(reference, source, goal, state)
      limits <- wilson(rate * total, total)
      cbind(people_keys(source, 1L), data.frame(
        goal = goal, state = state, n = round(rate * total), total = total, negation = rate,
        ci_low = limits$low, ci_high = limits$high, note = ""
      ))
    }))
  }))
  bind(list(models, people))
}

binomial_plan <- data.frame(
  test = c(
    "\"wasn't terrible\" at 0 hearts, goal both (primary)",
    "\"wasn't amazing\" at 0 hearts, goal both (original study)",
    "\"amazing\", was or wasn't, at 1 heart, goal both (original study)"
  ),
  state = c(0, 0, 1), assessment = c("terrible", "amazing", "amazing"),
  frame = c("wasn't", "wasn't", NA), null = c(1 / 8, 1 / 8, 1 / 4)
)

wanted_options <- function(plan) {
  utterances$assessment == plan$assessment & (is.na(plan$frame) | utterances$frame == plan$frame)
}

#' The three binomial tests on single cells.
binomial_tests <- function(choices, reference, draws, seed) {
  models <- by_group(choices, c(model_keys, "experiment"), function(piece) {
    rows <- bind(lapply(seq_len(nrow(binomial_plan)), function(i) {
      plan <- binomial_plan[i, ]
      cell <- piece[piece$goal == "both" & piece$state == plan$state, , drop = FALSE]
      hits <- rowSums(choice_matrix(cell)[, wanted_options(plan), drop = FALSE])
      if (nrow(cell) == 0L) return(binomial_row(plan, NA, 0, "no usable answer in this cell"))
      if (piece$experiment[1L] == "exp1") return(binomial_row(plan, sum(hits), length(hits), ""))
      means <- bootstrap_means(hits, cell$prompt_id, draws, choice_seed(seed, cell))
      limits <- interval_or_na(means[, 1L], cell$prompt_id)
      row <- binomial_row(
        plan, NA, length(hits),
        notes("scored probability: an interval in place of a test", sample_note(cell$prompt_id))
      )
      row$proportion <- mean(hits)
      row$ci_low <- limits[1L]
      row$ci_high <- limits[2L]
      row
    }))
    rows$p_bh <- stats::p.adjust(rows$p, "BH")
    rows
  })
  people <- bind(lapply(seq_len(nrow(binomial_plan)), function(i) {
    plan <- binomial_plan[i, ]
    total <- people_total(reference, "human", "both", plan$state)
    if (is.na(total)) return(NULL)
    share <- sum(utterance_reference(reference, "human", "both", plan$state)[wanted_options(plan)])
    binomial_row(plan, round(share * total), total, "")
  }))
  if (nrow(people) > 0L) {
    people$p_bh <- stats::p.adjust(people$p, "BH")
    people <- cbind(people_keys("human", nrow(people)), people)
  }
  bind(list(models, people))
}

binomial_row <- function(plan, n, total, note) {
  row <- data.frame(
    test = plan$test, null = plan$null, n = as.numeric(n), total = total,
    proportion = NA_real_, ci_low = NA_real_, ci_high = NA_real_, p = NA_real_, note = note
  )
  if (!is.na(n) && total > 0) {
    limits <- wilson(n, total)
    row$proportion <- n / total
    row$ci_low <- limits$low
    row$ci_high <- limits$high
    row$p <- stats::binom.test(n, total, plan$null)$p.value
  }
  row
}

#' Distance from the human proportions over goal x state x utterance, and indirectness per goal.
human_comparison <- function(choices, reference, draws, seed) {
  models <- by_group(choices, c(model_keys, "experiment"), function(piece) {
    observed <- lapply(seq_len(nrow(goal_states)), function(i) {
      cell <- piece[piece$goal == goal_states$goal[i] & piece$state == goal_states$state[i], ]
      if (nrow(cell) == 0L) return(NULL)
      list(
        mean = colMeans(choice_matrix(cell)), n = nrow(cell),
        boot = bootstrap_means(
          choice_matrix(cell), cell$prompt_id, draws, choice_seed(seed, cell)
        )
      )
    })
    compare_cells(observed, reference, piece$experiment[1L] == "exp1", draws, seed)
  })
  people <- lapply(names(people_names), function(source) {
    observed <- lapply(seq_len(nrow(goal_states)), function(i) {
      row <- utterance_reference(reference, source, goal_states$goal[i], goal_states$state[i])
      if (anyNA(row)) NULL else list(mean = row, n = NA, boot = NULL)
    })
    row <- compare_cells(observed, reference, FALSE, draws, seed)
    if (source == "human") {
      row[c("jsd_bits", "jsd_floor_bits", "rmse", "r")] <- NA_real_
      row$note <- "the people themselves: indirectness only"
    } else {
      row$note <- notes(row$note, "a cognitive model fitted to these people")
    }
    cbind(people_keys(source, 1L), row)
  })
  bind(c(list(models), people))
}

compare_cells <- function(observed, reference, sampled, draws, seed) {
  target <- lapply(seq_len(nrow(goal_states)), function(i) {
    utterance_reference(reference, "human", goal_states$goal[i], goal_states$state[i])
  })
  both <- which(!vapply(observed, is.null, logical(1L)) & !vapply(target, anyNA, logical(1L)))
  out <- data.frame(
    n_cells = 8 * length(both),
    n_answers = sum(vapply(observed[both], function(cell) as.numeric(cell$n), numeric(1L))),
    jsd_bits = NA_real_, jsd_low = NA_real_, jsd_high = NA_real_, jsd_floor_bits = NA_real_,
    rmse = NA_real_, rmse_low = NA_real_, rmse_high = NA_real_,
    r = NA_real_, r_low = NA_real_, r_high = NA_real_
  )
  for (goal in goals) out[[paste0("indirectness_", goal)]] <- indirectness(observed, goal)
  out$note <- ""
  if (length(both) == 0L) {
    out$note <- "no cell to compare"
    return(out)
  }
  human <- unlist(target[both])
  flat <- unlist(lapply(observed[both], function(cell) unname(cell$mean)))
  out$jsd_bits <- mean(mapply(function(cell, row) jsd_bits(cell$mean, row), observed[both],
    target[both]))
  out$rmse <- sqrt(mean((flat - human)^2))
  out$r <- correlation(flat, human)
  out$jsd_floor_bits <- mean(vapply(both, function(i) {
    goal <- goal_states$goal[i]
    state <- goal_states$state[i]
    size <- if (sampled) observed[[i]]$n else Inf
    people <- people_total(reference, "human", goal, state)
    jsd_floor(target[[i]], size, people, 400L, key_seed(seed, "floor", goal, state))
  }, numeric(1L)))
  if (!is.null(observed[[both[1L]]]$boot)) {
    boot <- do.call(cbind, lapply(observed[both], function(cell) cell$boot))
    jsd <- rowMeans(do.call(cbind, Map(function(cell, row) jsd_rows(cell$boot, row),
      observed[both], target[both])))
    gaps <- boot - matrix(human, draws, length(human), byrow = TRUE)
    out[c("jsd_low", "jsd_high")] <- percentile_interval(jsd)
    out[c("rmse_low", "rmse_high")] <- percentile_interval(sqrt(rowMeans(gaps^2)))
    out[c("r_low", "r_high")] <- percentile_interval(apply(boot, 1L, correlation, human))
  }
  if (length(both) < nrow(goal_states)) {
    out$note <- sprintf("only %d of the 96 cells have answers", 8L * length(both))
  }
  out
}

#' Negation rate at 0 and 1 hearts minus that at 2 and 3; NA unless both halves have answers.
indirectness <- function(observed, goal) {
  rate <- vapply(0:3, function(state) {
    cell <- observed[[which(goal_states$goal == goal & goal_states$state == state)]]
    if (is.null(cell)) NA_real_ else sum(cell$mean[negated])
  }, numeric(1L))
  if (all(is.na(rate[1:2])) || all(is.na(rate[3:4]))) return(NA_real_)
  mean(rate[1:2], na.rm = TRUE) - mean(rate[3:4], na.rm = TRUE)
}

#' The columns of each table, in order.
study2_columns <- function() {
  list(
    cells = c(
      model_keys, "experiment", "goal", "state", "frame", "assessment", "n_prompts", "n", "total",
      "proportion", "ci_low", "ci_high", "chance", "human", "polite_rsa", "note"
    ),
    negation = c(
      model_keys, "experiment", "goal", "state", "n_prompts", "n", "total", "negation", "ci_low",
      "ci_high", "note"
    ),
    glmer = c(
      model_keys, "kind", "term", "estimate", "se", "statistic", "df", "p", "n", "formula",
      "singular", "converged", "note"
    ),
    tests = c(
      model_keys, "experiment", "test", "null", "n", "total", "proportion", "ci_low", "ci_high",
      "p", "p_bh", "note"
    ),
    human_comparison = c(
      model_keys, "experiment", "n_cells", "n_answers", "jsd_bits", "jsd_low", "jsd_high",
      "jsd_floor_bits", "rmse", "rmse_low", "rmse_high", "r", "r_low", "r_high",
      "indirectness_informative", "indirectness_social", "indirectness_both", "note"
    ),
    agreement = agreement_columns,
    quality = quality_columns
  )
}

#' All tables of study 2 as a named list.
study2_tables <- function(table, reference, draws, seed, generation) {
  table <- add_label(table)
  choices <- stack_choices(table)
  message(sprintf("study 2: %d rows, %d usable answers", nrow(table), nrow(choices)))
  list(
    cells = utterance_cells(choices, reference, draws, seed),
    negation = negation_rates(choices, reference, draws, seed),
    glmer = negation_models(choices),
    tests = binomial_tests(choices, reference, draws, seed),
    human_comparison = human_comparison(choices, reference, draws, seed),
    agreement = experiment_agreement(table, generation, seed),
    quality = quality_table(
      table,
      list(exp1 = usable_choices(table, "exp1"), exp2 = usable_choices(table, "exp2")),
      table$option_mass
    )
  )
}

#' What scripts/analysis.R calls: read, analyse, write.
analyse <- function(input, output, params) {
  table <- read_ready(input[["ready"]], study2_text, study2_numbers)
  reference <- read_reference(input[["reference"]])
  reference$frame <- plain_frame(reference$frame)
  tables <- study2_tables(
    table, reference,
    draws = params[["bootstrap_draws"]], seed = params[["seed"]],
    generation = params[["generation"]]
  )
  tables$calibration <- calibration_cells(tables$cells, add_label(table))
  tables <- lapply(tables, mark_labels, origins = params[["origins"]])
  columns <- study2_columns()
  for (name in names(columns)) {
    write_result(tables[[name]], output[[name]], columns[[name]])
  }
  shown <- tables$cells$label[is_model(tables$cells)]
  figure <- function(plot, name, width, height, notes = notes_below(tables$cells, params)) {
    save_figure(plot, output[[name]], width, height, notes)
  }
  figure(plot_utterances(tables$cells), "utterances", 11, grown(8.5, shown))
  figure(plot_negation(tables$negation), "negated", 9.5, grown(5, shown))
  height <- 2.2 + 3.2 * max(1L, length(unique(shown)))
  figure(plot_scatter(tables$cells, tables$human_comparison), "scatter", 8, height)
  figure(
    plot_agreement(tables$calibration), "calibration", 7, grown(7.5, shown),
    notes_compared(tables$calibration, params)
  )
}
