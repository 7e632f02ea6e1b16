# The analyses of variance of studies 1 and 2 and of the generic analysis, simulated through the
# shipped functions. `make test-statistics` runs them all, `run.R --only "study 2"` some.

keys_of <- function(number) {
  name <- paste0("m", number)
  data.frame(label = name, model_key = name, model_name = name, variant = "seed")
}

#' Random effects of items on the levels of an effect: items x levels.
slopes <- function(items, levels, sd) matrix(stats::rnorm(items * levels, 0, sd), items)

# Study 1 -----------------------------------------------------------------------------------------

cells1 <- data.frame(access = c(1, 2, 2, 3, 3, 3), observe = c(1, 1, 2, 1, 2, 3))

#' Bets on state 3 of one model: effects in points by access, observe and in cell 3/2.
bets_of <- function(number, access = c(0, 0, 0), observe = c(0, 0, 0), both = 0, items = 9,
                    by_access = 0, by_observe = 0, by_both = 0, draws = 4, noise = 8, copies = 1,
                    experiment = "exp1", base = 40, shared = 0) {
  rows <- expand.grid(draw = seq_len(draws), cell = 1:6, story = 1:6)
  cell <- list(access = cells1$access[rows$cell], observe = cells1$observe[rows$cell])
  at <- function(effects, level) effects[cbind(rows$story, level)]
  value <- base + access[cell$access] + observe[cell$observe] +
    both * (rows$cell == 5L) + stats::rnorm(6L, 0, items)[rows$story] +
    at(slopes(6L, 3L, by_access), cell$access) + at(slopes(6L, 3L, by_observe), cell$observe) +
    at(slopes(6L, 2L, by_both), 1L + (rows$cell == 5L))
  if (is.matrix(shared)) value <- value + at(shared, rows$cell)
  value <- pmin(100, pmax(0, value + stats::rnorm(nrow(rows), 0, noise)))
  bets <- data.frame(
    keys_of(number), cell, story_shortname = paste0("s", rows$story), b3 = value,
    prompt_id = paste(rows$story, rows$cell), experiment = experiment, row.names = NULL
  )
  if (copies == 1) bets else bets[rep(seq_len(nrow(bets)), each = copies), ]
}

study1 <- function(bets, greedy = FALSE) {
  bets <- collapse_copies(bets, "b3", greedy)
  tested <- if (length(unique(bets$label)) > 1L) {
    across_models(state3_rows(bets), state3_terms, "stories", "")
  } else {
    state3_anova(bets)
  }
  stats::setNames(tested$p, tested$term)
}

several_bets <- function(models, ...) {
  shared <- slopes(6L, 6L, 8)
  spread <- exp(stats::runif(models, log(4), log(12)))
  bind(lapply(seq_len(models), function(i) {
    bets_of(
      i, by_access = spread[i], by_observe = spread[i], shared = shared,
      access = c(0, -5, -10), ...
    )
  }))
}

# Study 2 -----------------------------------------------------------------------------------------

#' Generated or scored answers of one model: log odds of negation by state and goal. `prompts` are
#' the wordings of a domain, goal and state that differ by names; `lost` of them give no answer.
choices_of <- function(number, state = c(0, 0, 0, 0), goal = c(0, 0, 0), items = 0.5,
                       by_state = 0.3, by_goal = 0.3, by_both = 0.3, prompts = 6, draws = 1,
                       copies = 1, lost = 0, points = FALSE, experiment = "exp1", shared = 0) {
  rows <- expand.grid(
    draw = seq_len(draws), prompt = seq_len(prompts), state = 1:4, goal = 1:3, item = 1:12
  )
  cell <- rows$state + 4L * (rows$goal - 1L)
  at <- function(effects, level) effects[cbind(rows$item, level)]
  odds <- state[rows$state] + goal[rows$goal] + stats::rnorm(12L, 0, items)[rows$item] +
    at(slopes(12L, 4L, by_state), rows$state) + at(slopes(12L, 3L, by_goal), rows$goal) +
    at(slopes(12L, 12L, by_both), cell)
  if (is.matrix(shared)) odds <- odds + at(shared, cell)
  chance <- if (points) pmin(1, pmax(0, odds)) else stats::plogis(odds)
  said <- if (experiment == "exp2") chance else stats::rbinom(nrow(rows), 1L, chance)
  out <- cbind(
    keys_of(number), item = rows$item, goal = goals[rows$goal], state = rows$state - 1,
    prompt_id = paste(rows$item, cell, rows$prompt), experiment = experiment, row.names = NULL
  )
  out[chosen] <- 0
  out$u1 <- 1 - said
  out$u5 <- said
  if (lost > 0) out <- out[stats::runif(nrow(out)) >= lost, ]
  if (copies == 1) out else out[rep(seq_len(nrow(out)), each = copies), ]
}

study2 <- function(choices, greedy = FALSE) {
  choices <- collapse_copies(choices, chosen, greedy)
  several <- length(unique(choices$label)) > 1L
  tested <- if (several) {
    across_models(negation_rows(choices), negation_terms, "domains", "")
  } else {
    negation_anova(choices)
  }
  stats::setNames(tested$p, tested$term)
}

several_choices <- function(models, ...) {
  shared <- slopes(12L, 12L, 0.4)
  bind(lapply(seq_len(models), function(i) {
    choices_of(i, state = people, prompts = 4L, shared = shared, ...)
  }))
}

#' People's rates of negation by state, in log odds: up, then down.
people <- stats::qlogis(c(0.28, 0.58, 0.13, 0.03))

# The generic analysis ----------------------------------------------------------------------------

declaration <- list(
  factors = list("role", "level"), item = "item", stimuli = list(columns = list()),
  models = list(list(
    name = "m", response = "chose", formula = "response ~ role * level + (1 | item)",
    compare = list("role", "level", "role:level")
  ))
)

#' Ten answers an item and cell, items nested in roles or not; effects in log odds.
answers_of <- function(nested, role = 0, level = 0, items = 0.5, by_role = 0.3, by_level = 0.3,
                       draws = 10) {
  count <- if (nested) 16L else 12L
  rows <- expand.grid(draw = seq_len(draws), level = 1:2, role = 1:2, item = seq_len(count))
  if (nested) rows <- rows[(rows$item <= count / 2) == (rows$role == 1L), ]
  odds <- role * (rows$role == 2L) + level * (rows$level == 2L) +
    stats::rnorm(count, 0, items)[rows$item] +
    slopes(count, 2L, by_role)[cbind(rows$item, rows$role)] +
    slopes(count, 2L, by_level)[cbind(rows$item, rows$level)]
  cbind(
    keys_of(1L), experiment = "exp1", response = "chose", distribution = NA_character_,
    item = paste0("i", rows$item), role = as.character(rows$role),
    level = as.character(rows$level), replication = 0,
    prompt_id = paste(rows$item, rows$role, rows$level),
    value = stats::rbinom(nrow(rows), 1L, stats::plogis(odds))
  )
}

generic <- function(stacked) {
  plan <- declaration$models[[1L]]
  rows <- model_data(stacked, declaration)
  tested <- declared_tests(
    rows, plan, formula_parts(plan, declaration)$terms, unlist(declaration$factors)
  )
  stats::setNames(tested$p, tested$term)
}

# The designs: which tests' nulls are true, and how a run is made ---------------------------------

additive <- c("access", "observe", "access:observe")
pooled1 <- c("model", "model:access", "model:observe", "model:access:observe")
pooled2 <- c("model", "model:state", "model:goal", "model:state:goal")
design <- function(title, make, null = character(0), power = character(0)) {
  list(title = title, make = make, null = null, power = power)
}
designs <- list(
  design("study 1, no effect, no item spread", null = additive, make = function() {
    study1(bets_of(1, items = 0))
  }),
  design("study 1, no effect, item spread 9 points", null = additive, make = function() {
    study1(bets_of(1))
  }),
  design("study 1, story x observe 12 points", null = additive, make = function() {
    study1(bets_of(1, by_observe = 12))
  }),
  design("study 1, stories differ in every effect", null = additive, make = function() {
    study1(bets_of(1, by_access = 8, by_observe = 12, by_both = 6))
  }),
  design("study 1, main effects, additive", null = "access:observe", make = function() {
    study1(bets_of(1, c(0, -8, -16), c(0, 6, 12), by_access = 6, by_observe = 6))
  }),
  design("study 1, temperature 0, 10 copies", null = additive, make = function() {
    study1(bets_of(1, draws = 1, copies = 10, by_observe = 6), greedy = TRUE)
  }),
  design("study 1, scored, 5 replications", null = additive, make = function() {
    study1(bets_of(1, draws = 1, copies = 5, by_observe = 6, experiment = "exp2"))
  }),
  design("study 1, bets at the floor (half of them 0)", null = additive, make = function() {
    study1(bets_of(1, base = 0, items = 9, by_observe = 6))
  }),
  design("study 1, access -12 points of 3, story x access 6", power = "access", make = function() {
    study1(bets_of(1, c(0, -6, -12), by_access = 6))
  }),
  design("study 1, cell 3/2 by -20 points, stories 6", power = "access:observe",
    make = function() study1(bets_of(1, both = -20, by_observe = 6, by_both = 6))),
  design("study 1, 2 models alike", null = pooled1, make = function() study1(several_bets(2))),
  design("study 1, 8 models alike", null = pooled1, make = function() {
    study1(several_bets(8, draws = 1))
  }),
  design("study 1, 24 models alike", null = pooled1, make = function() {
    study1(several_bets(24, draws = 1))
  }),
  design("study 1, 8 models 15 points apart", power = "model", make = function() {
    bets <- several_bets(8, draws = 1, base = 60)
    bets$b3 <- bets$b3 - 15 * (as.integer(sub("m", "", bets$label)) %% 2)
    study1(bets)
  }),
  design("study 2, no effect, domains .5", null = c("state", "goal", "state:goal"),
    make = function() study2(choices_of(1))),
  design("study 2, no effect, domains alike", null = c("state", "goal", "state:goal"),
    make = function() study2(choices_of(1, items = 0, by_state = 0, by_goal = 0, by_both = 0))),
  design("study 2, no effect, domains 1", null = c("state", "goal", "state:goal"),
    make = function() study2(choices_of(1, items = 1, by_goal = 0.6, by_state = 0.6))),
  design("study 2, people's states, domain x goal .3", null = c("goal", "state:goal"),
    make = function() study2(choices_of(1, state = people))),
  design("study 2, people's states, +10 points by goal", null = "state:goal", make = function() {
    study2(choices_of(
      1, c(0.28, 0.58, 0.2, 0.15), c(0, 0.1, 0.2), points = TRUE, items = 0.05, by_state = 0.05,
      by_goal = 0.05, by_both = 0.02
    ))
  }),
  design("study 2, temperature 0, 5 copies", null = c("goal", "state:goal"), make = function() {
    study2(choices_of(1, state = people, copies = 5), greedy = TRUE)
  }),
  design("study 2, 5 replications", null = c("goal", "state:goal"), make = function() {
    study2(choices_of(1, state = people, prompts = 2, draws = 5))
  }),
  design("study 2, scored", null = c("goal", "state:goal"), make = function() {
    study2(choices_of(1, state = people, prompts = 2, copies = 2, experiment = "exp2"))
  }),
  design("study 2, one in five gives no answer", null = c("goal", "state:goal"),
    make = function() study2(choices_of(1, state = people, lost = 0.2))),
  design("study 2, separated (0 and 3 hearts all or nothing)", null = c("goal", "state:goal"),
    make = function() study2(choices_of(1, state = c(30, 0, 0, -30)))),
  design("study 2, goal .5 in log odds, domain x goal .3", power = "goal", make = function() {
    study2(choices_of(1, state = people, goal = c(0, 0.25, 0.5)))
  }),
  design("study 2, state as in people, a third of it", power = "state", make = function() {
    study2(choices_of(1, state = people / 3))
  }),
  design("study 2, 2 models alike", null = pooled2, make = function() study2(several_choices(2))),
  design("study 2, 8 models alike", null = pooled2, make = function() {
    study2(several_choices(8))
  }),
  design("study 2, 8 models, every other .5 higher", power = "model", make = function() {
    study2(bind(lapply(1:8, function(i) {
      choices_of(i, state = people + 0.5 * (i %% 2), prompts = 4)
    })))
  }),
  design("generic, factors within 12 items", null = c("role", "level", "role:level"),
    make = function() generic(answers_of(FALSE))),
  design("generic, role between 16 items", null = c("role", "level", "role:level"),
    make = function() generic(answers_of(TRUE))),
  design("generic, within, .7 in log odds", power = "role", make = function() {
    generic(answers_of(FALSE, role = 0.7))
  }),
  design("generic, between, 1 in log odds", power = "role", make = function() {
    generic(answers_of(TRUE, role = 1))
  })
)

#' One design: a row for each test whose null is true, and for each whose power is asked for.
simulated_design <- function(one, runs) {
  several <- grepl("[0-9] models", one$title)
  # Where half of the bets are 0, no test of 6 stories rejects as often as it may.
  level <- if (grepl("at the floor", one$title)) "rejections, few" else "rejections"
  tests <- c(one$null, one$power)
  kinds <- ifelse(tests %in% one$null, level, "power")
  rejected <- repeated(runs, function() {
    rbind(one$make()[tests] < 0.05)
  }, kinds)
  study <- sub(",.*", "", one$title)
  bind(lapply(seq_along(tests), function(i) {
    what <- if (kinds[i] == "power") {
      sprintf("F test of %s: %s", tests[i], one$title)
    } else {
      sprintf("F test, %s, %s", study, if (several) "several models" else "one model")
    }
    checked(what, sprintf("%s: %s", one$title, tests[i]), NA_real_, kinds[i], rejected[, i])
  }))
}

simulated_study <- function(study) {
  own <- Filter(function(one) startsWith(one$title, study), designs)
  if (quick) own <- own[1L]
  function(runs) bind(lapply(own, simulated_design, runs = runs))
}

simulations <- lapply(stats::setNames(nm = c("study 1", "study 2", "generic")), simulated_study)
names(simulations) <- paste("analyses of variance,", names(simulations))
