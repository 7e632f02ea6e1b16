# F tests by item: repeated-measures analyses of variance of items' cell means. Base R only; source
# after common.R and inference.R. Rows are distinct answers, as `collapse_copies` leaves them.
#
# The unit of every test is the item (a story, a domain): answers of an item in a cell are averaged,
# and each effect is judged against its own spread over items, which is what a mixed model with an
# item slope for every effect does, and holds its level with 6 or 12 items, where likelihood ratios
# of such models do not (tests/statistics/simulate_models.R).

#' Means by item (rows) and cell (columns) of `factors`, NA where an item has no answer; answers to
#' one prompt are averaged first.
#'
#' @param rows A table with `value`, `prompt`, `item` and the factors.
#' @return A list of `means`, and of `cells`, the factors' levels by column.
item_cell_means <- function(rows, factors) {
  cell <- row_numbers(rows, factors)
  item <- row_numbers(rows, "item")
  asked <- row_numbers(list(cell$number, item$number, rows$prompt))
  value <- sums_by(asked$number, rows$value) / tabulate(asked$number)
  place <- cbind(item$number, cell$number)[asked$first, , drop = FALSE]
  shape <- c(length(item$first), length(cell$first))
  at <- place[, 1L] + shape[1L] * (place[, 2L] - 1)
  count <- tabulate(at, prod(shape))
  means <- matrix(ifelse(count > 0, sums_by(at, value, prod(shape)) / count, NA_real_), shape[1L])
  rownames(means) <- as.character(rows$item)[item$first]
  list(means = means, cells = as.data.frame(rows)[cell$first, factors, drop = FALSE])
}

#' The `number` of each row among the distinct combinations of some columns, in their order, and of
#' each combination the `first` row.
row_numbers <- function(rows, columns = seq_along(rows)) {
  number <- Reduce(function(before, name) {
    values <- rows[[name]]
    before <- (before - 1) * length(values) + match(values, sort(unique(values)))
    match(before, sort(unique(before)))
  }, columns, rep(1, length(rows[[1L]])))
  list(number = number, first = match(seq_len(max(0, number)), number))
}

#' Sums of values by group numbers.
sums_by <- function(number, values, groups = max(0, number)) {
  sums <- rowsum(values, number)
  out <- numeric(groups)
  out[as.integer(rownames(sums))] <- sums
  out
}

#' The part of such a table without holes: cells that most items lack are left out, then items that
#' lack a cell. `note` says so.
without_holes <- function(table, nouns) {
  held <- colMeans(!is.na(table$means)) >= 0.5
  means <- table$means[, held, drop = FALSE]
  whole <- rowSums(is.na(means)) == 0L
  list(
    means = means[whole, , drop = FALSE], cells = table$cells[held, , drop = FALSE],
    note = notes(
      if (!all(held)) sprintf("cells that most %s lack are left out: %d", nouns, sum(!held)),
      if (!all(whole)) holes_note(sum(!whole), nouns)
    )
  )
}

holes_note <- function(count, nouns) {
  sprintf("%s with no usable answer in some cell are left out: %d", nouns, count)
}

#' Orthonormal columns that span what `more` adds to `base` (matrices of the same rows).
added_space <- function(base, more) {
  if (ncol(base) > 0L) more <- qr.resid(qr(base), more)
  parts <- svd(more, nv = 0L)
  parts$u[, parts$d > 1e-8 * sqrt(nrow(more)), drop = FALSE]
}

#' The columns of a design with these terms (each the names of its factors) and an intercept.
term_columns <- function(cells, terms) {
  one <- matrix(1, nrow(cells), 1L)
  columns <- lapply(terms, function(term) {
    Reduce(function(left, name) {
      level <- factor(cells[[name]])
      own <- outer(as.integer(level), seq_len(nlevels(level)), "==") + 0
      left[, rep(seq_len(ncol(left)), each = ncol(own)), drop = FALSE] *
        own[, rep(seq_len(ncol(own)), ncol(left)), drop = FALSE]
    }, term, one)
  })
  do.call(cbind, c(list(one), columns))
}

#' Terms that do not hold all factors of `term`: what it is adjusted for (Type II).
beside <- function(terms, term) Filter(function(other) !all(term %in% other), terms)

#' The contrasts (columns) of the cells that a term is about, adjusted for the terms beside it.
term_contrasts <- function(cells, terms, term) {
  added_space(term_columns(cells, beside(terms, term)), term_columns(cells, list(term)))
}

no_test <- function(note) {
  data.frame(
    df_num = NA_real_, df_den = NA_real_, f = NA_real_, p = NA_real_, epsilon = NA_real_,
    eta_sq = NA_real_, note = note
  )
}

#' F test that a design between items, `larger`, explains no more of item scores (items x contrasts)
#' than `smaller`; the error is what `full` leaves. With `larger` one mean and `smaller` nothing, it
#' tests that the scores have a mean of zero.
#'
#' Contrasts that vary unequally over items cost degrees of freedom: both are multiplied by Box's
#' epsilon, estimated from unbiased estimates of trace(S)^2 and trace(S^2) (Lecoutre's correction of
#' Huynh and Feldt), which exist also where there are more contrasts than items.
#'
#' @param rank Dimensions of the scores, where columns depend on each other.
#' @param scale Size of the means that the scores are differences of; what is below its rounding
#'   error is no variation.
score_test <- function(scores, rank, scale, larger, smaller, full) {
  left <- function(design) {
    if (ncol(design) == 0L || nrow(scores) == 0L) scores else qr.resid(qr(design), scores)
  }
  rank_of <- function(design) if (ncol(design) == 0L) 0L else qr(design)$rank
  count <- nrow(scores)
  effects <- rank_of(larger) - rank_of(smaller)
  nu <- count - rank_of(full)
  if (rank < 1L || effects < 1L) return(no_test("the cells present do not separate the factors"))
  if (nu < 1L) return(no_test("too few items for a test"))
  rest <- left(full)
  error <- sum(rest^2)
  if (error <= count * rank * (1e-9 * max(1, scale))^2) {
    return(no_test(
      "no variation between items: the answers depend on the cell alone, so no F exists"
    ))
  }
  effect <- max(0, sum(left(smaller)^2) - sum(left(larger)^2))
  epsilon <- sphericity(rest, nu, rank)
  df <- epsilon * rank * c(effects, nu)
  f <- (effect / effects) / (error / nu)
  data.frame(
    df_num = df[1L], df_den = df[2L], f = f,
    p = stats::pf(f, df[1L], df[2L], lower.tail = FALSE), epsilon = epsilon,
    eta_sq = effect / (effect + error), note = ""
  )
}

#' Box's epsilon, 1 where all contrasts vary alike and 1 / rank where one alone does.
sphericity <- function(residuals, nu, rank) {
  if (rank == 1L) return(1)
  if (nu < 2L) return(1 / rank)
  gram <- tcrossprod(residuals) / nu
  squared <- sum(diag(gram))^2
  product <- sum(gram^2)
  unbiased <- c(
    (nu + 1) * squared - 2 * product, nu * product - squared
  ) * nu / ((nu - 1) * (nu + 2))
  if (unbiased[2L] <= 0) return(1)
  min(1, max(1 / rank, unbiased[1L] / (rank * unbiased[2L])))
}

#' F tests by item of terms, a row a term.
#'
#' Each term is adjusted for those that do not contain it (Type II); the terms that do are in the
#' error's model. A factor may vary within items or between them.
#'
#' @param rows A table with `value`, `prompt`, `item` and the factors.
#' @param terms Names of factors, a vector a term of the design.
#' @param wanted The terms to test.
item_tests <- function(rows, terms, wanted = terms, nouns = "items") {
  factors <- unique(unlist(terms))
  several <- vapply(factors, function(name) length(unique(rows[[name]])) > 1L, logical(1L))
  usable <- Filter(function(term) all(several[term]), terms)
  kind <- varies_within(rows, factors[several])
  within <- names(kind)[kind == "within"]
  table <- without_holes(item_cell_means(rows, within), nouns)
  bind(lapply(wanted, function(term) {
    result <- if (!all(several[term])) {
      no_test(sprintf("only one level of %s", toString(term[!several[term]])))
    } else if (nrow(table$means) < 2L) {
      no_test(sprintf("a test needs two %s with answers in every cell", nouns))
    } else if (max(table$means) - min(table$means) <= 1e-9 * max(1, abs(table$means))) {
      no_test(sprintf("constant data: every cell mean is %s, so no test exists",
        signif(table$means[1L], 3L)))
    } else if (any(kind == "partly")) {
      partly_note(kind, nouns)
    } else {
      between <- rows[match(rownames(table$means), as.character(rows$item)), , drop = FALSE]
      plan <- test_plan(table$cells, between, usable, term, within)
      planned_test(
        table$means %*% plan$contrasts, ncol(plan$contrasts), max(abs(table$means)), plan
      )
    }
    result$note <- notes(result$note, table$note)
    cbind(term = paste(term, collapse = ":"), result, n_items = nrow(table$means))
  }))
}

#' "within" where an item has several levels of a factor, "between" where every item has one, and
#' "partly" where some have one and some have several.
varies_within <- function(rows, factors) {
  vapply(stats::setNames(nm = factors), function(name) {
    levels <- tapply(as.character(rows[[name]]), as.character(rows$item), function(own) {
      length(unique(own))
    })
    # An item that lost all but one level to unusable answers makes no factor one between items.
    if (all(levels == 1L)) "between" else if (mean(levels > 1L) >= 0.5) "within" else "partly"
  }, character(1L))
}

partly_note <- function(kind, nouns) {
  no_test(sprintf(
    "%s: several levels for some %s only, so no test exists",
    toString(names(kind)[kind == "partly"]), nouns
  ))
}

#' How a term is tested: the contrasts (columns) of an item's cells that make its scores, and the
#' designs between items of `score_test`. The term without factors is the mean of all cells.
test_plan <- function(cells, between, terms, term, within) {
  own <- intersect(term, within)
  contrasts <- if (length(own) > 0L) {
    parts <- unique(lapply(terms, intersect, y = within))
    term_contrasts(cells, Filter(length, parts), own)
  } else {
    matrix(1 / sqrt(nrow(cells)), nrow(cells), 1L)
  }
  same <- Filter(function(other) setequal(intersect(other, within), own), terms)
  outside <- lapply(same, setdiff, y = within)
  # Beside factors between items, the mean over items is a term as others are.
  if (length(own) == 0L) outside <- c(list(character(0)), outside)
  target <- setdiff(term, within)
  others <- Filter(function(other) !all(target %in% other), outside)
  columns <- function(parts) {
    design <- term_columns(between, Filter(length, parts))
    if (any(lengths(parts) == 0L)) design else design[, -1L, drop = FALSE]
  }
  list(
    contrasts = contrasts, larger = columns(c(others, list(target))), smaller = columns(others),
    full = columns(outside)
  )
}

planned_test <- function(scores, rank, scale, plan) {
  score_test(scores, rank, scale, plan$larger, plan$smaller, plan$full)
}

#' F tests by item of models as a factor, and of whether terms differ between models: every model
#' answers to the same items. Work grows with the number of models, not with its square.
#'
#' @param rows As for `item_tests`, with `label`.
model_tests <- function(rows, terms, nouns = "items") {
  factors <- unique(unlist(terms))
  kind <- varies_within(rows, factors)
  within <- factors[kind == "within"]
  labels <- unique(rows$label)
  joined <- joined_tables(lapply(stats::setNames(nm = labels), function(label) {
    item_cell_means(rows[rows$label == label, , drop = FALSE], within)
  }), nouns)
  count <- length(joined$means)
  items <- if (count == 0L) character(0) else rownames(joined$means[[1L]])
  between <- rows[match(items, as.character(rows$item)), , drop = FALSE]
  several <- function(term) {
    all(vapply(term, function(name) length(unique(rows[[name]])) > 1L, logical(1L)))
  }
  terms <- Filter(several, terms)
  bind(lapply(c(list(character(0)), terms), function(term) {
    result <- if (count < 2L || length(items) < 2L) {
      no_test(sprintf("a test needs two models and two %s with answers in every cell", nouns))
    } else if (any(kind == "partly")) {
      partly_note(kind, nouns)
    } else {
      plan <- test_plan(joined$cells, between, terms, term, within)
      scores <- lapply(joined$means, function(means) means %*% plan$contrasts)
      centre <- Reduce(`+`, scores) / count
      planned_test(
        do.call(cbind, lapply(scores, function(own) own - centre)),
        (count - 1L) * ncol(plan$contrasts), max(abs(unlist(joined$means))), plan
      )
    }
    result$note <- notes(result$note, joined$note)
    cbind(
      term = paste(c("model", term), collapse = ":"), result, n_items = length(items),
      n_models = count
    )
  }))
}

#' The items and cells that all models have; models that lack cells of most items are left out.
joined_tables <- function(tables, nouns) {
  key <- function(cells) do.call(paste, c(list(rep("", nrow(cells))), unname(cells), sep = "\r"))
  all_cells <- unique(do.call(rbind, lapply(tables, function(table) table$cells)))
  items <- sort(unique(unlist(lapply(tables, function(table) rownames(table$means)))))
  spread <- lapply(tables, function(table) {
    table$means[match(items, rownames(table$means)), match(key(all_cells), key(table$cells)),
      drop = FALSE]
  })
  whole <- lapply(spread, function(means) rowSums(is.na(means)) == 0L)
  keep <- vapply(whole, function(own) mean(own) >= 0.5, logical(1L))
  shared <- Reduce(`&`, whole[keep], rep(TRUE, length(items)))
  list(
    means = lapply(spread[keep], function(means) means[shared, , drop = FALSE]),
    cells = all_cells,
    note = notes(
      if (!all(keep)) {
        sprintf("without %s: most %s lack answers in some cell", toString(names(tables)[!keep]),
          nouns)
      },
      if (any(keep) && !all(shared)) holes_note(sum(!shared), nouns)
    )
  )
}

#' Tests with how many distinct answers, of how many prompts, stand behind them.
with_counts <- function(tests, rows) {
  tests$note <- vapply(tests$note, notes, character(1L), USE.NAMES = FALSE, copies_note(rows))
  prompts <- row_numbers(rows, c("label", "prompt"))$first
  cbind(tests, n_answers = nrow(rows), n_prompts = length(prompts))
}

#' The analysis of variance of a study: per model and experiment, and with the model as a factor.
#'
#' @param rows As for `item_tests`, with the model's keys and `experiment`.
#' @param response,item What is analysed and what an item is called, for the formula.
item_anova <- function(rows, terms, response, item, nouns) {
  factors <- unique(unlist(terms))
  formula <- function(factors) {
    effects <- paste(factors, collapse = " * ")
    sprintf("%s ~ %s + Error(%s / (%s))", response, effects, item, effects)
  }
  each <- by_group(rows, c(model_keys, "experiment"), function(piece) {
    cbind(with_counts(item_tests(piece, terms, nouns = nouns), piece), formula = formula(factors))
  })
  bind(list(each, across_models(rows, terms, nouns, formula(c("model", factors)))))
}

#' `model_tests` per experiment and variant, as rows about all models.
#'
#' @param rows As for `model_tests`, with the model's keys and `experiment`.
across_models <- function(rows, terms, nouns, formula) {
  if (nrow(rows) == 0L) return(data.frame())
  by_group(rows, c("experiment", "variant"), function(piece) {
    if (length(unique(piece$label)) < 2L) return(NULL)
    cbind(
      data.frame(label = "all models", model_key = NA, model_name = NA),
      with_counts(model_tests(piece, terms, nouns), piece), formula = formula
    )
  })
}

#' The columns of a table of such tests.
item_test_columns <- c(
  "term", "df_num", "df_den", "f", "p", "epsilon", "eta_sq", "n_items", "n_models", "n_answers",
  "n_prompts", "formula", "note"
)
