# What the report says of recipes: evaluation on held-out items, trainings, contamination, and what
# training changes in the studies. Source after report.R, sections.R, statistics.R, inference.R,
# training_comparison.R and training_studies.R.

#' What the recipes aim at, in per cent of items strictly right: for readers, and in no test.
target_texts <- c(base = "10 to 30", sft = "70 to 80", dpo = "90 to 95")

#' The section, Markdown and tables; nothing in a run without checkpoints.
#'
#' @param trainings By recipe what `training_studies.R` calls a training, and `evaluated`.
#' @param studies As `load_studies` gives them.
#' @param files Paths of tables, figures and JSON files, in `<recipe>/` below a folder `training`.
show_training <- function(trainings, studies, files) {
  if (length(trainings) == 0L) return(invisible(NULL))
  cat("\n\n# What training changes\n\n")
  cat(paste(
    "Checkpoints are the base with an adapter: after supervised fine-tuning (**SFT**) and after",
    "preference optimisation (**DPO**), by training seed. All are asked by completion, with the",
    "same texts. A paired test takes items as random and the training as it is: of a stage, and",
    "not of one training, it says something only over several training seeds."
  ), "\n\n")
  trainings <- lapply(trainings, lapply, unlist)
  if (any(startsWith(unlist(lapply(trainings, `[[`, "stages")), "online"))) cat(paste(
    "An **online** round is DPO once more, on pairs of answers by the checkpoint before it. All",
    "rounds are judged by the base, so that a rate may rise in them by what the base misjudges."
  ), "\n\n")
  for (recipe in names(trainings)) {
    if (length(trainings) > 1L) cat(sprintf("\n\n## Recipe %s\n\n", as_markdown(recipe)))
    level <- if (length(trainings) > 1L) "###" else "##"
    own <- files[grepl(sprintf("/training/%s/", recipe), files, fixed = TRUE)]
    show_recipe(recipe, trainings[[recipe]], studies, own, level)
  }
  cat("\n\n## What it cost\n\n")
  show_training_costs(trainings, files)
}

show_recipe <- function(recipe, training, studies, files, level) {
  heading <- function(text) cat(sprintf("\n\n%s %s\n\n", level, text))
  table <- function(name) {
    read_csv(files[endsWith(files, sprintf("/evaluation/%s.csv", name))][1L])
  }
  heading("Held-out instructions")
  show_evaluation(recipe, table("rates"), table("tests"), table("seeds"), files)
  cat(show_failures(recipe, table("errors")))
  heading("Trainings")
  show_losses(recipe, table("losses"), files)
  heading("Contamination")
  cat(show_overlaps(recipe, read_json_files(files[grepl("\\.json$", files)]),
    files[grepl("\\.json$", files)]))
  heading("Form and judgement in the studies")
  show_stages_in_studies(recipe, training, studies)
}

show_rate <- function(rows) show_interval(100 * rows$rate, 100 * rows$low, 100 * rows$high, 1)

show_evaluation <- function(recipe, rates, tests, seeds, files) {
  names <- unique(rates$evaluated)
  pick <- function(part, measure) {
    own <- rates[rates$part %in% part & rates$measure == measure, , drop = FALSE]
    own[match(names, own$evaluated), , drop = FALSE]
  }
  whole <- pick("all", "strict")
  cat(show_table(data.frame(
    Checkpoint = show_evaluated(names), Items = show_number(whole$items, 0),
    "Strict (%)" = show_rate(whole), "Loose (%)" = show_rate(pick("all", "loose")),
    "Trained types, strict (%)" = show_rate(pick("trained types", "strict")),
    "Held-out types, strict (%)" = show_rate(pick("held-out types", "strict")),
    "Cut off" = whole$truncated, "Not answered" = whole$unanswered,
    "Aimed at (%)" = ifelse(whole$shots == 0, target_texts[whole$stage], "\u2013"),
    check.names = FALSE
  ), sprintf(paste(
    "Recipe %s: held-out items answered as asked, with Wilson's 95%% intervals; at temperature 0,",
    "by completion, without examples but where it says few-shot. Strict: the rule holds of the",
    "answer as it stands. Loose: of one of eight forms of it, without first line, last line or",
    "asterisks (Zhou et al., 2023). Held-out types were never trained on. What is aimed at is",
    "shown for comparison; nothing is tested against it."
  ), recipe)))
  cat(show_evaluation_figure(recipe, files, "rates", sprintf(
    "Recipe %s: held-out items answered as asked. Grey: what is aimed at.", recipe
  )))
  cat(show_table(if (nrow(tests) > 0L) data.frame(
    Step = show_step(tests$comparison), Seed = tests$seed, Items = tests$part,
    Verdict = tests$measure,
    n = show_number(tests$items, 0), "Became right" = tests$gained, "Became wrong" = tests$lost,
    "Difference (points)" = show_interval(
      100 * tests$difference, 100 * tests$ci_low, 100 * tests$ci_high, 1
    ),
    p = show_small(tests$p), "p (BH)" = show_small(tests$p_bh),
    "Cohen's h" = show_number(tests$cohen_h), Note = show_text(tests$note), check.names = FALSE
  ), sprintf(paste(
    "Recipe %s: steps of training, paired by item. p: McNemar's exact test, the two-sided binomial",
    "test of the items whose verdict changed; BH over all steps and seeds of one verdict and one",
    "set of items. The interval is t over items."
  ), recipe), fold = nrow(tests) > 12L))
  cat(show_table(if (nrow(seeds) > 0L) data.frame(
    Step = show_step(seeds$comparison), Items = seeds$part, Verdict = seeds$measure,
    Seeds = seeds$seeds,
    "Mean (points)" = show_interval(100 * seeds$mean, 100 * seeds$ci_low, 100 * seeds$ci_high, 1),
    "Each seed, in order" = show_each(seeds$each, 1), Note = show_text(seeds$note),
    check.names = FALSE
  ), sprintf(paste(
    "Recipe %s: the same over training seeds. Every seed is one draw: the interval, of three seeds",
    "or more, is t over seeds, and items are not counted anew in each."
  ), recipe)))
  cat(show_evaluation_figure(recipe, files, "types", sprintf(
    "Recipe %s: strict verdicts by type of instruction, with Wilson's 95%% intervals.", recipe
  )))
}

#' A step's name as one word.
show_step <- function(comparison) gsub(" ", "\u00a0", comparison, fixed = TRUE)

#' "4.98, 3.75" of "1: +4.98; 2: +3.75": a column of numbers.
show_each <- function(each, digits = 2) {
  vapply(strsplit(as.character(each), "; ", fixed = TRUE), function(parts) {
    toString(show_number(as.numeric(sub(".*: ", "", parts)), digits))
  }, character(1L))
}

#' One of the figures that `compare` wrote, with the addresses of its files as seen from the report.
show_evaluation_figure <- function(recipe, files, name, caption) {
  path <- files[endsWith(files, sprintf("/evaluation/figures/%s.svg", name))]
  if (length(path) == 0L) return("")
  caption <- numbered("Figure", caption)
  html_block(figure_html(
    path[1L], caption, id = paste0("figure-", report_notes$numbers[["Figure"]]),
    beside = sprintf("training/%s/evaluation/figures/%s", recipe, name)
  ))
}

#' Kinds of failure, of all types together and by type.
show_failures <- function(recipe, errors) {
  if (nrow(errors) == 0L) return("")
  wide <- function(rows, keys) {
    by_group(rows, keys, function(piece) {
      counts <- tapply(piece$failures, factor(piece$kind, levels = failure_kinds), sum)
      counts[is.na(counts)] <- 0
      items <- sum(piece$items[!duplicated(piece$type)])
      cbind(
        data.frame(
          Items = show_number(items, 0), Wrong = show_number(100 * sum(counts) / items, 1)
        ),
        as.data.frame(as.list(show_number(100 * counts / items, 1)),
          col.names = failure_kinds, check.names = FALSE)
      )
    })
  }
  errors$place <- match(errors$evaluated, unique(errors$evaluated))
  named <- function(rows) {
    rows$Checkpoint <- show_evaluated(unique(errors$evaluated))[rows$place]
    names(rows)[names(rows) == "Wrong"] <- "Wrong (%)"
    names(rows) <- sub("^(.)", "\\U\\1", names(rows), perl = TRUE)
    rows[c("Checkpoint", setdiff(names(rows), c("Checkpoint", "Place")))]
  }
  caption <- sprintf(paste(
    "Recipe %s: how answers fail, in per cent of the items. Truncated: cut off at the most tokens.",
    "Another task: says the instruction again, or goes on with a further one. Wrong format: what",
    "is asked for is there, in another form or with more around it. Wrong content: all else."
  ), recipe)
  by_type <- wide(errors, c("type", "place"))
  paste0(
    show_table(named(wide(errors, "place")), caption),
    show_table(named(by_type), sprintf("Recipe %s: the same by type.", recipe), fold = TRUE)
  )
}

show_losses <- function(recipe, losses, files) {
  cat(show_evaluation_figure(recipe, files, "losses", sprintf(
    "Recipe %s: loss of each training, by step.", recipe
  )))
  cat(show_table(data.frame(
    Training = show_evaluated(paste0(losses$stage, "-", losses$seed)),
    Steps = show_number(losses$steps, 0), "First loss" = show_number(losses$first_loss, 3),
    "Last loss" = show_number(losses$last_loss, 3),
    "Reward margin" = show_number(losses$reward_margin, 3),
    "Pairs in order (%)" = show_number(100 * losses$reward_accuracy, 1),
    "Seconds" = show_number(losses$seconds, 0), check.names = FALSE
  ), sprintf(paste(
    "Recipe %s: trainings. Last loss, reward margin and pairs in order (DPO) are means of the last",
    "tenth of the steps."
  ), recipe)))
}

#' What training text was compared with, and what was left out for what it shares.
show_overlaps <- function(recipe, records, paths) {
  names <- sub("\\.json$", "", basename(paths))
  rows <- bind(lapply(which(names %in% c("contamination", "selection", "pairs")), function(i) {
    record <- records[[i]]
    which <- regmatches(paths[i], regexpr("seed-[0-9]+(/round-[0-9]+)?", paths[i]))
    counts <- record$counts
    overlap <- counts[["overlap"]] %or% 0L
    what <- switch(names[i],
      contamination = "all training text", selection = "answers for SFT",
      pairs = paste("pairs for DPO,", gsub("-", " ", sub("/", ", ", which, fixed = TRUE)))
    )
    data.frame(
      Text = what,
      Compared = show_number(if (names[i] == "contamination") {
        as.numeric(record$training_texts)
      } else {
        sum(unlist(counts))
      }, 0),
      "With texts of evaluation and stimuli" = if (names[i] == "contamination") {
        show_number(record$protected_texts, 0)
      } else {
        "\u2013"
      },
      "Left out for what they share" = if (names[i] == "contamination") {
        "\u2013"
      } else {
        show_number(overlap, 0)
      },
      "Shared in what is trained on" = if (names[i] == "contamination") {
        show_number(length(record$overlaps), 0)
      } else {
        "\u2013"
      },
      check.names = FALSE
    )
  }))
  show_table(rows, sprintf(paste(
    "Recipe %s: runs of eight words that training text shares with evaluation items or with",
    "stimuli of the studies. What models wrote and shares one is left out; the report is not made",
    "if any is left."
  ), recipe))
}

# The studies --------------------------------------------------------------------------------------

show_stages_in_studies <- function(recipe, training, studies) {
  cat(paste(
    "**Form** is whether a model answers within the options at all: the option mass of experiment",
    "2, and in experiment 1 the answers that can be read. **Judgement** is how it divides what it",
    "gives to the options, whatever that is. JSD and same favourite compare a checkpoint's",
    "distributions within the options with the base's, cell by cell; the measures after that are",
    "the studies' own."
  ), "\n\n")
  said <- bind(lapply(studies, form_and_judgement, training = training))
  several <- length(unique(said$variant)) > 1L
  base <- training$base %in% said$model
  asked <- function(column) !all(is.na(said[[column]]))
  cat(show_table(if (nrow(said) > 0L) data.frame(
    Model = mark_keys(said$model), Study = said$study,
    Format = if (several) show_text(said$variant) else rep("\u2013", nrow(said)),
    "Option mass: mean" = show_mass(said$option_mass), "lowest" = show_mass(said$option_mass_min),
    "Usable answers (%)" = show_number(said$usable_percent, 1),
    "JSD from the base (bits)" = show_number(said$jsd_bits, 4),
    "Same favourite (%)" = show_number(100 * said$same_favourite, 0),
    Cells = show_number(said$n_cells, 0), check.names = FALSE
  )[, c(
    TRUE, TRUE, several, rep(asked("option_mass"), 2L), asked("usable_percent"),
    rep(asked("option_mass"), 3L)
  )], sprintf(paste0(
    "Recipe %s: option mass (experiment 2), usable answers (experiment 1), and distance from the",
    " base within the options (experiment 2)%s."
  ), recipe, if (base) "" else "; the base is not among the run's models, so there is none")))
  pairs <- over_studies(studies, "model_pairs")
  differences <- stage_differences(pairs, training)
  if (nrow(differences) == 0L) {
    return(cat(html_block(paragraphs(paste(
      "No two stages of one seed are among the run's models with usable answers, so there is no",
      "difference between stages."
    ), "note"))))
  }
  cat(show_stage_differences(recipe, differences, training))
  cat(show_stages_over_seeds(recipe, differences, stages_over_seeds(differences, pairs, training)))
  cat(show_format_changes(recipe, format_changes(differences, training)))
}

#' An option mass; of a small one its order.
show_mass <- function(values) {
  ifelse(!is.na(values) & values < 0.0995, show_small(values), show_number(values, 3))
}

show_stage_differences <- function(recipe, rows, training) {
  rows <- rows[order(
    rows$study, rows$experiment, rows$measure, rows$variant, rows$seed,
    match(rows$comparison, names(stage_steps(training$stages)))
  ), , drop = FALSE]
  show_table(data.frame(
    Study = rows$study, Quantity = rows$measure, Experiment = show_experiment(rows$experiment),
    Variant = if (length(unique(rows$variant)) > 1L) show_text(rows$variant) else "\u2013",
    Step = show_step(rows$comparison), Seed = rows$seed, Items = rows$n_items,
    Before = show_number(rows$before), After = show_number(rows$after),
    Difference = show_interval(rows$difference, rows$ci_low, rows$ci_high),
    "p (BH)" = show_p(rows$p_bh), "p (equivalence)" = show_p(rows$p_equivalence),
    "Cohen's h" = show_number(rows$cohen_h), Note = show_text(rows$note), check.names = FALSE
  ), sprintf(paste(
    "Recipe %s: the studies' measures before and after each step, paired by item, with t intervals",
    "by item; the training is taken as it is. p is McNemar's exact one where every item has one",
    "answer, yes or no, else that of t. BH over the steps and seeds of one measure,",
    "experiment and format."
  ), recipe), fold = nrow(rows) > 12L)
}

show_stages_over_seeds <- function(recipe, differences, rows) {
  few <- max(table(unique(differences[c("seed", "comparison")])$comparison)) < 3L
  rows <- rows[order(rows$study, rows$experiment, rows$measure, rows$variant, rows$order), ,
    drop = FALSE]
  show_table(data.frame(
    Study = rows$study, Quantity = rows$measure, Experiment = show_experiment(rows$experiment),
    Variant = if (length(unique(rows$variant)) > 1L) show_text(rows$variant) else "\u2013",
    Step = show_step(rows$comparison), Seeds = rows$seeds, Items = rows$n_items,
    Mean = show_interval(rows$mean, rows$ci_low, rows$ci_high),
    "Each seed, in order" = show_each(rows$each),
    "SD of seeds" = show_number(rows$sd_seed),
    Note = if (few) "\u2013" else show_text(rows$note), check.names = FALSE
  ), sprintf("Recipe %s: the same over training seeds. %s", recipe, if (few) {
    paste(
      "There are fewer than three training seeds, so nothing here can be said of a stage beyond",
      "these trainings: the training seed cannot be a random effect, and there is no interval."
    )
  } else {
    paste(
      "Items and training seeds are both random effects, crossed: the interval holds for other",
      "items and other trainings. SD of seeds: what the seed adds beyond items."
    )
  }), fold = nrow(rows) > 18L)
}

show_format_changes <- function(recipe, rows) {
  if (nrow(rows) == 0L) return("")
  show_table(data.frame(
    Study = rows$study, Quantity = rows$measure, Experiment = show_experiment(rows$experiment),
    Step = show_step(rows$comparison), Formats = rows$formats, Seeds = rows$seeds,
    Mean = show_interval(rows$mean, rows$ci_low, rows$ci_high),
    "Each seed, in order" = show_each(rows$each),
    check.names = FALSE
  ), sprintf(paste(
    "Recipe %s: format as a factor. By how much a step changes a measure more in one format than",
    "in another: near 0 where training changes judgement whatever the format. The interval, of",
    "three seeds or more, is t over seeds."
  ), recipe), fold = nrow(rows) > 18L)
}
