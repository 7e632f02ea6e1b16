# The report: scripts/report.Rmd as one HTML file without scripts, links or files from elsewhere.

# What of Markdown the report's own words use. Nothing else is read as mark-up.
markdown <- paste0(
  "markdown_strict-raw_html+raw_attribute+backtick_code_blocks+fenced_code_blocks",
  "+space_in_atx_header+auto_identifiers+smart"
)

#' Knit the report and turn it into HTML. Pandoc reads and fetches nothing but what it is given.
#'
#' @param folder The project's scripts/.
write_report <- function(folder, output) {
  rendering <- tempfile("report")
  dir.create(rendering)
  on.exit(unlink(rendering, recursive = TRUE))
  words <- file.path(rendering, "report.md")
  # Pictures of chunks would be written beside the text; the report has none.
  knitr::opts_knit$set(progress = FALSE, root.dir = getwd())
  knitr::knit(
    file.path(folder, "report.Rmd"), words,
    quiet = TRUE, envir = globalenv(), encoding = "UTF-8"
  )
  page <- file.path(rendering, "report.html")
  said <- suppressWarnings(system2("pandoc", shQuote(c(
    "--sandbox", "--from", markdown, "--to", "html5", "--toc", "--toc-depth", "2", "--quiet",
    "--template", file.path(folder, "lib", "report_page.html"),
    "--variable", paste0("pagetitle=", page_title(studies)),
    "--output", page, words
  )), stdout = TRUE, stderr = TRUE))
  if (!is.null(attr(said, "status")) || !file.exists(page)) {
    stop("pandoc could not write the report: ", paste(said, collapse = "\n"), call. = FALSE)
  }
  dir.create(dirname(output), recursive = TRUE, showWarnings = FALSE)
  if (!file.copy(page, output, overwrite = TRUE)) {
    stop(sprintf("%s: cannot be written", output), call. = FALSE)
  }
}

if (exists("snakemake")) {
  for (name in c("common.R", "provenance.R")) {
    source(file.path(snakemake@scriptdir, "lib", name))
  }
  snakemake@params <- decoded_params(snakemake@params)
  run_job(snakemake, "report.R", {
    write_report(snakemake@scriptdir, snakemake@output[[1L]])
    message(sprintf(
      "report: %d models, %d tables, %d checks", length(unique(quality$label)),
      sum(lengths(lapply(studies, `[[`, "tables"))), nrow(checks)
    ))
  })
}
