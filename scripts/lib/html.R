# The report's HTML. Whatever is shown goes through `literal`, so that text of servers, files and
# models is read and never interpreted. Nothing here writes Markdown. Base R only.

#' Characters that no reader sees, or that turn the direction of what follows: shown by number.
unseen <- function(codes) {
  codes < 32L | (codes >= 127L & codes < 160L) | codes == 173L | codes == 0x61C |
    codes == 0x180E | (codes >= 0x200B & codes <= 0x200F) | (codes >= 0x2028 & codes <= 0x202E) |
    (codes >= 0x2060 & codes <= 0x206F) | codes == 0xFEFF | (codes >= 0xFFF9 & codes <= 0xFFFB) |
    (codes >= 0xE0000 & codes <= 0xE0FFF)
}

#' Text as HTML that shows it and does nothing else, in ASCII: all that HTML, Markdown or TeX could
#' take for a command is a character reference. NA is an en dash.
#'
#' @param longest Characters shown; of longer text the beginning, and how long it is.
literal <- function(values, longest = 300L) {
  text <- as.character(values)
  different <- unique(text)
  shown <- vapply(different, literal_text, character(1L), longest = longest, USE.NAMES = FALSE)
  shown[match(text, different)]
}

literal_text <- function(text, longest) {
  if (is.na(text)) return("&#8211;")
  text <- gsub("\r\n|\n|\r", "\u21b5", iconv(text, "UTF-8", "UTF-8", sub = "byte"), useBytes = TRUE)
  Encoding(text) <- "UTF-8"
  codes <- utf8ToInt(text)
  cut <- if (length(codes) > longest) {
    sprintf("&#8230; (%d characters)", length(codes))
  }
  codes <- codes[seq_len(min(length(codes), longest))]
  plain <- codes %in% utf8ToInt(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,;?/%+()"
  )
  hidden <- unseen(codes)
  shown <- sprintf("&#%d;", codes)
  shown[plain] <- strsplit(intToUtf8(codes[plain]), "")[[1L]]
  shown[hidden] <- sprintf("&#91;U+%04X&#93;", codes[hidden])
  paste(c(shown, cut), collapse = "")
}

#' Foreign text for a place where Markdown is read, such as a heading.
as_markdown <- function(values) literal(values)

#' A piece of HTML for the report, which pandoc passes on as it is. All text in it is `literal`.
html_block <- function(...) {
  html <- paste0(c(...), collapse = "\n")
  # A line of backticks would end the block.
  stopifnot(!grepl("`", html, fixed = TRUE))
  knitr::asis_output(paste0("\n\n```{=html}\n", html, "\n```\n\n"))
}

#' Paragraphs of plain text, one for each value.
paragraphs <- function(texts, class = NULL) {
  if (length(texts) == 0L) return(NULL)
  open <- if (is.null(class)) "<p>" else sprintf("<p class=\"%s\">", class)
  paste0(open, literal(texts, longest = 20000L), "</p>", collapse = "\n")
}

#' A list of points.
#'
#' @param texts Plain text. Names, where given, stand before it in bold.
points <- function(texts) {
  if (length(texts) == 0L) return(NULL)
  who <- if (is.null(names(texts))) rep("", length(texts)) else names(texts)
  bold <- ifelse(nzchar(who), sprintf("<strong>%s</strong> ", literal(who)), "")
  paste0(
    c("<ul>", sprintf("<li>%s%s</li>", bold, literal(texts, longest = 20000L)), "</ul>"),
    collapse = "\n"
  )
}

#' A table's HTML. Cells and names are plain text; `align` holds "l" or "r" a column. Columns of
#' words and sentences are of class "text" or "long": the page keeps them wide. Tables of many
#' columns are printed small.
#'
#' @param classes,links For each column the classes and addresses of its cells, or one for all; NA
#'   for no address.
table_html <- function(table, align, caption = NULL, id = NULL, classes = NULL, links = NULL) {
  longest <- vapply(table, function(column) max(0L, nchar(column), na.rm = TRUE), integer(1L))
  words <- ifelse(longest > 40L, "long", ifelse(longest > 18L, "text", ""))
  class <- ifelse(align == "r", "number", words)
  style <- ifelse(nzchar(class), sprintf(" class=\"%s\"", class), "")
  row <- function(tag, cells) {
    close <- sprintf("</%s>", sub(" .*", "", tag))
    paste0("<tr>", paste0("<", tag, style, ">", cells, close, collapse = ""), "</tr>")
  }
  cells <- do.call(cbind, lapply(unname(table), literal))
  # "< .001" is one word.
  cells <- sub("^&#60; ", "\\&#60;\\&#160;", cells)
  # So is what stands in brackets: a narrow column breaks before it.
  cells <- gsub("(&#91;[^ ]+,) ([^ ]+&#93;)", "\\1&#160;\\2", cells)
  cells <- sub("^([0-9.,]+) to ([0-9.,]+)$", "\\1 to&#160;\\2", cells)
  dim(cells) <- c(nrow(table), ncol(table))
  if (!is.null(links)) {
    at <- do.call(cbind, lapply(links, rep_len, nrow(table)))
    linked <- !is.na(at)
    # An ampersand begins a reference.
    at <- gsub("&", "&amp;", at, fixed = TRUE)
    cells[linked] <- sprintf("<a href=\"%s\">%s</a>", at[linked], cells[linked])
  }
  body <- apply(cells, 1L, function(values) row("td", values))
  if (!is.null(classes)) {
    given <- do.call(cbind, lapply(classes, rep_len, nrow(table)))
    body <- vapply(seq_len(nrow(table)), function(i) {
      own <- trimws(paste(class, given[i, ]))
      style <- ifelse(nzchar(own), sprintf(" class=\"%s\"", own), "")
      paste0("<tr>", paste0("<td", style, ">", cells[i, ], "</td>", collapse = ""), "</tr>")
    }, character(1L))
  }
  columns <- ncol(table)
  kind <- c(
    if (columns > 13L) "broader" else if (columns > 9L) "broad", if (!is.null(classes)) "heat"
  )
  broad <- if (is.null(kind)) "" else sprintf(" class=\"%s\"", paste(kind, collapse = " "))
  name <- if (is.null(id)) "" else sprintf(" id=\"%s\"", id)
  paste0(c(
    sprintf("<table%s%s>", name, broad),
    if (!is.null(caption)) {
      sprintf("<caption><div>%s</div></caption>", literal(caption, longest = 2000L))
    },
    "<thead>", row("th scope=\"col\"", literal(names(table))), "</thead>", "<tbody>",
    body, "</tbody>", "</table>"
  ), collapse = "\n")
}

#' A figure's HTML with the picture inside.
#'
#' @param path SVG, or PNG.
#' @param result What the figure shows, in words, after the caption in its description.
#' @param beside Where its files are as seen from the page, without their endings; NULL for none.
figure_html <- function(path, caption, notes = character(0), result = NULL, id = NULL,
                        beside = NULL) {
  vector <- grepl("\\.svg$", path)
  image <- sprintf(
    "<img src=\"%s\"%s alt=\"%s\"/>", if (vector) svg_uri(path) else knitr::image_uri(path),
    if (vector) sprintf(" width=\"%d\"", svg_width(path)) else "",
    literal(paste(c(caption, result), collapse = " "), longest = 2000L)
  )
  if (!is.null(beside)) {
    at <- utils::URLencode(beside)
    links <- sprintf("<a href=\"%s.%s\">%s</a>", at, c("svg", "png", "pdf", "csv"),
      c("SVG", "PNG", "PDF", "numbers (CSV)"))
    image <- sprintf("<a class=\"picture\" href=\"%s.svg\">%s</a>", at, image)
    files <- sprintf("<br/><span class=\"files\">%s</span>", paste(links, collapse = " "))
  } else {
    files <- ""
  }
  sprintf(
    "<figure%s>%s<figcaption>%s%s</figcaption></figure>",
    if (is.null(id)) "" else sprintf(" id=\"%s\"", id), image,
    paste(literal(c(caption, notes), longest = 2000L), collapse = "<br/>"), files
  )
}

#' An SVG file as an address: a browser draws it as a picture, in which nothing runs.
svg_uri <- function(path) {
  text <- paste(readLines(path, encoding = "UTF-8"), collapse = " ")
  text <- gsub("\"", "'", text, fixed = TRUE)
  for (sign in c("%", "#", "<", ">", "`", "&")) {
    text <- gsub(sign, sprintf("%%%X", utf8ToInt(sign)), text, fixed = TRUE)
  }
  paste0("data:image/svg+xml,", text)
}

#' An SVG's width in CSS pixels: figures of any width have letters of one size.
svg_width <- function(path) {
  head <- paste(readLines(path, n = 5L, encoding = "UTF-8"), collapse = " ")
  points <- as.numeric(sub(".*? width=\"([0-9.]+)(pt)?\".*", "\\1", head, perl = TRUE))
  as.integer(round(points * 96 / 72))
}
