# The report: scripts/report.Rmd as one HTML file that needs nothing from elsewhere. Its own script
# searches, sorts and copies tables; without it the page holds all the same.

# What of Markdown the report's own words use. Nothing else is read as mark-up.
markdown <- paste0(
  "markdown_strict-raw_html+raw_attribute+backtick_code_blocks+fenced_code_blocks",
  "+space_in_atx_header+auto_identifiers+smart"
)

#' The page around the report, as pandoc's template: its policy lets a browser run and apply what
#' stands in it by their digests, and nothing else.
#'
#' @param folder With page.html and what goes into it.
page_template <- function(folder) {
  read <- function(name) {
    paste(readLines(file.path(folder, name), encoding = "UTF-8"), collapse = "\n")
  }
  parts <- list(STYLE = read("style.css"), SORTABLE = read("sortable.js"), SCRIPT = read("page.js"))
  sums <- vapply(parts, function(text) {
    found <- digest::digest(enc2utf8(text), "sha256", serialize = FALSE, raw = TRUE)
    sprintf("'sha256-%s'", jsonlite::base64_enc(found))
  }, character(1L))
  parts$POLICY <- sprintf(
    "default-src 'none'; img-src data:; style-src %s; script-src %s; base-uri 'none'; %s",
    sums[["STYLE"]], paste(sums[c("SORTABLE", "SCRIPT")], collapse = " "), "form-action 'none'"
  )
  page <- read("page.html")
  for (name in names(parts)) {
    # To pandoc a dollar begins a variable, but two are one.
    text <- gsub("$", "$$", parts[[name]], fixed = TRUE)
    at <- regexpr(sprintf("{{%s}}", name), page, fixed = TRUE)
    page <- paste0(
      substr(page, 1L, at - 1L), text, substring(page, at + attr(at, "match.length"))
    )
  }
  page
}

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
  template <- file.path(rendering, "page.html")
  writeLines(page_template(file.path(folder, "lib", "report_page")), template, useBytes = TRUE)
  said <- suppressWarnings(system2("pandoc", shQuote(c(
    "--sandbox", "--from", markdown, "--to", "html5", "--toc", "--toc-depth", "3", "--quiet",
    "--shift-heading-level-by", "1", "--template", template,
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
  # R's compiler takes a fifth of a small run's time, and gains nothing in one of 40,000 rows.
  invisible(compiler::enableJIT(0L))
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
