"""The report: what it says of a run's models, and that it shows foreign text and never runs it."""

import base64
import hashlib
import itertools
import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from bundled_analyses import (
    analyse,
    knows_made,
    made_bets,
    made_choices,
    study1_rows,
    study2_rows,
)
from metadata_facts import plan, runs
from r_analysis import ROOT, jsd, rscript
from report_page import ATTRIBUTES, GENERATION, HOSTILE, TAGS, Page, page, render

from grace.experiments.rereading import Rereader
from grace.provenance.metadata import Deployment, metadata

ORIGIN = "trained on simulated people: shows the plumbing, not language models"


def analysed(folder: Path, rows1, rows2, **params) -> dict[int, Path]:
    params = {"generation": GENERATION, **params}
    analyse(folder / "1", 1, rows1, figures="whole", **params)
    analyse(folder / "2", 2, rows2, figures="whole", **params)
    return {1: folder / "1", 2: folder / "2"}


def hostile_metadata(text: str, index: int) -> dict:
    job = {
        "session": text, "answers": 1, "started": text, "commit": text, "dirty": True,
        "deployment_info": dict.fromkeys(Deployment.model_fields, text),
    }  # fmt: skip
    return {
        "model_key": text, "model_name": text, "hub_id": text, "model_source": text,
        "revision": text, "replication_index": index,
        "seeds": {text: text}, text: text,
        "runs": {
            text: {
                "answered_by": [job],
                "rereadings": {"read": text, "p95": [text], "largest": None},
                "sentinels": {
                    "answered": text, "rates": text, "alarm": True,
                    "continuations": [{"sign": text, "text": text}, text],
                },
            }
        },
    }  # fmt: skip


def hostile_validation(text: str) -> dict:
    check = {
        "name": text, "study": text, "experiment": text, "description": text, "value": text,
        "threshold": text, "passed": False, "rows_to_review": [text], "rows_to_review_total": 1,
    }  # fmt: skip
    return {"model_key": text, "replication": text, "passed": False, "checks": [check]}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """The page of a run in which every string that is not ours is hostile, beside a secret."""
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "secret.txt").write_text("the secret itself")
    bets, (generated, scored) = made_bets(), made_choices()
    few = {cell: said[:12] for cell, said in generated.items()}
    # One model has all but the long string for its key, its variant and the names of its items.
    said = " ".join(text for text in HOSTILE if len(text) < 1000)
    stories = HOSTILE[:6]
    fixed = dict(zip(stories, ("exams", "letters") * 3, strict=True))
    rows1 = study1_rows(
        lambda cell, story, draw: bets(cell, fixed[story], draw),
        lambda cell, story, draw: knows_made(cell, fixed[story], draw),
        model=said,
        stories=stories,
    )
    rows2 = [row | {"Domain": HOSTILE[i % 12]} for i, row in enumerate(study2_rows(few, scored))]
    theirs = {"model_key": said, "model_name": said, "variant": said}
    times = {"response_timestamp": HOSTILE[1]}
    tables = analysed(
        folder / "analysed",
        [row | theirs | times for row in rows1],
        [row | theirs | times for row in rows2],
        origins={said: said},
    )
    return folder, render(
        folder / "results",
        tables,
        collected=[hostile_metadata(text, i) for i, text in enumerate(HOSTILE)],
        validation=[hostile_validation(text) for text in HOSTILE],
        origins={said: said},
        versions={text: text for text in HOSTILE},
        failed=[
            {"model": text, "replication": 0, "stage": text, "study": text, "reason": text}
            for text in HOSTILE
        ],
    )


def test_hostile_text_becomes_no_link_image_script_or_comment(attacked):
    found = page(attacked[1])
    assert {tag for tag, _ in found.tags} <= TAGS
    for tag, attributes in found.tags:
        assert set(attributes) <= ATTRIBUTES, (tag, attributes)
        if "href" in attributes:
            assert re.fullmatch(
                r"#.*|trials\.html(#study[12]\?[\w%&=.~-]+)?|analysis/figures/\w+\.(svg|png|pdf|csv)",
                attributes["href"],
            )
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/svg+xml,")
    headings = [tag for tag, _ in found.tags if tag in ("h1", "h2")]
    assert headings == ["h1"] + ["h2"] * 9, "no heading of theirs"


def test_hostile_text_reads_no_file_and_runs_nothing(attacked):
    folder, report = attacked
    assert "the secret itself" not in report.read_text(encoding="utf-8")
    assert not list(folder.rglob("owned"))
    assert not (ROOT / "owned").exists()


def test_hostile_text_is_shown_as_it_is(attacked):
    shown = page(attacked[1]).shown
    for text in HOSTILE[:-4]:
        if "\u202e" not in text:
            assert " ".join(text.replace("\n", "\u21b5").split()) in " ".join(shown.split()), text
    assert "a[U+202E]gnp.exe[U+202C] [U+200B]z[U+FEFF][U+001B][31m[U+0007]" in shown
    assert "x" * 300 + "\u2026 (5000 characters)" in shown
    assert "caf\u00e9 \u2260 \u4e2d\u6587 \U0001f600" in shown


def test_the_page_lets_a_browser_fetch_nothing_and_run_its_own_script_alone(attacked):
    text = attacked[1].read_text(encoding="utf-8")
    (policy,) = [given for _, given in page(attacked[1]).tags if "http-equiv" in given]
    assert policy["http-equiv"] == "Content-Security-Policy"

    def digests(tag: str) -> str:
        found = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.S)
        sums = [hashlib.sha256(one.encode()).digest() for one in found]
        return " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in sums)

    assert policy["content"] == (
        f"default-src 'none'; img-src data:; style-src {digests('style')};"
        f" script-src {digests('script')}; base-uri 'none'; form-action 'none'"
    )
    assert text.count("<script") == 2
    assert text.count("<style") == 1


def test_headings_follow_each_other_and_tables_have_addresses(attacked):
    found = page(attacked[1]).tags
    levels = [int(tag[1]) for tag, _ in found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    for before, after in itertools.pairwise(levels):
        assert after <= before + 1
    names = [given["id"] for tag, given in found if tag == "table" and "id" in given]
    assert len(names) == len(set(names)) >= 20
    for tag, given in found:
        if tag == "th":
            assert given["scope"] == "col"


def at_two_commits() -> dict[str, dict]:
    """Provenance of experiments between which a hub model without `revision` moved."""
    return {
        label: one | {"identity": {"model": {"hub": "org/m", "commit": letter * 40}}}
        for (label, one), letter in zip(runs().items(), "cd", strict=True)
    }


def with_facts_of_runs(found: dict) -> dict:
    """Provenance with second readings and, in experiment 1, with sentinels."""
    second = Rereader(seed=1, share=0.01, precision=None).facts()
    numbers = {"read": 23, "p95": 2e-6, "largest": 7e-6, "allowed": 1e-4}
    signs = ["an assistant's opening: Sure!", None, None]
    texts = [
        {"name": "a", "prompt": "b", "text": "<i>c</i>", "kind": "plain", "sign": sign}
        for sign in signs
    ]
    seen = {
        "bank": "d", "asked": 3, "answered": 3, "not_asked": {}, "alarm_from": 0.25, "alarm": True,
        "rates": {"assistant": 1 / 3, "plain": 2 / 3, "degenerate": 0}, "continuations": texts,
    }  # fmt: skip
    facts = {
        "exp1": {"sentinels": seen},
        "exp2": {"rereadings": {**second, **numbers}},
    }
    return {label: {**run, **facts[label[-4:]]} for label, run in found.items()}


def test_second_readings_and_sentinels_stand_in_data_quality(two_models):
    found = blocks(unescape(two_models))
    (quality,) = [block for block in found if "Read again" in block]
    assert re.search(r"<td[^>]*>23</td>\s*<td[^>]*>2e-06</td>\s*<td[^>]*>7e-06</td>", quality)
    assert "0.0001</td>" in quality
    (sentinels,) = [block for block in found if "Like an assistant" in block]
    for shown in (">33<", ">67<", ">yes<", "Sure"):
        assert shown in sentinels
    assert "are continued as an assistant would" in two_models[: two_models.index("<table")]


#: Half a million tokens in and 10,000 out: at 0.5 and 2 a million, 0.27.
EXTRACTION = {
    "model_key": "toy", "replication": 0, "method": "model", "extractor": {"model": "reader"},
    "answers": 12, "asked": 12, "requests": 12, "prompt_tokens": 500_000,
    "completion_tokens": 10_000,
}  # fmt: skip
REVIEW = """\
study,model_key,what,answers,checked,right,share,low,high,kappa,kappa_low,kappa_high
study1,,all fields,25,0,0,,,,,,
study2,,all fields,25,20,19,0.95,0.764,0.991,0.94,0.718,0.99
study2,toy,Was_Wasnt,25,20,20,1,0.839,1,,,
"""


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """The page of both studies; of the two models, `toy` was made from something else than text."""
    folder = tmp_path_factory.mktemp("two")
    bets, (generated, scored) = made_bets(), made_choices()
    rows2 = study2_rows({cell: said[:12] for cell, said in generated.items()}, scored)
    reasoned = {
        "reasoning_closed": "yes", "reasoning_characters": 1200, "reasoning_traces": 40,
        "reasoning_truncated": 3, "reasoning_tokens": 512.5, "reasoning_unanswered": 1,
        "reasoning_standard_error": 0.0214,
    }  # fmt: skip
    tables = analysed(
        folder / "analysed",
        [{**row, **reasoned} for row in study1_rows(bets, knows_made)]
        + study1_rows(bets, knows_made, model="toy"),
        rows2 + [{**row, "model_key": "toy", "model_name": "org/toy"} for row in rows2],
        origins={"toy": ORIGIN},
    )
    check = {
        "name": "schema_pass", "study": "study1", "experiment": "exp1", "description": "share",
        "value": 0.5, "threshold": 0.95, "passed": False,
        "rows_to_review": [f"seed/{i}" for i in range(50)], "rows_to_review_total": 150,
    }  # fmt: skip
    report = render(
        folder / "results",
        tables,
        collected=[metadata(plan(key="toy"), with_facts_of_runs(at_two_commits()))],
        validation=[{"model_key": "toy", "replication": 0, "checks": [check]}],
        extraction=[EXTRACTION | {"study": "study1"}, EXTRACTION | {"study": "study2"}],
        price={"input": 0.5, "output": 2},
        review=REVIEW,
        origins={"toy": ORIGIN},
    )
    return report.read_text(encoding="utf-8")


def blocks(html: str) -> list[str]:
    """Tables and figures, each with what follows until the next one."""
    return re.split(r"(?=<div class=\"wide\">|<figure)", html)[1:]


def test_review_sheets_and_the_cost_of_reading_stand_in_data_quality(two_models):
    said = " ".join(unescape(re.sub(r"<[^>]+>", " ", two_models)).split())
    assert "Review sheets that no one has filled in yet: study1 (25 answers)." in said
    assert "study2 all models † all fields 25 20 19 95.0 [76.4, 99.1] 0.94 [0.72, 0.99]" in said
    assert re.search(r"study2 toy\S* \S* ?Was_Wasnt 25 20 20 100\.0 \[83\.9, 100\.0\] –", said)
    assert "Cost: at 0.50 and 2.00 a million tokens in and out" in said
    assert "in all 0.5400." in said
    assert said.count("0.2700") == 2


def test_data_quality_says_how_long_traces_were_and_how_many_were_cut_off(two_models):
    table = next(block for block in blocks(two_models) if "Cut off (%)" in block)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in table.split("<tr")[2:]]
    shown = {tuple(row[:3]): [unescape(cell) for cell in row[3:]] for row in rows if len(row) > 5}
    assert shown == {
        ("m", "study 1", "1 generated"): ["144", "0.0", "–", "–", "1,200", "–"],
        ("m", "study 1", "2 scored"): ["5,760", "7.5", "2.5", "512", "–", "0.021"],
    }
    assert "1 such a trace has no answer" in table


def test_a_mark_and_a_note_stand_wherever_such_a_model_is_named(two_models):
    message = f"&#8224; {ORIGIN.replace(':', '&#58;')}"
    body = two_models[two_models.index("<main>") :]
    read = re.sub(r'href="[^"]*"', "", body).replace("org/toy", "")
    assert not re.search(r"\btoy\b(?! &#8224;)", read)
    named = [block for block in blocks(body) if "toy &#8224;" in block]
    assert len(named) >= 14, "tables"
    figures = [block for block in blocks(body) if block.startswith("<figure")]
    assert len(figures) == 11
    for block in named + figures:
        assert message in block, block[:300]
    assert message in body[: body.index("<li>")], "before the first finding"
    pooled = [block for block in blocks(body) if "all models" in block]
    assert pooled
    assert all("all models &#8224;" in block for block in pooled)


def test_settings_of_generation_stand_by_each_comparison_of_experiments(two_models):
    message = "sampled with temperature 0.7, top p 1, max tokens 256"
    compared = [
        block
        for block in blocks(two_models)
        if block.startswith("<figure") or ("1 generated" in block and "2 scored" in block)
    ]
    matched = [block for block in compared if "generated against scored" in block]
    matched += [block for block in compared if "generated utterances against" in block]
    assert len(matched) == 2
    assert len(compared) >= 9 + 8
    for block in compared:
        if block not in matched:
            assert message in block, block[:300]
            assert "measured at temperature 1" in block
    (table,) = [
        block for block in blocks(two_models) if "Agreement of the two experiments" in block
    ]
    for block in (*matched, table):
        assert "Both experiments at experiment 1" in block
        assert "temperature 0.7, top p 1" in block
        assert "measured at temperature 1" not in block


def test_conditions_lead_to_their_trials_and_say_where_the_favourite_differs(two_models, attacked):
    found = Page()
    found.feed(two_models)
    links = [given["href"] for tag, given in found.tags if tag == "a" and "?" in given["href"]]
    # 6 cells and 12 of goal and state, two models in two experiments, and the farthest ten of each.
    assert len(links) == (6 + 12) * 4 + 2 * 10
    (first,) = {one for one in links if "model_key~is~toy" in unquote(one) and "access~is~3" in
                unquote(one) and "observe~is~2" in unquote(one)}  # fmt: skip
    assert unquote(first) == (
        "trials.html#study1?f=model_key~is~toy&f=variant~is~seed&f=access~is~3&f=observe~is~2"
    )
    hostile = [
        given["href"] for tag, given in page(attacked[1]).tags if "?" in given.get("href", "")
    ]
    for link in hostile:
        (key,) = [part for part in link.split("&") if "model_key" in part]
        assert "script" in unquote(key.split("f=")[1])


SENTENCES = """
for (name in c("common", "html", "report", "sections", "statistics", "summary_section")) {
  source(sprintf("scripts/lib/%s.R", name))
}
rows <- function(low, high, noise) data.frame(
  label = c("far", "near", "between"), experiment = "exp1", jsd_bits = c(.3, .1, .2),
  jsd_corrected = c(.29, .09, .19), jsd_low = low, jsd_high = high, jsd_noise_high = noise
)
cat(closest_sentences(rows(c(.25, .05, .15), c(.33, .13, .23), .01)), sep = "\\n")
cat(closest_sentences(rows(c(.25, .05, .12), c(.33, .13, .23), .21)), sep = "\\n")
cat(closest_sentences(rows(NA, NA, NA)), sep = "\\n")
cells <- expand.grid(
  option = c("a", "b"), at = c("x", "y", "z"), label = c("m", "n"), experiment = "exp2",
  model_key = "k", variant = "seed", stringsAsFactors = FALSE
)
cells$share <- c(.9, .1, .2, .8, .5, .5, .6, .4, .3, .7, .5, .5)
theirs <- data.frame(option = c("b", "a"), at = rep(c("x", "y", "z"), each = 2))
theirs$share <- c(.2, .8, .1, .9, .3, .7)
found <- condition_distances(
  cells, theirs, "at", "share", "option", function(row) row$at, function(row) list(at = row$at),
  "people"
)
cat(nowhere_sentences(found), sep = "\\n")
cat(round(found$jsd_bits[found$label == "m"], 4), "\\n")
cat(trial_links("s", found[1, ]))
"""


def test_the_summary_claims_no_more_than_its_intervals():
    done = rscript(SENTENCES)
    assert done.returncode == 0, done.stderr
    apart, overlapping, unknown, nowhere, distances, link = done.stdout.splitlines()
    assert apart == (
        "Closest to people: near, JSD 0.090 [0.050, 0.130] bits; no other model's interval overlaps"
        " this one. Within the noise band, where a model would be that chooses exactly as people"
        " do: no model."
    )
    assert "the intervals of between overlap this one" in overlapping
    assert overlapping.endswith("as people do: near and between.")
    assert "not every model has an interval, so that no more can be said" in unknown
    assert "noise band" not in unknown
    # At z neither model has one favourite; people's is a everywhere.
    assert nowhere == "In 1 of 2 conditions no model has the favourite answer of people: y."
    expected = [
        jsd([0.9, 0.1], [0.8, 0.2]),
        jsd([0.2, 0.8], [0.9, 0.1]),
        jsd([0.5] * 2, [0.7, 0.3]),
    ]
    assert [float(one) for one in distances.split()] == pytest.approx(expected, abs=1e-4)
    assert unquote(link) == "trials.html#s?f=model_key~is~k&f=variant~is~seed&f=at~is~x"


def test_a_figure_says_its_result_and_has_letters_of_one_size_and_its_files_beside_it(two_models):
    found = Page()
    found.feed(two_models)
    shown = [given for tag, given in found.tags if tag == "img"]
    assert len(shown) == 11
    bets = shown[0]
    assert bets["alt"].startswith("Figure 1. Mean bet on each state.")
    assert "toy \u2020, experiment 2: the favourite state is that of the RSA" in bets["alt"]
    assert len({given["alt"] for given in shown}) == 11
    planned = [given["alt"] for given in shown if "Half-width of the 95% interval" in given["alt"]]
    assert len(planned) == 2, "a study each"
    own, more = re.search(
        r"Half-widths: all models \u2020, experiment 1, bet on state 3: ([\d.]+) with 6 items and 2"
        r" replications, ([\d.]+) with 96 items;",
        planned[0],
    ).groups()
    assert float(own) > float(more) > 0
    assert planned[1].endswith("There are no components of variance to plan with.")
    for given in shown:
        # 72 points an inch in the file, 96 pixels on a screen.
        points = re.search(r"width='([0-9.]+)pt'", unquote(given["src"]))
        assert int(given["width"]) == round(float(points[1]) * 96 / 72)
    links = [
        given["href"] for tag, given in found.tags if tag == "a" and "/figures/" in given["href"]
    ]
    assert links[:5] == [
        f"analysis/figures/study1_bets.{kind}" for kind in ("svg", "svg", "png", "pdf", "csv")
    ]


def test_rows_to_review_are_counted_not_listed(two_models):
    assert "150 (first 50 of 150 listed)" in two_models


def test_a_run_without_a_usable_answer_says_so_first(tmp_path):
    bets, (_, scored) = made_bets(), made_choices()
    rows1 = study1_rows(bets, knows_made, exps=("exp1",), draws=1)
    for row in rows1:
        row |= {f"probability_{state}": None for state in range(4)}
    rows2 = study2_rows({("both", 0): [None] * 4}, scored, exps=("exp1",))
    tables = analysed(tmp_path / "analysed", rows1, rows2)
    shown = page(render(tmp_path / "results", tables)).shown
    summary = shown.split("Summary")[-1].strip()
    assert summary.startswith("No model of this run has a usable answer or measurement.")
    assert "language models (" not in shown
    assert "counts as failed" in summary


def test_a_model_whose_answers_are_all_unusable_is_named_first(tmp_path):
    bets, (_, scored) = made_bets(), made_choices()
    silent = study1_rows(bets, knows_made, draws=1, model="silent")
    for row in silent:
        row |= {f"probability_{state}": None for state in range(4)}
    rows2 = study2_rows({("both", 0): [None] * 4}, scored)
    tables = analysed(tmp_path / "analysed", study1_rows(bets, knows_made, draws=1) + silent, rows2)
    summary = page(render(tmp_path / "results", tables)).shown.split("Summary")[-1].strip()
    first = "None of the 36 answers of silent in study 1, experiment 1, is usable."
    assert summary.startswith(first)
    assert "None of the 4 answers of m in study 2, experiment 1, is usable." in summary


def test_provenance_names_every_machine_and_commit_that_gave_answers(two_models):
    table = two_models[two_models.index("What computed the answers") :]
    for said in ("node&#45;a", "node&#45;b", "aaaa", "bbbb", "12.8", "NVIDIA A100", "NVIDIA H100"):
        assert said in table, said


def test_a_model_that_moved_on_the_hub_is_named_first_with_its_commits(two_models):
    found = Page()
    found.feed(two_models)
    said = found.shown
    summary = said.split("Summary")[-1].strip()
    both = f"{'c' * 12}, {'d' * 12}"
    assert summary.startswith(f"Answers of toy \u2020 come from 2 commits of the hub ({both})")
    assert both in said[said.index("What computed the answers") :]


def test_a_model_and_a_variant_that_look_like_numbers_keep_their_names(tmp_path):
    table = tmp_path / "study1_quality.csv"
    table.write_text("label,model_key,variant,usable\n1.50,1.50,007,3\n1.5,1.5,1e3,4\n")
    read = """
    source(file.path(commandArgs(TRUE)[1], "lib", "common.R"))
    table <- read_result(commandArgs(TRUE)[2], "study1_quality")
    cat(table$label, table$model_key, table$variant, sum(table$usable))
    """
    done = rscript(read, str(ROOT / "scripts"), str(table))
    assert done.stdout == "1.50 1.5 1.50 1.5 007 1e3 7", done.stderr


METHODS = """
for (name in c("common", "html", "report", "sections", "methods")) {
  source(sprintf("scripts/lib/%s.R", name))
}
set_report_notes(list())
job <- jsonlite::read_json(commandArgs(TRUE)[1])
studies <- lapply(c("study1", "study2"), function(name) {
  list(
    study = list(name = name), section = list(heading = paste("About", name)),
    tables = list(cells = 1)
  )
})
said <- methods_paragraphs(
  studies, job$records, checks_table(job$validation), list(seed = 7), c(grace = "0.1.0", R = "4.2")
)
cat(said, sep = "\\n")
"""


def described(tmp_path, records, validation=()) -> list[str]:
    """The methods' paragraph of each study."""
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"records": records, "validation": list(validation)}))
    done = rscript(METHODS, str(job))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_methods_say_how_each_model_was_asked_with_which_engine(tmp_path):
    greedy = {"temperature": 0, "top_p": 1.0, "max_tokens": 9}
    other = runs()
    other["study1_exp1"]["output_config"]["decoding"] = greedy
    for one in other.values():
        for job in one["answers"]:
            job["engine"] = {"engine": "endpoint", "version": None}
            job["commit"] = "cccc"
    check = {
        "name": "option_mass", "study": "study1", "experiment": "exp2",
        "description": "share below 0.5: it says something else", "value": 0, "threshold": 0.05,
        "comparison": "<=", "passed": True, "rows_to_review": [], "rows_to_review_total": 0,
    }  # fmt: skip
    records = [metadata(plan(key="first"), runs()), metadata(plan(key="second"), other)]
    first, second = described(
        tmp_path, records, [{"model_key": "first", "replication": 0, "checks": [check]}]
    )
    assert first.startswith("About study1. Experiment 1: answers sampled token by token, at ")
    assert "temperature 0.7, top p 1, max tokens 9 (first)" in first
    assert "temperature 0, top p 1, max tokens 9 (second)" in first
    assert "At temperature 0, identical prompts were asked once." in first
    assert (
        'at temperature 1 over the whole vocabulary, normalised over the options (written as "{}")'
        in first
    )
    assert "experiment 1: seed x, experiment 2: seed x; 3 trials a variant and replication" in first
    assert (
        "first (org/m, engine vllm 0.32.0, Grace at commit aaaa (4 answers) and bbbb (2 answers)"
        in first
    )
    assert "second (org/m, engine endpoint, Grace at commit cccc" in first
    assert "1 replication, seed of experiment 1 3000, seed of experiment 2 3000" in first
    assert "Limits of validation: experiment 2: share below 0.5 <= 0.05." in first
    assert "seed 7" in first
    assert "Grace 0.1.0, R 4.2" in first
    assert second.startswith("About study2. Experiment 1 was not run. Experiment 2 was not run.")


def test_methods_say_how_a_model_reasoned(tmp_path):
    def reasoning(key, measured, **how):
        found = runs()
        for one in found.values():
            one["reasoning"] = {"format": "harmony", "thinking": True, "effort": "low", **how}
        found["study1_exp2"]["output_config"] |= {"thinking": measured} if measured else {}
        planned = plan(key=key)
        planned["model"]["prompting"] = "reasoning"
        return metadata(planned, found)

    thinking = {
        "traces": 8, "max_tokens": 2048, "temperature": 1.0, "top_p": 1.0, "at_budget": "close",
        "answer_lead": "",
    }  # fmt: skip
    off = reasoning("second", None, thinking=False)
    first, _ = described(tmp_path, [reasoning("first", thinking), off])
    assert (
        "After reasoning (first): the options' probabilities were measured behind the token ids of"
        " each trace and of its end, and averaged over traces before they were normalised (8 traces"
        " of at most 2048 tokens to each query, sampled at temperature 1 and top p 1; one that"
        " reached the budget was closed by force)."
    ) in first
    assert "its traces told apart by the format harmony at effort low" in first
    assert "asked in its chat template with thinking switched off" in first


def test_methods_name_what_variants_declare(tmp_path):
    asked = runs()
    lists = {"frame": [["was", "wasn't"], ["wasn't", "was"]], "word": [["a", "b"], ["b", "a"]]}
    asked["study1_exp1"]["wordings"] = {
        "mine": {"extends": "seed", "system": "Be kind.", "orders": {"study1": {"lists": lists}}},
        "talk": {
            "description": "as people", "turns": {"study1_exp1.j2": [{"template": "a.j2"}] * 2}
        },
    }  # fmt: skip
    found = metadata(plan(key="first"), asked)
    assert found["configuration"]["wordings"].keys() == {"mine", "talk"}
    assert "wordings" not in metadata(plan(), runs())["configuration"]
    first, _ = described(tmp_path, [found], [])
    assert (
        'Wordings: mine (the templates of seed; system message "Be kind."; 4 orders of options'
        " (frame, word), counterbalanced over trials); talk (as people; no system message;"
        " study1_exp1 in several turns)." in first
    )


def test_methods_stand_whatever_metadata_lacks(tmp_path):
    for record in ({}, {"runs": {"study1_exp1": {}}}, hostile_metadata("study1_exp1", 0)):
        first, _ = described(tmp_path, [record] if record else [])
        assert first.startswith("About study1. Experiment 1")
