# What the report says of study 1 outside its section, in Markdown, and the findings of its summary.
# Sourced after scripts/lib/common.R, html.R, report.R and sections.R.

section <- list(
  label = "study 1",
  heading = "Study 1, knowledge attribution",
  about = "a study of what listeners infer about a speaker's knowledge (study 1)",
  kind = "pragmatics",
  glossary = c(
    paste(
      "- A **cell** of study 1 is written access/said: 3/2 means that the speaker looked at 3 of",
      "the 3 items and said that 2 of them have the property. A **bet** is the percentage given to",
      "one state, the number of items (0 to 3) that have the property."
    ),
    paste(
      "- **RSA** is the Rational Speech Act model of a listener who reasons about what the speaker",
      "saw and meant. With full access, \"two\" suggests \"not three\"; with partial access the",
      "speaker may simply not know, and this *implicature* should be **cancelled**."
    )
  ),
  distances = paste(
    "**EMD**, the earth mover's distance, counts by how many states the bets would have to move."
  ),
  intervals = "The items of study 1 are its six stories; so few make wide intervals.",
  methods = c(
    paste(
      "- **Study 1, contrasts.** Paired t tests and equivalence tests on the mean difference of",
      "each story. A contrast is *equivalent* if it is within the margin by the equivalence test,",
      "else it *holds* or is *reversed* with p (BH) below .05, else it is *undecided*: that a test",
      "finds nothing does not show that nothing is there. One that is the same for every story has",
      "no test and is judged by its size. People's *cancelled* is as published, from one-tailed",
      "tests; their bets are not public, so that equivalence cannot be tested. A decided contrast",
      "agrees if it holds where people's does and not where theirs is cancelled; chance is what",
      "outcomes dealt out at random would give. Cancellation is paired by story."
    ),
    paste(
      "- **Study 1, analysis of variance.** Only cells with said \u2264 access exist, so the",
      "design is incomplete and the interaction has one degree of freedom. Each factor is tested",
      "beside the other (Type II). A participant number only labels rows of a language model's",
      "trials and is not a random effect. Stories are the items.", item_tests_method
    )
  ),
  people = paste(
    "No individual bets are public for study 1; the published tests stand in for them, quoted from",
    "secondary sources that disagree on which of the contrasts of cell 3/1 has t = 13.1 and which",
    "17.1."
  ),
  fitted = paste(
    "The speaker's rationality alpha, the base rate of the property that the listener starts",
    "from, and the share of the bets that is spread evenly over all states (error), by minimal",
    "divergence of the listener's beliefs from the bets, scaled to 100 %. In the paper alpha is",
    "3.4 and the base rate .62, without error. All stories share one base rate here. The",
    "interval by story says what other stories would give; that by condition, from fits without",
    "one of the six cells each, how far it reaches that the listener is only about right."
  ),
  agreement = list(study1_agreement = "Study 1: mean bets, generated against scored.")
)

cell_name <- function(access, observe) sprintf("%d/%d", access, observe)

#' Findings of study 1, one sentence a model and experiment, all from the tables, named by the
#' model's label.
findings <- function(tables) {
  distances <- tables$distances
  if (is.null(distances) || nrow(distances) == 0L) return(no_answer)
  groups <- unique(distances[c("label", "experiment")])
  said <- vapply(seq_len(nrow(groups)), function(i) {
    mine <- function(table) {
      here <- table$label == groups$label[i] & table$experiment == groups$experiment[i]
      table[here, , drop = FALSE]
    }
    rsa <- mine(distances)
    rsa <- rsa[rsa$reference == "rsa" & !is.na(rsa$jsd_bits), , drop = FALSE]
    paste0(
      sprintf("%s: ", in_experiment[[groups$experiment[i]]]),
      sprintf(
        "the favourite state is that of the RSA listener in %d of %d cells (mean JSD %s bits)",
        sum(rsa$same_favourite, na.rm = TRUE), nrow(rsa), show_number(mean_or_na(rsa$jsd_bits), 3)
      ),
      sentence_cancellation(mine(tables$cancellation)), sentence_contrasts(mine(tables$contrasts)),
      sentence_knowledge(mine(tables$knowledge)), "."
    )
  }, character(1L))
  stats::setNames(said, groups$label)
}

sentence_cancellation <- function(rows) {
  wanted <- rows$filter == "all answers" & rows$word == "two" & !is.na(rows$index)
  rows <- rows[wanted, , drop = FALSE]
  if (nrow(rows) == 0L) return("")
  direction <- if (is.na(rows$ci_low[1L])) {
    "no interval can be given"
  } else if (rows$ci_low[1L] > 0) {
    "the reading \"not all\" weakens when the speaker has not seen everything, as RSA predicts"
  } else if (rows$ci_high[1L] < 0) {
    "the reading \"not all\" gets stronger with less access, against RSA"
  } else {
    "its interval includes 0: no reliable cancellation"
  }
  sprintf(
    "; cancellation index for \"two\" %s points (RSA %s): %s",
    show_interval(rows$index[1L], rows$ci_low[1L], rows$ci_high[1L], 1),
    show_number(rows$rsa[1L], 1), direction
  )
}

sentence_contrasts <- function(rows) {
  found <- decided_agreement(
    rows$same_pattern, rows$model_pattern == "holds", rows$human_pattern == "holds"
  )
  untested <- sum(is.na(rows$model_pattern))
  undecided <- nrow(rows) - found$decided - untested
  if (untested == nrow(rows)) {
    return(sprintf("; none of the %d planned contrasts can be tested", untested))
  }
  paste0(
    if (found$decided == 0L) {
      "; no planned contrast is decided"
    } else {
      sprintf(
        "; %d of %d decided contrasts are as in people (by chance %s)", found$agree,
        found$decided, show_number(found$chance, 1)
      )
    },
    if (undecided > 0L) sprintf(", %d are undecided", undecided),
    if (untested > 0L) sprintf(", %d cannot be tested", untested)
  )
}

sentence_knowledge <- function(rows) {
  rows <- rows[!is.na(rows$p_knows), , drop = FALSE]
  if (nrow(rows) == 0L) return("")
  sprintf(
    "; P(\"the speaker knows exactly\") is %s",
    toString(sprintf("%s with access %d", show_number(rows$p_knows), rows$access))
  )
}
