# What recipes have cost, forecast beside actual, as the report shows it. Source after common.R,
# html.R and report.R.

#' Rows of costs.csv that hold numbers; an empty one is not known.
costs_numbers <- c(
  "tries", "gpus", "forecast_hours", "hours", "forecast_gpu_hours", "gpu_hours", "forecast_usd",
  "usd"
)

#' The costs of recipes, a row for each step and training seed, and one for each recipe.
#'
#' @param paths The files `<results>/training/<recipe>/costs.csv`, in order.
#' @return Columns as `grace.posttraining.costs` writes them; `step` of a sum is "all", its `seed`
#'   and what is not known NA. A sum of forecasts is of the steps that have one, NA without any.
read_training_costs <- function(paths) {
  bind(lapply(paths, function(path) {
    rows <- read_csv(path, colClasses = "character")
    rows[costs_numbers] <- lapply(costs_numbers, function(name) {
      as_number(rows[[name]], name, path)
    })
    if (nrow(rows) == 0L) return(NULL)
    rows <- rows[c("recipe", "step", "seed", "on", "note", costs_numbers)]
    rbind(rows, costs_sum(rows))
  }))
}

costs_sum <- function(rows) {
  whole <- rows[1L, , drop = FALSE]
  whole$step <- "all"
  whole[c("seed", "on", "note", "gpus")] <- NA
  for (name in setdiff(costs_numbers, "gpus")) {
    values <- rows[[name]]
    forecast <- startsWith(name, "forecast_")
    whole[[name]] <- if (forecast && all(is.na(values))) NA_real_ else sum(values, na.rm = forecast)
  }
  whole
}

#' The same as a table for `show_table`. Money is left out where no hour of a GPU has a price, and
#' GPU-hours where no step had a GPU.
training_costs_table <- function(paths) {
  rows <- read_training_costs(paths)
  if (is.null(rows) || nrow(rows) == 0L) return(NULL)
  found <- data.frame(
    Recipe = show_text(rows$recipe), Step = rows$step,
    Seed = ifelse(is.na(rows$seed), "\u2013", rows$seed),
    On = ifelse(is.na(rows$on), "\u2013", rows$on), Tries = rows$tries,
    "Hours forecast" = show_number(rows$forecast_hours, 3), Hours = show_number(rows$hours, 3),
    "GPU-hours forecast" = show_number(rows$forecast_gpu_hours, 3),
    "GPU-hours" = show_number(rows$gpu_hours, 3),
    "USD forecast" = show_number(rows$forecast_usd, 2), USD = show_number(rows$usd, 2),
    Note = ifelse(is.na(rows$note), "\u2013", rows$note), check.names = FALSE
  )
  if (!any(rows$gpu_hours > 0, na.rm = TRUE)) {
    return(found[setdiff(names(found), c(
      "GPU-hours forecast", "GPU-hours", "USD forecast", "USD"
    ))])
  }
  if (any(rows$usd > 0, na.rm = TRUE)) return(found)
  found[setdiff(names(found), c("USD forecast", "USD"))]
}

#' The table, with its caption; nothing where no file of costs is among `files`.
#'
#' @param trainings By recipe, in the report's order.
show_training_costs <- function(trainings, files) {
  own <- files[basename(files) == "costs.csv"]
  order <- match(basename(dirname(own)), names(trainings))
  if (length(own) == 0L) return(invisible())
  show_table(training_costs_table(own[order(order)]), paste(
    "What training has cost, by step and training seed; 'all' sums a recipe up. Forecast: from",
    "before the last try of a step began. Hours: of all tries, by the clock, while the step needed",
    "a model; GPU-hours: these times its GPUs, nothing on cores. What the journal answered is not",
    "counted."
  ))
}
