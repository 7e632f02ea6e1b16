# The report: scripts/report.Rmd rendered to one HTML file.

if (exists("snakemake")) {
  for (name in c("common.R", "provenance.R")) {
    source(file.path(snakemake@scriptdir, "lib", name))
  }
  run_job(snakemake, "report.R", {
    rendering <- tempfile("report")
    dir.create(rendering)
    # Beside the other scripts nothing may be written.
    invisible(file.copy(file.path(snakemake@scriptdir, "report.Rmd"), rendering))
    output <- snakemake@output[[1L]]
    rmarkdown::render(
      file.path(rendering, "report.Rmd"),
      output_dir = normalizePath(dirname(output)), output_file = basename(output),
      knit_root_dir = getwd(), envir = globalenv(), quiet = TRUE
    )
    message(sprintf(
      "report: %d models, %d tables, %d checks", length(unique(quality$label)),
      length(study1) + length(study2), nrow(checks)
    ))
  })
}
