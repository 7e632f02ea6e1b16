# Checkpoints of a recipe on held-out items, compared: tables and figures from their evaluations and
# the curves of their trainings.

#' @param input Evaluations and curves, paths in the order of `settings`.
#' @param output Tables and figures by name.
#' @param settings `evaluated`: names; `curves`: "<stage>-<seed>" each.
compare <- function(input, output, settings) {
  items <- bind(lapply(as.character(unlist(input[["evaluations"]])), read_evaluation))
  trained <- as.character(unlist(settings[["curves"]]))
  curves <- bind(Map(function(path, name) {
    read_curve(path, sub("-.*", "", name), sub(".*-", "", name))
  }, as.character(unlist(input[["curves"]])), trained))
  rates <- evaluation_rates(items)
  tests <- evaluation_tests(items)
  write_result(rates, output[["rates"]], rate_columns)
  write_result(tests, output[["tests"]], test_table_columns)
  write_result(evaluation_seeds(tests), output[["seeds"]], seed_columns)
  write_result(evaluation_errors(items), output[["errors"]], error_columns)
  write_result(training_losses(curves), output[["losses"]], loss_columns)
  models <- length(unique(items$evaluated))
  save_figure(rates_figure(rates), output[["rates_figure"]], 9, 5)
  held_out <- unique(items$type[items$held_out])
  types <- length(unique(items$type))
  save_figure(
    types_figure(rates, held_out), output[["types_figure"]], 9,
    (1.5 + 0.2 * types) * ceiling(models / if (models <= 5L) 5 else 4)
  )
  save_figure(losses_figure(curves), output[["losses_figure"]], 9, 3.6)
}

if (exists("snakemake")) {
  # R's compiler takes a fifth of a small run's time, and gains nothing in one of 40,000 rows.
  invisible(compiler::enableJIT(0L))
  library(ggplot2)
  for (name in c("common.R", "provenance.R")) source(file.path(snakemake@scriptdir, "lib", name))
  snakemake@params <- decoded_params(snakemake@params)
  for (name in setdiff(unlist(snakemake@params[["sources"]][["scripts"]]), "compare.R")) {
    source(file.path(snakemake@scriptdir, name))
  }
  run_job(
    snakemake, "compare.R",
    compare(snakemake@input, snakemake@output, snakemake@params[["output_config"]])
  )
}
