# A record of how each output was made, beside it, as grace.provenance.sidecars writes it for the
# scripts in Python. Source after common.R; needs digest and jsonlite.

sidecar_format <- 2L
# What stands in the place of a record's digest while it is computed.
no_digest <- strrep("0", 64L)

file_sha256 <- function(path) digest::digest(path, algo = "sha256", file = TRUE)

#' Where the record of an output is.
sidecar <- function(output) {
  file.path(dirname(output), ".provenance", paste0(basename(output), ".json"))
}

#' SHA-256 that stands for a record, given as raw bytes: its own digest is taken for zeros.
record_digest <- function(bytes) {
  opening <- regexpr('^\\{\\s*"digest": "[0-9a-f]{64}"', rawToChar(utils::head(bytes, 100L)))
  if (opening == 1L) {
    end <- attr(opening, "match.length") - 1L
    bytes[seq(end - 63L, end)] <- charToRaw(no_digest)
  }
  digest::digest(bytes, algo = "sha256", serialize = FALSE)
}

record_bytes <- function(output) {
  path <- sidecar(output)
  readBin(path, "raw", file.size(path))
}

#' Digests of the records of those inputs that have one.
input_records <- function(inputs) {
  with_record <- inputs[file.exists(sidecar(inputs))]
  digests <- lapply(with_record, function(path) record_digest(record_bytes(path)))
  stats::setNames(digests, with_record)
}

#' A record; one that was edited is an error. Records of the older format do not guard themselves.
read_record <- function(output) {
  bytes <- record_bytes(output)
  record <- tryCatch(jsonlite::fromJSON(rawToChar(bytes), simplifyVector = FALSE), error = identity)
  edited <- inherits(record, "error") || !(identical(record$format, 1L) || identical(
    list(record$format, record$digest), list(sidecar_format, record_digest(bytes))
  ))
  if (edited) {
    wrong <- paste(
      "%s: edited or cut off, so nothing is made from %s. Delete both and run again to have them",
      "rebuilt."
    )
    stop(sprintf(wrong, sidecar(output), output), call. = FALSE)
  }
  record
}

#' A file's place in its results folder.
place_in <- function(path, results) {
  inside <- startsWith(path, paste0(results, "/"))
  if (inside) substring(path, nchar(results) + 2L) else path
}

#' SHA-256 of each input; an input that is not what the workflow wrote is an error.
input_digests <- function(inputs, results) {
  inputs <- unique(as.character(unlist(inputs)))
  digests <- vapply(inputs, file_sha256, character(1L))
  for (path in inputs[file.exists(sidecar(inputs))]) {
    record <- read_record(path)
    if (place_in(record$path, record$results) != place_in(path, results)) {
      wrong <- paste(
        "%s: another file, %s, was put in its place. Delete it and run again to have it rebuilt."
      )
      stop(sprintf(wrong, path, record$path), call. = FALSE)
    }
    if (!identical(record$sha256, digests[[path]])) {
      wrong <- paste(
        "%s: changed since the rule %s wrote it, so nothing is made from it. It has %.0f bytes of",
        "%.0f. Delete the file and run again to have it rebuilt. To work with the changed file",
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

#' A file named as seen from scripts/, such as `../studies/...`, as seen from the project's root.
from_root <- function(file) {
  parts <- c("scripts", strsplit(file, "/", fixed = TRUE)[[1L]])
  kept <- character(0)
  for (part in parts) {
    up <- part == ".." && length(kept) > 0L && utils::tail(kept, 1L) != ".."
    kept <- if (up) utils::head(kept, -1L) else c(kept, part)
  }
  paste(kept, collapse = "/")
}

# Params that are recorded elsewhere, or say where this machine has files.
not_settings <- c("code", "sources", "sections", "commit", "versions")

#' A rule's params as they were before grace.r_params encoded their texts.
decoded_params <- function(params) {
  text <- function(values) {
    decode <- function(value) if (is.na(value)) value else utils::URLdecode(value)
    values[] <- vapply(values, decode, character(1L))
    Encoding(values) <- "UTF-8"
    values
  }
  if (is.list(params)) {
    params[] <- lapply(params, decoded_params)
    if (!is.null(names(params))) names(params) <- text(names(params))
    params
  } else if (is.character(params)) {
    text(params)
  } else {
    params
  }
}

#' Run a job's work: logged, on inputs that are whole, and with its outputs recorded.
#'
#' @param script Name of the file in scripts/ that the rule runs.
run_job <- function(snakemake, script, expression) {
  started <- utc_now()
  results <- snakemake@config[["results"]] %or% "results"
  outputs <- unique(as.character(unlist(snakemake@output)))
  unlink(sidecar(outputs))
  run_logged(snakemake@log, {
    inputs <- input_digests(snakemake@input, results)
    records <- input_records(names(inputs))
    expression
  })
  named <- function(slot) slot[nzchar(names(slot))]
  params <- named(snakemake@params)
  files <- unique(c(script, unlist(params[["sources"]][["scripts"]])))
  code <- lapply(file.path(snakemake@scriptdir, files), file_sha256)
  names(code) <- vapply(files, from_root, character(1L))
  facts <- c(
    list(
      rule = snakemake@rule, wildcards = as_object(named(snakemake@wildcards)), started = started,
      inputs = as_object(inputs), input_records = as_object(records), code = code,
      settings = as_object(params[setdiff(names(params), not_settings)])
    ),
    git_state(dirname(snakemake@scriptdir)),
    list(hardware = this_machine(), versions = loaded_versions(), completed = utc_now())
  )
  write_sidecars(outputs, results, facts)
}

#' Record every output of a job in the folder `results`, with the facts that they share.
write_sidecars <- function(outputs, results, facts) {
  digests <- stats::setNames(lapply(outputs, file_sha256), outputs)
  for (output in outputs) {
    own <- list(
      digest = no_digest, format = sidecar_format, results = results, path = output,
      sha256 = digests[[output]], bytes = file.size(output)
    )
    others <- digests[setdiff(outputs, output)]
    text <- jsonlite::toJSON(
      c(own, facts, list(made_with = as_object(others))),
      auto_unbox = TRUE, null = "null", digits = NA, pretty = 2
    )
    bytes <- c(charToRaw(enc2utf8(text)), charToRaw("\n"))
    whole <- sub(no_digest, record_digest(bytes), rawToChar(bytes), fixed = TRUE, useBytes = TRUE)
    write_whole(charToRaw(whole), sidecar(output))
  }
}

#' An empty list as the object {}, not the array [].
as_object <- function(values) {
  if (length(values) > 0L) values else stats::setNames(list(), character())
}

#' Write bytes that take the place of what was there when they are whole, and only then.
write_whole <- function(bytes, path) {
  dir.create(dirname(path), recursive = TRUE, showWarnings = FALSE)
  # Of jobs that were killed.
  pattern <- sprintf("^[.]\\Q%s\\E[.].*[.]part$", basename(path))
  unlink(list.files(dirname(path), pattern, all.files = TRUE, full.names = TRUE))
  partial <- file.path(dirname(path), sprintf(".%s.%d.part", basename(path), Sys.getpid()))
  writeBin(bytes, partial)
  file.rename(partial, path)
}
