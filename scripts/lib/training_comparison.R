# Checkpoints of a recipe on held-out items: rates, paired tests, seeds, kinds of failure. Base R;
# source after common.R, statistics.R and inference.R. docs/training.md explains the tables. Nothing
# here compares a rate with a target: targets are for readers.

rate_columns <- c(
  "evaluated", "model", "stage", "seed", "shots", "part", "type", "measure", "items", "right",
  "rate", "low", "high", "unanswered", "truncated"
)
test_table_columns <- c(
  "measure", "part", "seed", "comparison", "from", "to", "items", "from_rate", "to_rate", "gained",
  "lost", "difference", "ci_low", "ci_high", "p", "p_bh", "cohen_h", "note"
)
seed_columns <- c(
  "measure", "part", "comparison", "seeds", "mean", "sd", "lowest", "highest", "ci_low", "ci_high",
  "each", "note"
)
error_columns <- c(
  "evaluated", "model", "stage", "seed", "shots", "type", "held_out", "kind", "items", "failures",
  "share"
)
loss_columns <- c(
  "stage", "seed", "steps", "first_loss", "last_loss", "seconds", "reward_margin",
  "reward_accuracy"
)

#' Kinds of failure, as grace.evaluation.checkers has them.
failure_kinds <- c(
  "empty", "truncated", "refusal", "another task", "wrong format", "wrong content"
)
evaluated_parts <- c("all", "trained types", "held-out types")

#' Stages in the order of training: base, SFT, DPO, online rounds; those before the rounds always.
stages_in_order <- function(stages) {
  rounds <- unique(grep("^online", stages, value = TRUE))
  c("base", "sft", "dpo", rounds[order(as.integer(sub("online", "", rounds, fixed = TRUE)))])
}

#' What stages are called: "SFT", "online 2".
stage_names <- function(stages) {
  known <- c(base = "base", sft = "SFT", dpo = "DPO")
  ifelse(stages %in% names(known), known[stages], sub("^online", "online ", stages))
}

#' What is compared with what in a seed, named: each stage with the one before it among these, then
#' all after SFT with the base.
stage_steps <- function(stages) {
  order <- stages_in_order(stages)
  pairs <- c(
    Map(c, utils::head(order, -1L), order[-1L], USE.NAMES = FALSE),
    lapply(order[-(1:2)], function(stage) c("base", stage))
  )
  stats::setNames(pairs, vapply(pairs, function(pair) {
    paste(stage_names(pair), collapse = " \u2192 ")
  }, character(1L)))
}

#' One evaluation as a table, a row an item, from its JSON.
read_evaluation <- function(path) {
  found <- jsonlite::fromJSON(path, simplifyVector = FALSE)
  stage <- sub("-.*", "", found$evaluated)
  seed <- if (stage == "base") NA_integer_ else as.integer(sub(".*-", "", found$evaluated))
  value <- function(item, name) if (is.null(item[[name]])) NA else item[[name]]
  texts <- function(name) {
    vapply(found$items, function(item) as.character(value(item, name)), character(1L))
  }
  flags <- function(name) {
    vapply(found$items, function(item) as.logical(value(item, name)), logical(1L))
  }
  data.frame(
    evaluated = found$evaluated, model = found$model, stage = stage, seed = seed,
    shots = found$shots, item = texts("item"), type = texts("type"), held_out = flags("held_out"),
    strict = flags("strict"), loose = flags("loose"), kind = texts("kind"),
    stop_reason = texts("stop_reason")
  )
}

#' The items of a part.
of_part <- function(items, part) {
  switch(part,
    all = items,
    "trained types" = items[!items$held_out, , drop = FALSE],
    "held-out types" = items[items$held_out, , drop = FALSE]
  )
}

#' Rates of each model, strict and loose, over all items, trained and held-out types, and each type,
#' with Wilson's intervals. Items without a verdict are counted apart.
evaluation_rates <- function(items) {
  one <- function(piece, part, type) {
    if (nrow(piece) == 0L) return(NULL)
    bind(lapply(c("strict", "loose"), function(measure) {
      verdicts <- piece[[measure]][!is.na(piece[[measure]])]
      limits <- wilson(sum(verdicts), length(verdicts))
      data.frame(
        part = part, type = type, measure = measure, items = length(verdicts),
        right = sum(verdicts),
        rate = if (length(verdicts) > 0L) mean(verdicts) else NA_real_, limits,
        unanswered = sum(is.na(piece[[measure]])),
        truncated = sum(!piece$stop_reason %in% "stop")
      )
    }))
  }
  in_order(items, function(piece) {
    bind(c(
      lapply(evaluated_parts, function(part) one(of_part(piece, part), part, NA_character_)),
      lapply(sort(unique(piece$type)), function(type) {
        one(piece[piece$type == type, , drop = FALSE], "type", type)
      })
    ))
  })
}

#' `fn` of each evaluation, in the order given, after what says which it is.
in_order <- function(items, fn) {
  keys <- c("evaluated", "model", "stage", "seed", "shots")
  bind(lapply(unique(items$evaluated), function(name) {
    piece <- items[items$evaluated == name, , drop = FALSE]
    found <- fn(piece)
    if (is.null(found)) NULL else cbind(piece[rep(1L, nrow(found)), keys], found, row.names = NULL)
  }))
}

#' One verdict of two evaluations, by the items that both have; named by item.
paired_verdicts <- function(items, from, to, measure) {
  of <- function(name) {
    piece <- items[items$evaluated == name & !is.na(items[[measure]]), , drop = FALSE]
    if (anyDuplicated(piece$item)) {
      stop(sprintf(
        "evaluation/%s.json holds item %s twice, so that it cannot be paired. Delete the file.",
        name, piece$item[anyDuplicated(piece$item)]
      ), call. = FALSE)
    }
    stats::setNames(piece[[measure]], piece$item)
  }
  first <- of(from)
  second <- of(to)
  both <- intersect(names(first), names(second))
  data.frame(from = first[both], to = second[both], row.names = both)
}

#' The paired test of one step of one seed: McNemar's exact test (the two-sided binomial test of the
#' items whose verdict changed), the difference with its t interval by item, Cohen's h.
paired_test <- function(verdicts) {
  gained <- sum(!verdicts$from & verdicts$to)
  lost <- sum(verdicts$from & !verdicts$to)
  found <- test_columns(cbind(verdicts$to - verdicts$from), NA_real_)
  some <- nrow(verdicts) > 0L
  rate <- function(side) if (some) mean(verdicts[[side]]) else NA_real_
  data.frame(
    items = nrow(verdicts), from_rate = rate("from"), to_rate = rate("to"), gained = gained,
    lost = lost, difference = found$difference, ci_low = found$ci_low, ci_high = found$ci_high,
    p = if (some) mcnemar_exact(gained, lost) else NA_real_,
    cohen_h = if (some) cohen_h(rate("to"), rate("from")) else NA_real_,
    note = if (!some) {
      "no item with a verdict on both"
    } else if (gained + lost == 0L) {
      "no verdict changed"
    } else {
      ""
    }
  )
}

#' Every step of every seed, over all items, trained and held-out types; BH over the steps and seeds
#' of one measure and part.
evaluation_tests <- function(items) {
  seeds <- sort(unique(items$seed[!is.na(items$seed)]))
  there <- unique(items$evaluated)
  steps <- stage_steps(items$stage)
  name_of <- function(stage, seed) if (stage == "base") "base" else paste0(stage, "-", seed)
  bind(lapply(c("strict", "loose"), function(measure) {
    bind(lapply(evaluated_parts, function(part) {
      rows <- bind(lapply(seeds, function(seed) {
        bind(lapply(names(steps), function(comparison) {
          sides <- vapply(steps[[comparison]], name_of, character(1L), seed = seed)
          if (!all(sides %in% there)) return(NULL)
          verdicts <- paired_verdicts(of_part(items, part), sides[1L], sides[2L], measure)
          if (nrow(verdicts) == 0L && part != "all") return(NULL)
          data.frame(
            measure = measure, part = part, seed = seed, comparison = comparison,
            from = sides[[1L]], to = sides[[2L]], paired_test(verdicts)
          )
        }))
      }))
      if (nrow(rows) > 0L) rows$p_bh <- stats::p.adjust(rows$p, "BH")
      rows
    }))
  }))
}

#' What a step changes over training seeds: the mean of the seeds' differences, with each. A seed is
#' one draw, however many items: with three or more there is a t interval over seeds. Items are the
#' same in all seeds, and are never counted anew.
evaluation_seeds <- function(tests) {
  if (nrow(tests) == 0L) return(data.frame())
  tests$order <- match(
    tests$comparison, names(stage_steps(sub("-.*", "", c(tests$from, tests$to))))
  )
  found <- by_group(tests, c("measure", "part", "order"), function(piece) {
    cbind(comparison = piece$comparison[1L], over_seeds(piece$difference, piece$seed))
  })
  found[order(
    match(found$measure, c("strict", "loose")), match(found$part, evaluated_parts), found$order
  ), , drop = FALSE]
}

over_seeds <- function(differences, seeds) {
  known <- !is.na(differences)
  differences <- differences[known]
  count <- length(differences)
  out <- data.frame(
    seeds = count, mean = if (count > 0L) mean(differences) else NA_real_,
    sd = if (count > 1L) stats::sd(differences) else NA_real_,
    lowest = if (count > 0L) min(differences) else NA_real_,
    highest = if (count > 0L) max(differences) else NA_real_, ci_low = NA_real_, ci_high = NA_real_,
    each = each_seed(seeds[known], 100 * differences, "%+.1f"),
    note = few_seeds(count)
  )
  if (count < 3L) return(out)
  if (is_constant(differences)) {
    out$note <- "the same in every seed, so there is no interval"
    return(out)
  }
  half <- stats::qt(0.975, count - 1) * out$sd / sqrt(count)
  out$ci_low <- out$mean - half
  out$ci_high <- out$mean + half
  out
}

#' "1: +40.1; 2: +39.0", each seed's difference.
each_seed <- function(seeds, differences, form = "%+.4g") {
  differences[abs(differences) < 1e-9] <- 0
  paste(sprintf(paste0("%s: ", form), seeds, differences), collapse = "; ")
}

#' What too few training seeds mean.
few_seeds <- function(count) {
  if (count >= 3L) return("")
  sprintf(
    "%s: says nothing of the stage beyond %s", if (count == 1L) {
      "one training seed"
    } else {
      sprintf("%d training seeds", count)
    }, if (count == 1L) "this training" else "these trainings"
  )
}

#' How strictly wrong answers fail, by type: a row for each kind that there is.
evaluation_errors <- function(items) {
  in_order(items[!is.na(items$kind), , drop = FALSE], function(piece) {
    bind(lapply(sort(unique(piece$type)), function(type) {
      own <- piece[piece$type == type, , drop = FALSE]
      counts <- table(factor(own$kind, levels = failure_kinds))
      data.frame(
        type = type, held_out = own$held_out[1L], kind = names(counts), items = nrow(own),
        failures = as.vector(counts), share = as.vector(counts) / nrow(own)
      )
    }))
  })
}

#' A training's curve, its steps in order, from training_curve.csv.
read_curve <- function(path, stage, seed) {
  curve <- read_csv(path)
  for (name in setdiff(c("seconds", "reward_margin", "reward_accuracy"), names(curve))) {
    curve[[name]] <- rep(NA_real_, nrow(curve))
  }
  keep <- c("step", "loss", "seconds", "reward_margin", "reward_accuracy")
  for (name in keep) curve[[name]] <- as_number(curve[[name]], name, path)
  cbind(stage = rep(stage, nrow(curve)), seed = rep(as.integer(seed), nrow(curve)), curve[keep])
}

#' A row a training: its first and last loss, and DPO's margin at the end (means of the last tenth
#' of the steps).
training_losses <- function(curves) {
  bind(lapply(unique(paste(curves$stage, curves$seed)), function(which) {
    own <- curves[paste(curves$stage, curves$seed) == which, , drop = FALSE]
    last <- utils::tail(own, max(1L, nrow(own) %/% 10L))
    average <- function(name) if (all(is.na(last[[name]]))) NA_real_ else mean(last[[name]])
    data.frame(
      stage = own$stage[1L], seed = own$seed[1L], steps = max(own$step), first_loss = own$loss[1L],
      last_loss = average("loss"), seconds = utils::tail(own$seconds, 1L),
      reward_margin = average("reward_margin"), reward_accuracy = average("reward_accuracy")
    )
  }))
}

#' What trainings are called in figures and tables: "SFT 1", "DPO 2", "online 1, seed 2"; "base,
#' few-shot".
show_evaluated <- function(names) {
  stage <- sub("-.*", "", names)
  between <- ifelse(startsWith(stage, "online"), ", seed ", " ")
  shown <- paste0(stage_names(stage), between, sub(".*-", "", names))
  ifelse(names == "base-few-shot", "base, few-shot", ifelse(names == "base", "base", shown))
}
