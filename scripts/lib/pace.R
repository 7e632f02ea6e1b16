# How fast models answered and how busy their GPUs were, from metadata.json. Source after common.R,
# html.R and report.R.

#' A row for each experiment whose last job asked its model something; NULL where none did.
#'
#' @param records metadata.json of every replication.
pace_table <- function(records) {
  number <- function(value) suppressWarnings(as.numeric(first_of(dig(value))))
  bind(lapply(records, function(record) {
    bind(lapply(names(record$runs), function(label) {
      pace <- record$runs[[label]]$pace
      if (!is.list(pace)) return(NULL)
      gpus <- if (is.list(pace$gpu_use)) pace$gpu_use else list()
      of_gpus <- function(name) vapply(gpus, function(gpu) number(gpu[[name]]), numeric(1L))
      minutes <- number(pace$seconds) / 60
      data.frame(
        Model = mark_keys(first_of(dig(record, "model_key"))),
        Replication = dig(record, "replication_index"),
        Experiment = show_text(gsub("_", " ", label)),
        Answers = number(pace$answers), Minutes = show_number(minutes, 2),
        "Answers a minute" = show_number(number(pace$answers) / minutes, 1),
        "GPUs busy (%)" = show_number(mean_or_na(of_gpus("busy_percent")), 0),
        "Most GPU memory (GiB)" = show_number(max_or_na(of_gpus("memory_mib")) / 1024, 1),
        check.names = FALSE
      )
    }))
  }))
}

mean_or_na <- function(values) if (all(is.na(values))) NA_real_ else mean(values, na.rm = TRUE)
max_or_na <- function(values) if (all(is.na(values))) NA_real_ else max(values, na.rm = TRUE)

#' The table, with its caption. Columns on GPUs are left out where none was looked at.
show_pace <- function(records) {
  rows <- pace_table(records)
  if (is.null(rows) || nrow(rows) == 0L) return(invisible())
  on_gpus <- grepl("GPU", names(rows), fixed = TRUE)
  looked <- any(rows[["GPUs busy (%)"]] != show_number(NA, 0))
  show_table(rows[!on_gpus | looked], paste(c(
    "How fast models answered: the answers that the last job of an experiment asked for, and the",
    "minutes from when its model was there. What the journal held is in no row.",
    if (looked) c(
      "GPUs busy: mean share of the time in which something ran on them, of a look every ten",
      "seconds (nvidia-smi)."
    )
  ), collapse = " "))
}
