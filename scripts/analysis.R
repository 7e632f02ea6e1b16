# The script of every study's analysis: the libraries, then the study's own files or the generic
# analysis, which define `analyse(input, output, params)`: read, analyse, write every output.

#' The files that an analysis runs, in order, as seen from scripts/: those that its code is digested
#' from, so that nothing that can change a result runs unrecorded.
analysis_files <- function(params) setdiff(unlist(params[["sources"]][["scripts"]]), "analysis.R")

if (exists("snakemake")) {
  # R's compiler takes a fifth of a small run's time, and gains nothing in one of 40,000 rows.
  invisible(compiler::enableJIT(0L))
  library(ggplot2)
  source(file.path(snakemake@scriptdir, "lib", "provenance.R"))
  snakemake@params <- decoded_params(snakemake@params)
  for (name in analysis_files(snakemake@params)) source(file.path(snakemake@scriptdir, name))
  run_job(
    snakemake, "analysis.R",
    analyse(snakemake@input, snakemake@output, snakemake@params[["output_config"]])
  )
}
