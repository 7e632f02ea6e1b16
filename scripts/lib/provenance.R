# A record of how each output was made, beside it, as grace.sidecars writes it for the scripts in
# Python. Source after common.R; needs digest and jsonlite.

sidecar_format <- 1L

file_sha256 <- function(path) digest::digest(path, algo = "sha256", file = TRUE)

#' Where the record of an output is.
sidecar <- function(output) {
  file.path(dirname(output), ".provenance", paste0(basename(output), ".json"))
}

#' SHA-256 of each input; an input that is not what the workflow wrote is an error.
input_digests <- function(inputs) {
  inputs <- unique(as.character(unlist(inputs)))
  digests <- vapply(inputs, file_sha256, character(1L))
  for (path in inputs[file.exists(sidecar(inputs))]) {
    record <- jsonlite::read_json(sidecar(path))
    if (!identical(record$sha256, digests[[path]])) {
      wrong <- paste(
        "%s: changed since the rule %s wrote it, so nothing is made from it. It has %.0f bytes of",
        "%.0f. Delete the file and run again to have it made anew. To work with the changed file",
        "on purpose, delete %s: what is made from it then counts as of unknown origin."
      )
      bytes <- as.numeric(record$bytes)
      stop(
        sprintf(wrong, path, record$rule, file.size(path), bytes, sidecar(path)),
        call. = FALSE
      )
    }
  }
  as.list(digests)
}

`%or%` <- function(value, default) if (is.null(value)) default else value

#' The time in UTC, ISO 8601, to the millisecond.
utc_now <- function() format(Sys.time(), "%Y-%m-%dT%H:%M:%OS3+00:00", tz = "UTC")

#' Commit and whether tracked files differ from it; NULLs outside a git checkout.
git_state <- function(root) {
  git <- function(...) {
    if (!nzchar(Sys.which("git"))) return(NULL)
    arguments <- c("-C", shQuote(root), ...)
    found <- suppressWarnings(system2("git", arguments, stdout = TRUE, stderr = FALSE))
    if (is.null(attr(found, "status"))) found else NULL
  }
  changes <- git("status", "--porcelain", "--untracked-files=no")
  list(commit = git("rev-parse", "HEAD"), dirty = if (!is.null(changes)) length(changes) > 0L)
}

this_machine <- function() {
  node <- Sys.getenv("NODE_NAME", Sys.info()[["nodename"]])
  pod <- Sys.getenv("POD_NAME")
  list(
    node = node, pod = if (nzchar(pod)) pod,
    platform = paste(Sys.info()[c("sysname", "release", "machine")], collapse = "-"),
    cpus = parallel::detectCores()
  )
}

loaded_versions <- function() {
  base <- rownames(utils::installed.packages(priority = "base"))
  packages <- sort(setdiff(loadedNamespaces(), base))
  versions <- lapply(packages, function(name) as.character(utils::packageVersion(name)))
  c(list(R = as.character(getRversion())), stats::setNames(versions, packages))
}

#' Run a job's work: logged, on inputs that are whole, and with its outputs recorded.
#'
#' @param script Name of the file in scripts/ that the rule runs.
run_job <- function(snakemake, script, expression) {
  started <- utc_now()
  outputs <- unique(as.character(unlist(snakemake@output)))
  unlink(sidecar(outputs))
  run_logged(snakemake@log, {
    inputs <- input_digests(snakemake@input)
    expression
  })
  named <- function(slot) slot[nzchar(names(slot))]
  params <- named(snakemake@params)
  files <- unique(c(script, unlist(params[["code"]][["scripts"]])))
  code <- lapply(file.path(snakemake@scriptdir, files), file_sha256)
  names(code) <- file.path("scripts", files)
  facts <- c(
    list(
      rule = snakemake@rule, wildcards = as_object(named(snakemake@wildcards)), started = started,
      inputs = as_object(inputs), code = code,
      settings = as_object(params[setdiff(names(params), c("code", "commit", "versions"))])
    ),
    git_state(dirname(snakemake@scriptdir)),
    list(hardware = this_machine(), versions = loaded_versions(), completed = utc_now())
  )
  for (output in outputs) {
    own <- list(
      format = sidecar_format, results = snakemake@config[["results"]] %or% "results",
      path = output, sha256 = file_sha256(output), bytes = file.size(output)
    )
    write_whole(c(own, facts, list(made_with = I(setdiff(outputs, output)))), sidecar(output))
  }
}

#' An empty list as the object {}, not the array [].
as_object <- function(values) {
  if (length(values) > 0L) values else stats::setNames(list(), character())
}

#' Write JSON that takes the place of what was there when it is whole, and only then.
write_whole <- function(value, path) {
  dir.create(dirname(path), recursive = TRUE, showWarnings = FALSE)
  partial <- file.path(dirname(path), sprintf(".%s.%d.part", basename(path), Sys.getpid()))
  jsonlite::write_json(
    value, partial,
    auto_unbox = TRUE, null = "null", digits = NA, pretty = 2
  )
  file.rename(partial, path)
}
