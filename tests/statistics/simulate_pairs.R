# Pairs of models, components of variance and planned precision: model_comparison.R,
# variance_components.R and planned_precision.R of scripts/lib/.
for (name in c("variance_components", "planned_precision", "model_comparison")) {
  source(sprintf("scripts/lib/%s.R", name), local = TRUE)
}

none <- c(item = 0, wording = 0, both = 0, run = 0, by_run = 0, prompt = 0, draw = 0)

#' Answers of one model with these standard deviations: cells of an item have the item's effects,
#' `slope` is the spread of items x cells.
answers_with <- function(label, sd, items = 12, cells = 4, wordings = 1, replications = 1,
                         prompts = 1, draws = 1, mean = 0, slope = 0, sampled = TRUE) {
  sd <- c(sd, none)[names(none)]
  rows <- expand.grid(
    draw = seq_len(draws), prompt = seq_len(prompts), cell = seq_len(cells),
    item = seq_len(items), replication = seq_len(replications), wording = seq_len(wordings)
  )
  effect <- function(name, ...) {
    if (sd[[name]] == 0) return(0)
    number <- row_numbers(list(...))
    stats::rnorm(length(number$first), 0, sd[[name]])[number$number]
  }
  value <- mean + effect("item", rows$item) + effect("wording", rows$wording) +
    effect("both", rows$item, rows$wording) + effect("run", rows$wording, rows$replication) +
    effect("by_run", rows$item, rows$wording, rows$replication) +
    effect("prompt", rows$item, rows$wording, rows$cell, rows$prompt) +
    stats::rnorm(items * cells, 0, slope)[rows$item + items * (rows$cell - 1L)]
  data.frame(
    label = label, model_key = label, model_name = label, variant = paste0("w", rows$wording),
    experiment = if (sampled) "exp1" else "exp2", item = paste0("i", rows$item),
    cell = paste0("c", rows$cell), prompt = paste(rows$item, rows$cell, rows$wording, rows$prompt),
    replication = rows$replication, value = value + stats::rnorm(nrow(rows), 0, sd[["draw"]])
  )
}

#' Yes-or-no answers whose log odds are the values.
chosen_at <- function(rows) {
  rows$value <- stats::rbinom(nrow(rows), 1L, stats::plogis(rows$value))
  rows
}

# Pairs of models ----------------------------------------------------------------------------------

bet <- list(name = "bet", scale = 100, range = c(0, 100))
share <- list(name = "share", scale = 1, range = c(0, 1))
contrast <- list(name = "contrast", scale = 1, weights = c(c1 = 1, c2 = -1))

#' Each of some models' answers as `make` gives them for a label.
of_models <- function(labels, make) do.call(rbind, lapply(labels, make))

#' A function that makes those of two models.
of_two <- function(make) {
  force(make)
  function() of_models(c("a", "b"), make)
}

pair_of <- function(rows, measure) {
  model_pairs(list(c(measure, list(rows = rows))), margin = 10)
}

#' Two models alike, or with a `difference`, by title.
pair_designs <- function() {
  sampled <- list()
  for (items in if (quick) 12 else c(6, 12)) for (spread in setdiff(spreads, 0.2)) {
    sampled <- c(sampled, list(local({
      items <- items
      spread <- spread
      list(
        what = sprintf("two models, sampled, %d items", items), spread = spread, measure = share,
        make = of_two(function(label) {
          chosen_at(answers_with(label, c(item = spread), items, draws = 6, mean = -1,
            slope = spread))
        })
      )
    })))
  }
  c(sampled, list(
    list(
      what = "two models, bets, 6 items, 5 replications", measure = bet,
      make = of_two(function(label) {
        answers_with(label, c(item = 9, draw = 12), 6, 6, replications = 5, mean = 50)
      })
    ),
    list(
      what = "two models, measured contrast, 12 items", measure = contrast,
      make = of_two(function(label) {
        answers_with(label, c(item = 0.1, prompt = 0.1), prompts = 5, slope = 0.1, sampled = FALSE)
      })
    ),
    list(
      what = "two models, a fifth of the answers unusable, 12 items", measure = share,
      make = function() {
        rows <- of_models(c("a", "b"), function(label) {
          chosen_at(answers_with(label, c(item = 0.5), draws = 8, slope = 0.5))
        })
        rows[stats::runif(nrow(rows)) > 0.2, ]
      }
    ),
    list(
      what = "two models, .28 against .55, 12 items", measure = share,
      truth = share_of_logit(-1, 0.5) - share_of_logit(0.2, 0.5),
      make = of_two(function(label) {
        chosen_at(answers_with(label, c(item = 0.5), draws = 6, mean = c(a = -1, b = 0.2)[[label]]))
      })
    )
  ))
}

pairs <- function(runs) {
  bind(lapply(pair_designs(), function(one) {
    truth <- one$truth %or% 0
    spread <- one$spread %or% NA_real_
    kinds <- c("coverage", if (truth == 0) "rejections" else "power")
    found <- repeated(runs, function() {
      tested <- pair_of(one$make(), one$measure)
      cbind(tested$ci_low <= truth && truth <= tested$ci_high, tested$p < 0.05)
    }, kinds)
    rbind(
      checked(paste("Difference of", one$what), "", spread, kinds[1L], found[, 1L]),
      checked(paste("t test of", one$what), "", spread, kinds[2L], found[, 2L])
    )
  }))
}

#' McNemar's exact test, exact and hence too seldom significant; and many models alike.
pairs_of_kinds <- function(runs) {
  exact <- bind(lapply(c(24, 200), function(items) {
    found <- repeated(runs, function() {
      shared <- stats::rnorm(items, 0, 1)
      tested <- pair_of(of_models(c("a", "b"), function(label) {
        own <- answers_with(label, none, items, 1)
        own$value <- shared
        chosen_at(own)
      }), share)
      stopifnot(tested$test == "McNemar exact")
      cbind(tested$p < 0.05)
    }, "rejections, few")
    checked("McNemar's exact test of two models", sprintf("%d items", items), NA_real_,
      "rejections, few", found[, 1L])
  }))
  kinds <- c("rejections, few", "rejections")
  found <- repeated(ceiling(runs / 2), function() {
    tested <- pair_of(of_models(letters[1:8], function(label) {
      chosen_at(answers_with(label, c(item = 0.5), 12, draws = 6, slope = 0.5))
    }), share)
    cbind(any(tested$p_bh < 0.05), mean(tested$p < 0.05))
  }, kinds)
  rbind(
    exact,
    checked("Any of the 28 pairs of 8 models alike, after BH", "", NA_real_, kinds[1L],
      found[, 1L]),
    checked("t tests of the 28 pairs of 8 models alike", "", NA_real_, kinds[2L], found[, 2L])
  )
}

# Components of variance -------------------------------------------------------------------------

pilots <- list(
  "12 items, 5 replications, 6 prompts asked once each" = list(
    sd = c(item = 3, run = 1, by_run = 1, prompt = 2, draw = 4), items = 12, wordings = 1,
    replications = 5, prompts = 6, draws = 1
  ),
  "12 items, 5 replications of no effect" = list(
    sd = c(item = 3, prompt = 2, draw = 4), items = 12, wordings = 1, replications = 5,
    prompts = 6, draws = 1
  ),
  "6 items, 3 wordings, 2 replications, 4 draws" = list(
    sd = c(item = 3, wording = 2, both = 2, run = 1, by_run = 1, draw = 5), items = 6, wordings = 3,
    replications = 2, prompts = 1, draws = 4
  ),
  "6 items, 3 wordings, measured, 4 prompts" = list(
    sd = c(item = 3, wording = 2, both = 2, prompt = 3), items = 6, wordings = 3, replications = 1,
    prompts = 4, draws = 1, sampled = FALSE
  ),
  "12 items, 1 replication, 4 draws" = list(
    sd = c(item = 3, draw = 5), items = 12, wordings = 1, replications = 1, prompts = 1, draws = 4
  )
)
#' What the tables call each of `none`.
component_of <- c(
  item = "item", wording = "wording", both = "item x wording", run = "replication",
  by_run = "item x replication", prompt = "prompt", draw = "draw"
)
cells_of_pilots <- 3

pilot_of <- function(shape) {
  rows <- do.call(answers_with, c(list("m", cells = cells_of_pilots), shape))
  components_of(rows, NULL, !identical(shape$sampled, FALSE))
}

components <- function(runs) {
  bind(lapply(names(pilots), function(title) {
    shape <- pilots[[title]]
    in_score <- c(1, 1, 1, 1, 1, cells_of_pilots, cells_of_pilots)
    truth <- (c(shape$sd, none)[names(none)]^2 / in_score)[match(component_names, component_of)]
    # Intervals do not go below 0, and so hold it more often.
    kinds <- ifelse(truth == 0, "coverage, at an end", "coverage")
    found <- repeated(runs, function() {
      table <- pilot_of(shape)$table
      rbind(c(table$variance, table$low <= truth & truth <= table$high))
    }, c(rep("estimate", length(truth)), kinds))
    estimates <- found[, seq_along(truth), drop = FALSE]
    held <- found[, -seq_along(truth), drop = FALSE]
    bind(lapply(seq_along(truth), function(i) {
      name <- component_names[i]
      known <- is.finite(estimates[, i])
      rbind(
        if (any(known)) {
          error <- max(1e-9, stats::sd(estimates[known, i]) / sqrt(sum(known)))
          compared(
            "Mean estimate of a component of variance, off by standard errors",
            paste(title, name, sep = ": "), "bias",
            mean(estimates[known, i] - truth[i]) / error, sum(known)
          )
        },
        if (any(!is.na(held[, i]))) {
          checked(sprintf("Component of variance: %s", name), title, NA_real_, kinds[i], held[, i])
        }
      )
    }))
  }))
}

# Precision and power ----------------------------------------------------------------------------

plans <- list(
  list(pilot = 1L, items = 24, wordings = 1, replications = 2, difference = 2),
  list(pilot = 1L, items = 12, wordings = 1, replications = 10, difference = 2),
  list(pilot = 3L, items = 12, wordings = 1, replications = 5, difference = 3),
  list(pilot = 3L, items = 24, wordings = 4, replications = 1, difference = 2),
  list(pilot = 4L, items = 48, wordings = 2, replications = 1, difference = 1)
)

#' What pilots plan for runs of another size, and what such runs have.
precision <- function(runs) {
  bind(lapply(plans, function(plan) {
    shape <- pilots[[plan$pilot]]
    sampled <- !identical(shape$sampled, FALSE)
    planned <- repeated(runs, function() {
      grid <- planned_widths(pilot_of(shape), sampled, NA, plan$difference)
      at <- grid$items == plan$items & grid$wordings == plan$wordings &
        (!sampled | grid$replications == plan$replications)
      cbind(grid$half_width[at], grid$half_width_low[at], grid$half_width_high[at])
    }, rep("estimate", 3L))
    shape[c("items", "wordings", "replications")] <- plan[c("items", "wordings", "replications")]
    # The interval is over items: wordings and replications are those of the run.
    shape$sd <- shape$sd[!names(shape$sd) %in% c("wording", "run")]
    real <- repeated(runs, function() {
      rows <- do.call(
        answers_with, c(list("m", cells = cells_of_pilots, mean = plan$difference), shape)
      )
      tested <- test_columns(score_table(rows, "label")$scores, NA)
      cbind((tested$ci_high - tested$ci_low) / 2, tested$p < 0.05)
    }, c("estimate", "power"))
    title <- sprintf("%d items, %d wordings, %d replications", plan$items, plan$wordings,
      plan$replications)
    half <- sqrt(c(mean(planned[, 1L]^2), mean(real[, 1L]^2)))
    limit <- stats::qt(0.975, plan$items - 1)
    power <- stats::pt(limit, plan$items - 1, plan$difference / half[2L] * limit,
      lower.tail = FALSE)
    rbind(
      compared("Planned half-width, of that of such runs", title, "ratio", half[1L] / half[2L],
        runs),
      checked("Range of a planned half-width", title, NA_real_, "coverage",
        planned[, 2L] <= half[2L] & half[2L] <= planned[, 3L]),
      compared("Planned power, less that of such runs", title, "difference",
        power - mean(real[, 2L]), runs)
    )
  }))
}

simulations <- list(
  "pairs of models" = pairs, "exact tests and many pairs" = pairs_of_kinds,
  "components of variance" = components, "planned precision" = precision
)
