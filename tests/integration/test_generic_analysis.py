"""The generic analysis of a study from its declaration alone, on made tables of known truth."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import r_analysis
from game_analysis import (
    CELLS,
    DECLARATION,
    DRIVER,
    FIGURES,
    LABELS,
    TABLES,
    analyse,
    game_rows,
    people_rows,
    prepare,
)
from r_analysis import ROOT, benjamini_hochberg, jsd, one, rscript, share_interval, wilson
from recipes import blocks, write
from report_page import GENERATION, HOSTILE, TAGS, page, write_page
from scipy import stats


@pytest.fixture(scope="module")
def rows():
    return game_rows()


@pytest.fixture(scope="module")
def game(tmp_path_factory, rows):
    return analyse(tmp_path_factory.mktemp("game"), rows)


def test_cells_hold_models_people_and_theory_with_their_intervals(game, rows):
    cells = game["cells"]
    table = pd.DataFrame(rows)
    for role, level in CELLS:
        mine = table[(table["role"] == role) & (table["level"] == level)]
        where = {"role": role, "level": int(level)}
        for label in LABELS:
            found = cells[cells["distribution"] == "choice"]
            n = (mine["choice_label"] == label).sum()
            row = one(found, experiment="exp1", outcome=label, **where)
            assert (row["n"], row["total"]) == (n, len(mine))
            hits = (mine["choice_label"] == label).to_numpy()
            limits = share_interval(hits, mine["item"])
            assert (row["ci_low"], row["ci_high"]) == pytest.approx(limits)
            row = one(found, experiment="exp2", outcome=label, **where)
            assert row["value"] == pytest.approx(mine[f"prob_{label}"].mean())
            assert row["ci_low"] < row["value"] < row["ci_high"]
            assert row["n_prompts"] == row["n_items"] == row["total"] == 12
            assert row["note"] == "108 copies not counted"
            row = one(found, label="human", outcome=label, **where)
            assert (row["ci_low"], row["ci_high"]) == pytest.approx(wilson(row["n"], 100))
            row = one(found, label="rsa", outcome=label, **where)
            assert math.isnan(row["ci_low"])
        row = one(cells[cells["distribution"].isna()], label="human", **where)
        assert (row["response"], row["value"]) == ("chose the target", 0.6)
        row = one(cells[cells["distribution"].isna()], experiment="exp1", **where)
        assert row["value"] == pytest.approx((mine["choice_label"] == "target").mean())


def test_contrasts_are_paired_over_items(game, rows):
    table = pd.DataFrame(rows)
    table["target"] = (table["choice_label"] == "target").astype(float)
    table["competitor"] = table["choice_label"].eq("competitor").astype(float)
    means = table.groupby(["role", "item"])["target"].mean()
    by_level = table[table["role"] == "interpretation"].groupby(["level", "item"])["competitor"]
    tests = [
        stats.ttest_1samp(means["production"] - means["interpretation"], 0),
        stats.ttest_1samp(by_level.mean()["2"] - by_level.mean()["10"], 0),
    ]
    adjusted = benjamini_hochberg([test.pvalue for test in tests])
    for name, test, p in zip(("roles differ", "nothing"), tests, adjusted, strict=True):
        row = one(game["contrasts"], contrast=name, experiment="exp1")
        assert (row["t"], row["df"]) == pytest.approx((test.statistic, 11))
        assert row["p_bh"] == pytest.approx(p)
        assert (row["n_higher"], row["unit"]) == (12, "pairs of item")
    planned = one(game["contrasts"], contrast="roles differ", experiment="exp1")
    assert planned["pattern"] == "higher"
    assert planned["people_p_two_sided"] == pytest.approx(2 * stats.t.sf(5.1, 40))
    theirs = one(game["contrasts"], contrast="roles differ", label="rsa")
    assert theirs["difference"] == pytest.approx((0.8 + 0.6 - 0.5 - 0.3) / 2)
    theirs = one(game["contrasts"], contrast="nothing", label="rsa")
    assert theirs["difference"] == pytest.approx(0.4 - 0.6)


def test_distances_and_agreement_follow_from_the_cells(game):
    cells = game["cells"]
    cells = cells[cells["distribution"] == "choice"]

    def distributions(label, experiment="reference"):
        mine = cells[(cells["label"] == label) & (cells["experiment"] == experiment)]
        return {
            key: piece.set_index("outcome")["value"].reindex(LABELS).to_numpy()
            for key, piece in mine.groupby(["role", "level"])
        }

    human, rsa = distributions("human"), distributions("rsa")
    own = {exp: distributions("m", exp) for exp in ("exp1", "exp2")}
    for experiment, mine in own.items():
        for source, theirs in (("human", human), ("rsa", rsa)):
            row = one(game["distances"], experiment=experiment, reference=source)
            x, y = (np.concatenate([side[cell] for cell in theirs]) for side in (mine, theirs))
            assert row["jsd_bits"] == pytest.approx(
                np.mean([jsd(mine[c], theirs[c]) for c in mine])
            )
            assert row["rmse"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
            assert row["r"] == pytest.approx(np.corrcoef(x, y)[0, 1])
            assert math.isnan(row["jsd_floor_bits"]) == (source == "rsa")
    row = game["agreement"].iloc[0]
    assert row["value"] == pytest.approx(
        np.mean([jsd(own["exp1"][cell], own["exp2"][cell]) for cell in human])
    )


def test_copies_of_an_answer_count_once_in_agreement():
    """Three replications at temperature 0; at 0.7 each answer is a draw of its own."""
    code = """
    for (name in c(
      "common", "statistics", "inference", "agreement", "generic_agreement", "generic_analysis"
    )) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    made <- expand.grid(outcome = c("x", "y"), prompt = 1:4, replication = 1:3, e = 1:2)
    rows <- data.frame(
      label = "m", model_key = "m", model_name = "m", variant = "seed",
      experiment = paste0("exp", made$e), replication = made$replication,
      prompt_id = paste("p", made$prompt), row = made$prompt + 10 * made$replication,
      request_seed = made$replication, distribution = "choice", outcome = made$outcome,
      response = "P", value = ifelse(made$e == 1, made$outcome == "x", 0.5)
    )
    choice <- list(name = "choice", outcomes = c("x", "y"))
    for (greedy in c(FALSE, TRUE)) {
      cat(distribution_agreement(rows, choice, NULL, rep(0, 40), 1, greedy)$n, "")
    }
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1", "12", "12", "1", "1", "4", "4"]


def test_answers_of_0_and_1_are_counts_only_where_the_scale_ends_there():
    """A model that always answers 1 on a scale of 1 to 5 has a mean of 1, not a share of 100 %."""
    code = """
    for (name in c("common", "statistics", "inference", "generic_analysis")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    rows <- data.frame(
      label = "m", model_key = "m", model_name = "m", variant = "seed", experiment = "exp1",
      prompt_id = paste("p", 1:6), item = 1:6, copies = 0L, response = "R", distribution = NA,
      outcome = NA, value = 1
    )
    stacked <- do.call(rbind, lapply(1:3, function(i) cbind(rows, measure = i)))
    found <- list(list(range = c(1, 5)), list(range = c(0, 1)), list(range = numeric(0)))
    cells <- generic_cells(stacked, data.frame(), NULL, found, "item")
    cat(cells$value, cells$ci_low, cells$ci_high, cells$n)
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    value, low, high, n = np.array(
        [np.nan if word == "NA" else float(word) for word in done.stdout.split()]
    ).reshape(4, 3)
    assert value.tolist() == [1, 1, 1]
    assert np.isnan([low[0], high[0], n[0]]).all(), "there is no spread to tell an interval from"
    assert (low[1:] > 0.5).all()
    assert (high[1:] == 1).all()
    assert (n[1:] == 6).all()


def test_a_contrast_over_several_cells_weighs_them_alike_in_every_item():
    """Between cells of 20 and 80 lies no difference, however many answers each of them has."""
    code = """
    for (name in c("common", "statistics", "inference", "item_tests", "generic_measures",
      "generic_models", "generic_analysis")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    rows <- expand.grid(item = letters[1:8], side = c("a", "b"), other = c("x", "y"))
    rows$value <- ifelse(rows$other == "y", 80, 20) + as.integer(rows$item) * (rows$side == "a")
    rows <- cbind(rows, label = "m", model_key = "m", model_name = "m", variant = "seed",
      experiment = "exp1", prompt_id = seq_len(nrow(rows)), response = "R", distribution = NA,
      copies = 0L)
    declaration <- jsonlite::fromJSON(paste0(
      '{"item": "item", "factors": ["side", "other"], "contrasts": [{"name": "d", "response": "R",',
      '"higher": {"side": "a"}, "lower": {"side": "b"}}]}'
    ), simplifyVector = FALSE)
    found <- list(list(response = "R", range = c(0, 100)))
    show <- function(made) {
      one <- generic_contrasts(
        made, data.frame(experiment = character(0)), found, declaration, 10, rows
      )
      cat(one$n_higher, one$difference, one$note, "", sep = ";")
    }
    show(rows)
    show(rows[c(seq_len(nrow(rows)), rep(which(rows$side == "a" & rows$other == "y"), 4)), ])
    show(rows[!(rows$side == "b" & rows$other == "y" & rows$item %in% c("a", "h")), ])
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    found = np.array(done.stdout.split(";")[:9]).reshape(3, 3)
    assert found[:, 0].tolist() == ["8", "8", "6"]
    assert found[:, 1].astype(float).tolist() == pytest.approx([4.5] * 3)
    assert "items with no usable answer in some cell are left out: 2" in found[2, 2]


def test_pairs_have_one_direction_in_any_language_and_queries_are_not_mixed(monkeypatch):
    """Two queries with the same options are two measures, of .9 and .1, and not one of .5."""
    code = """
    for (name in c(
      "common", "statistics", "inference", "item_tests", "variance_components",
      "planned_precision", "model_comparison", "generic_measures", "generic_models",
      "generic_analysis"
    )) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    declaration <- list(item = "item")
    rows <- expand.grid(item = 1:6, query = 1:2, model = c("Zeta", "alpha"))
    rows <- data.frame(
      label = rows$model, model_key = rows$model, model_name = rows$model, variant = "seed",
      experiment = "exp2", prompt_id = rows$item, item = rows$item, replication = 0,
      response = "P(yes)", distribution = paste0("q", rows$query), outcome = "yes",
      value = c(0.9, 0.1)[rows$query] + ((rows$model == "alpha") + rows$item %% 2) / 100
    )
    found <- list(list(response = "P(yes)", range = c(0, 1)))
    pairs <- model_pairs(generic_measure_list(rows, declaration, found), 10)
    cat(pairs$measure, pairs$label_a, pairs$value_a, sep = ";")
    """
    for language in ("C", "C.UTF-8"):
        monkeypatch.setenv("LC_ALL", language)
        done = rscript(code)
        assert done.returncode == 0, done.stderr
        *names, first, second = done.stdout.split(";")
        assert names == ["q1: P(yes)", "q2: P(yes)", "Zeta", "Zeta"]
        assert (float(first), float(second)) == pytest.approx((0.905, 0.105))


def test_mixed_models_recover_what_the_answers_were_drawn_with(game):
    models = game["models"]
    fit = models[(models["model"] == "target by role") & (models["experiment"] == "exp1")]
    role = one(fit, term="roleproduction")
    # Log odds of the four cells: 1.39, 0.41 in production; 0, -0.85 in interpretation.
    assert role["estimate"] == pytest.approx(1.32, abs=3 * role["se"])
    assert "no slope by item for role" in role["note"]
    assert fit["p"].notna().sum() == 1, "no p is read off a mixed model"
    tested = one(fit, kind="F by item")
    assert (tested["term"], tested["df"], tested["df_den"]) == ("role", 1, 11)
    assert tested["p"] == pytest.approx(stats.f.sf(tested["statistic"], 1, 11))
    scored = models[(models["model"] == "target by role") & (models["experiment"] == "exp2")]
    assert "no counts" in one(scored, kind="none")["note"]
    assert one(scored, kind="F by item")["p"] < 1e-6
    scored = models[(models["model"] == "scored") & (models["experiment"] == "exp2")]
    assert (scored["n"] == 48).all(), "copies of a prompt enter once"


def test_contrast_between_items_keeps_its_level_and_equivalence_its_margin():
    """Items nested in cells: of 2000 simulated runs without a difference 5 % reject."""
    code = """
    for (name in c("common", "statistics", "inference", "generic_measures", "generic_models")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    set.seed(4)
    p <- replicate(2000, {
      tested <- test_between(rnorm(8, 0.5, 0.1), rnorm(12, 0.5, 0.2), 0.1)
      c(tested$p < 0.05, tested$ci_low < 0 && tested$ci_high > 0)
    })
    edge <- replicate(2000, {
      test_between(rnorm(8, 0.6, 0.05), rnorm(8, 0.5, 0.05), 0.1)$p_equivalence
    })
    cat(rowMeans(p), mean(edge < 0.05))
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    rejected, covered, equivalent = map(float, done.stdout.split())
    assert rejected == pytest.approx(0.05, abs=0.016)
    assert covered == pytest.approx(1 - rejected)
    assert equivalent == pytest.approx(0.05, abs=0.016)


def minimal(folder):
    """One experiment, no factor, no label, no people: as little as a declaration can say."""
    declaration = {
        "title": "Pairs",
        "summary": "Which sentence?",
        "stimuli": {"key": ["pair"], "columns": {"pair": "text"}},
        "score": [{"name": "sentence", "options": ["good", "bad"], "columns": "prob_{option}"}],
    }
    rng = np.random.default_rng(2)
    rows = [
        {"model_key": "m", "model_name": "m", "replication": 0, "variant": "seed", "pair": f"p{i}",
         "prompt_id": f"p{i}", "exp2_status": "ok", "prob_good": p, "prob_bad": 1 - p}
        for i, p in enumerate(rng.uniform(0.4, 0.9, 24))
    ]  # fmt: skip
    return rows, analyse(folder, rows, declaration, reference=[], figures="whole")


def test_a_statistic_is_added_as_contributing_writes_it(tmp_path, monkeypatch):
    """Function, column and test; the test that is written there is run."""
    for part in ("scripts", "workflow/lib"):
        shutil.copytree(ROOT / part, tmp_path / "project" / part)
    *added, (_, test) = blocks("Adding a statistic")
    for language, text in added:
        write(language, text, tmp_path / "project")
    monkeypatch.setattr(r_analysis, "ROOT", tmp_path / "project")
    found = globals().copy()
    exec(test, found)
    (name,) = found.keys() - globals().keys()
    found[name](tmp_path / "made")
    columns = "from grace.studies.declaration import ANALYSIS_COLUMNS as it; print(*it)"
    reserved = subprocess.run(
        [sys.executable, "-c", columns], cwd=tmp_path / "project/workflow/lib",
        env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert "total_variation" in reserved


def test_a_declaration_that_says_little_has_cells_and_figures_all_the_same(tmp_path):
    rows, tables = minimal(tmp_path)
    cell = one(tables["cells"], outcome="good")
    assert cell["value"] == pytest.approx(np.mean([row["prob_good"] for row in rows]))
    assert one(tables["quality"], experiment="exp2")["usable"] == 24
    assert tables["contrasts"].empty
    assert tables["models"].empty
    assert tables["distances"].empty
    assert list(tables["agreement"]["note"]) == ["experiment 1 has no usable answer"]


def test_what_is_no_formula_or_column_is_refused_and_never_run(tmp_path, rows):
    model = {"name": "x", "response": "chose the target"}
    refused = [
        ({"models": [model | {"formula": "response ~ system('touch owned')"}]},
         "formula 'response ~ system('touch owned')' names system; it may name response, role"),
        ({"models": [model | {"formula": "response ~ role", "compare": ["system('touch owned')"]}]},
         "names system"),
        ({"models": [model | {"formula": "response ~ ("}]}, "is no formula of R"),
        ({"responses": [{"name": "P(x)", "exp1": "no_column"}]},
         "'no_column' is neither a column of the table nor"),
        ({"responses": [{"name": "P(x)", "exp1": "system('touch owned') == 1"}]},
         "is neither a column"),
        ({"factors": ["role", "model_key"]}, "factors: model_key: tables of the analysis"),
    ]  # fmt: skip
    jobs = []
    for number, (change, _) in enumerate(refused):
        folder = tmp_path / str(number)
        prepare(folder, rows[:80], DECLARATION | change, [])
        jobs.append(str(folder / "job.json"))
    code = DRIVER.replace("jsonlite::read_json(commandArgs(TRUE)[1])", "list()").replace(
        "analyse(job$input, job$output, job$params)",
        """
        for (path in commandArgs(TRUE)) {
          job <- jsonlite::read_json(path)
          tryCatch(
            analyse(job$input, job$output, job$params),
            error = function(e) cat(conditionMessage(e), "\n")
          )
        }
        """,
    )
    lines = rscript(code, *jobs).stdout.splitlines()
    assert len(lines) == len(refused)
    for line, (_, said) in zip(lines, refused, strict=True):
        assert said in line
    assert not (ROOT / "owned").exists()


def test_people_are_joined_by_the_columns_that_the_declaration_names(tmp_path):
    """Cells of people that are finer than the factors are added up; the outcome is two columns."""
    frames, words = ["was", "wasn't"], ["good", "bad"]
    declaration = {
        "title": "Polite",
        "stimuli": {"key": ["id"], "columns": {}},
        "score": [
            {
                "name": "utterance",
                "options": {
                    "product": {"frame": frames, "word": words},
                    "text": "It {{ frame }} {{ word }}",
                },
                "columns": "prob_{frame}_{word}",
            }
        ],
        "factors": ["goal"],
        "people": {"cells": ["goal", "state"], "outcome": {"frame": frames, "word": words}},
    }
    options = [(frame, word) for frame in frames for word in words]
    people = [
        {"source": "human", "goal": goal, "state": state, "frame": frame, "word": word,
         "n": n + state, "total": 10 + 4 * state, "probability": 0}
        for goal in ("kind", "frank") for state in (0, 1)
        for (frame, word), n in zip(options, (4, 3, 2, 1), strict=True)
    ]  # fmt: skip
    rows = [
        {"model_key": "m", "model_name": "m", "replication": 0, "variant": "seed", "id": i,
         "prompt_id": f"{goal}{i}", "goal": goal, "exp2_status": "ok", "prob_was_good": 0.4,
         "prob_was_bad": 0.3, "prob_wasnt_good": 0.2, "prob_wasnt_bad": 0.1}
        for goal in ("kind", "frank") for i in range(3)
    ]  # fmt: skip
    tables = analyse(tmp_path, rows, declaration, people)
    cell = one(tables["cells"], label="human", goal="kind", outcome="wasn't bad")
    assert (cell["n"], cell["total"]) == (1 + 2, 10 + 14)
    row = one(tables["distances"], label="m")
    assert row["n_cells"] == 2
    assert row["jsd_bits"] == pytest.approx(jsd([4, 3, 2, 1], [9, 7, 5, 3]))


def test_answers_that_cannot_be_read_do_not_count(tmp_path, rows):
    spoiled = [row.copy() for row in rows]
    for row in spoiled:
        row |= {"extraction_errors": "choice not found", "choice_label": None}
        row |= {f"prob_{label}": None for label in LABELS} | {"exp2_status": "failed"}
    tables = analyse(tmp_path, spoiled, reference=[], figures="png")
    assert (tables["quality"]["usable"] == 0).all()
    assert tables["cells"].empty


def report(folder: Path, studies: dict[str, tuple[Path, dict]]) -> Path:
    """The report on studies without a section of their own: folder and declaration by name."""
    folder.mkdir(exist_ok=True)
    given: dict[str, list[str]] = {"metadata": [], "validation": []}
    for name, (made, _) in studies.items():
        for kind, files in (("tables", TABLES), ("figures", FIGURES.values())):
            beside, suffix = {"tables": (made, "csv"), "figures": (made / "figures", "svg")}[kind]
            given[f"{kind}_{name}"] = [
                shutil.copy(beside / f"game_{file}.{suffix}", folder / f"{name}_{file}.{suffix}")
                for file in files
            ]
    sections = [
        {"name": name, "sources": [], "section": "lib/generic_section.Rmd"} for name in studies
    ]
    settings = {
        "seed": 7, "equivalence_margin": 10, "generation": GENERATION, "origins": {},
        "studies": {name: json.dumps(said) for name, (_, said) in studies.items()},
    }  # fmt: skip
    return write_page(folder, given, settings, sections)


def test_a_study_without_a_section_of_its_own_is_in_the_report_and_its_text_is_inert(tmp_path):
    """Two studies from declarations alone; every text of one's is hostile. One was not asked."""
    said = " ".join(text for text in HOSTILE if len(text) < 1000)
    names = dict(zip(LABELS, (f"{said} {label}" for label in LABELS), strict=True))
    hostile = json.loads(json.dumps(DECLARATION)) | {
        "title": said,
        "summary": said,
        "cite": [said],
        "labels": DECLARATION["labels"] | {"of": {names[key]: "…" for key in LABELS}},
        "responses": [{"name": said, "exp1": "response_1_exp1", "exp2": "prob_target"}],
        "contrasts": [DECLARATION["contrasts"][0] | {"name": said, "response": said}],
        "models": [DECLARATION["models"][1] | {"name": said, "response": said}],
        "figures": {"people": {"caption": said}, "by_factor": {"leave_out": True}},
    }
    hostile["contrasts"][0] |= {"higher": {"role": said}, "lower": {"role": "interpretation"}}
    rows = [
        row
        | {
            "role": {"production": said}.get(row["role"], row["role"]),
            "choice_label": names[row["choice_label"]],
            "response_1_exp1": float(row["choice_label"] == "target"),
        }
        | {f"prob_{names[label]}".replace("'", ""): row[f"prob_{label}"] for label in LABELS}
        for row in game_rows(draws=4)
    ]
    reference = [
        row | {"source": said, "outcome": names[row["outcome"]], "role": said}
        for row in people_rows()
        if (row["source"], row["role"]) == ("human", "production")
    ]
    analyse(tmp_path / "hostile", rows, hostile, reference, figures="whole")
    minimal(tmp_path / "pairs")
    nobody = [row | {"exp1_status": None, "exp2_status": None} for row in game_rows(draws=1)]
    analyse(tmp_path / "nobody", nobody, reference=[], figures="whole")
    pairs = {"title": "Pairs", "summary": "Which sentence?", "stimuli": {"key": ["pair"]}}
    made = {
        "hostile": (tmp_path / "hostile", hostile),
        "pairs": (tmp_path / "pairs", pairs),
        "nobody": (tmp_path / "nobody", DECLARATION),
    }
    html = report(tmp_path / "report", made)
    found = page(html)
    assert {tag for tag, _ in found.tags} <= TAGS
    for _, given in found.tags:
        assert given.get("src", "data:image/svg+xml,").startswith("data:image/svg+xml,")
        assert given.get("href", "#").startswith(("#", "trials.html", "analysis/figures/"))
    assert not list(tmp_path.rglob("owned"))
    assert "Left out, since no model was asked: nobody." in found.shown
    assert "Grace: two studies on language models" in found.shown
    assert "Which sentence?" in found.shown
    numbers = [int(x) for x in re.findall(r"(?<=Figure )[0-9]+(?=[.])", found.shown)]
    assert numbers == list(range(1, len(numbers) + 1))
    # By cell, models against people, precision, and at the end generated against scored: of `pairs`
    # no people.
    assert len(numbers) == 2 + 2 + 2 + 2
