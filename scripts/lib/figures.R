# The look of all figures: colour-blind-safe colours, one theme; PNG at 150 dpi, SVG and PDF beside
# it. Needs ggplot2 and data.table.

experiment_names <- c(exp1 = "1: generated answers", exp2 = "2: scored probabilities")

#' A colour for each model, from Okabe and Ito's palette, or viridis where they are many.
model_colours <- function(labels) {
  labels <- unique(labels)
  safe <- c("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5539")
  colours <- if (length(labels) <= length(safe)) {
    safe[seq_along(labels)]
  } else {
    grDevices::hcl.colors(length(labels) + 1L, "viridis")[seq_along(labels)]
  }
  stats::setNames(colours, labels)
}

scale_models <- function(labels) {
  list(
    scale_colour_manual("Model", values = model_colours(labels)),
    scale_shape_manual(
      "Experiment",
      values = c(exp1 = 16, exp2 = 17), labels = experiment_names, limits = names(experiment_names)
    ),
    guides(colour = guide_legend(order = 1, ncol = 4), shape = guide_legend(order = 2))
  )
}

theme_grace <- function() {
  theme_minimal(base_size = 11) +
    theme(
      legend.position = "bottom", legend.box = "vertical", legend.margin = margin(0, 0, 0, 0),
      legend.spacing.y = unit(2, "pt"),
      panel.grid.minor = element_blank(), panel.border = element_rect(colour = "grey80", fill = NA),
      strip.text = element_text(face = "bold"), plot.title = element_text(face = "bold"),
      plot.title.position = "plot", plot.subtitle = element_text(colour = "grey30"),
      plot.caption = element_text(colour = "grey30", hjust = 0), plot.caption.position = "plot"
    )
}

#' Write a figure, with notes below its own caption.
#'
#' @param path Of the PNG. Beside it the same is written as SVG and PDF, whose letters are outlines,
#'   and what is drawn as CSV.
#' @param beside Whether those are.
save_figure <- function(plot, path, width = 9, height = 6, notes = character(0), beside = TRUE) {
  lines <- strwrap(notes, width = 13 * width)
  plot <- plot + labs(caption = paste(c(plot$labels$caption, lines), collapse = "\n"))
  height <- height + 0.17 * length(lines)
  dir.create(dirname(path), recursive = TRUE, showWarnings = FALSE)
  drawn <- NULL
  draw <- function(open) {
    open()
    on.exit(grDevices::dev.off())
    # A plot is laid out once, on the first device: that takes longer than drawing it.
    if (is.null(drawn)) drawn <<- ggplotGrob(plot)
    grid::grid.newpage()
    grid::grid.draw(drawn)
  }
  draw(function() {
    grDevices::png(path, width, height, units = "in", res = 150, bg = "white")
  })
  if (!beside) return(invisible())
  as <- function(ending) sub("\\.png$", ending, path)
  draw(function() grDevices::svg(as(".svg"), width, height, bg = "white"))
  shorter_svg(as(".svg"))
  draw(function() grDevices::cairo_pdf(as(".pdf"), width, height, bg = "white"))
  without_time(as(".pdf"))
  data.table::fwrite(figure_data(plot), as(".csv"), quote = "auto")
}

#' Round an SVG's numbers to a hundredth of a point: half the bytes, and no difference to see.
shorter_svg <- function(path) {
  text <- readLines(path, encoding = "UTF-8")
  text <- gsub("(\\.[0-9]{2})[0-9]+", "\\1", text)
  text <- gsub("rgb(0%,0%,0%)", "#000", text, fixed = TRUE)
  writeLines(gsub(";?(fill|stroke)-opacity:1;", ";", text), path, useBytes = TRUE)
}

#' Put one time into a PDF for that of its writing: the same figure is the same file.
without_time <- function(path) {
  bytes <- readBin(path, "raw", file.size(path))
  at <- grepRaw("/CreationDate \\(D:[0-9]{14}", bytes)
  if (length(at) == 0L) return(invisible())
  bytes[at + 17L + 0:13] <- charToRaw("20000101000000")
  writeBin(bytes, path)
}

#' What a figure draws: the rows of its layers, in their order, with `drawn_as`, the kinds of layers
#' that show them.
figure_data <- function(plot) {
  layers <- lapply(plot$layers, function(layer) {
    own <- is.data.frame(layer$data)
    data <- if (own) layer$data else plot$data
    kind <- sub("^geom", "", tolower(class(layer$geom)[1L]))
    if (is.data.frame(data) && nrow(data) > 0L && kind != "blank") list(data = data, kind = kind)
  })
  layers <- Filter(Negate(is.null), layers)
  tables <- unique(lapply(layers, `[[`, "data"))
  if (length(tables) == 0L) return(data.frame(drawn_as = character(0)))
  data.table::rbindlist(lapply(tables, function(table) {
    shown <- vapply(layers, function(layer) identical(layer$data, table), logical(1L))
    kinds <- vapply(layers[shown], `[[`, character(1L), "kind")
    plain <- lapply(as.list(table), function(column) {
      if (is.factor(column)) as.character(column) else column
    })
    cbind(drawn_as = paste(unique(kinds), collapse = " "), data.table::as.data.table(plain))
  }), fill = TRUE)
}

#' A figure that says why it is empty.
empty_figure <- function(title, reason) {
  ggplot() +
    annotate("text", x = 0, y = 0, label = reason, colour = "grey30", size = 5) +
    labs(title = title) +
    theme_void(base_size = 11) +
    theme(plot.title = element_text(face = "bold"))
}

#' The noise band of a distance, for a text in a figure: " (0.98 to 1.00)"; "" where there is none.
band_text <- function(distances, name) {
  low <- distances[[paste0(name, "_noise_low")]]
  high <- distances[[paste0(name, "_noise_high")]]
  if (is.null(low)) return(rep("", nrow(distances)))
  ifelse(is.na(low), "", sprintf(" (%.3f to %.3f)", low, high))
}

#' Height in inches for a plot whose legend and rows grow with the number of models.
grown <- function(base, labels, each = 0.12) {
  base + each * max(0, length(unique(labels)) - 2L)
}

#' Series (model x experiment) side by side.
side_by_side <- function(width = 0.6) position_dodge(width = width)

#' The series of a point or a line.
series <- function(...) {
  aes(..., colour = .data$label, group = interaction(.data$label, .data$experiment))
}

#' A point for every series, with its 95% interval; `ends` are the interval's, as from `aes`.
points_with_intervals <- function(ends, size) {
  list(
    geom_linerange(utils::modifyList(series(), ends), position = side_by_side(), na.rm = TRUE),
    geom_point(series(shape = .data$experiment), position = side_by_side(), size = size)
  )
}

#' Cells of experiment 1 with `scored`, their `value` in experiment 2; those that have both.
generated_and_scored <- function(cells, keys, value) {
  generated <- cells[cells$experiment == "exp1", , drop = FALSE]
  scored <- cells[cells$experiment == "exp2", , drop = FALSE]
  if (nrow(generated) == 0L || nrow(scored) == 0L) return(generated[0L, , drop = FALSE])
  scored$scored <- scored[[value]]
  both <- look_up(generated, scored, keys, "scored")
  both[!is.na(both$scored), , drop = FALSE]
}
