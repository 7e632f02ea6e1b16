"""The trial browser: what its page holds is what the tables hold, and no text of others acts."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from browser_runs import Run, blocks_of, cells, columns, text_of, unpacked, written
from bundled_studies import ROOT, STUDY1, STUDY2
from report_page import HOSTILE

from grace.errors import RecordError
from grace.studies.catalogue import bundled
from grace.trial_browser import blocks as blocks_module
from grace.trial_browser.blocks import PackedColumn, TextBlocks, packed
from grace.trial_browser.study_data import study_data

BETS = "Initial Answer: 2\nProbabilities: 0: 10%, 1: 20%, 2: 30%, 3: 40%\nKnowledge: yes"


@pytest.fixture(scope="module")
def politeness(tmp_path_factory):
    """Two models and two replications of three trials; the page's data and the files."""
    folder = tmp_path_factory.mktemp("run")
    answers = ("It was good", None, "I would rather not say")
    run = Run(STUDY2, answers=answers, reasoning="First, the cake.")
    return run.data(folder), folder


def tables(folder, study, name):
    """Rows of a table over models and replications, as the page orders them."""
    found = []
    for path in sorted(folder.glob(f"*/replication-*/{study.name}_{name}.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += sorted(csv.DictReader(file), key=lambda row: int(row["trial_index"]))
    return found


def same(shown, cell):
    """Whether a value of the page is a table's cell; measured numbers have four digits."""
    if cell == "":
        return shown is None
    if isinstance(shown, str):
        return shown == cell
    if isinstance(shown, int):
        return shown == int(float(cell))
    return shown == (float(f"{float(cell):.4g}") if "." in cell else float(cell))


@pytest.mark.parametrize(
    ("study", "answers"), [(STUDY1, (BETS, "no idea")), (STUDY2, ("It was good", None, "?"))]
)
def test_every_cell_of_the_tables_is_on_the_page(tmp_path, study, answers):
    data = Run(study, answers=answers).data(tmp_path)
    found = columns(data)
    trials = {one["name"] for one in data.about["trialColumns"]}
    both = ("structured", "exp1"), ("probabilities", "exp2")
    compared = 0
    for name, experiment in both:
        rows = tables(tmp_path, study, name)
        assert len(rows) == data.about["rows"] == 2 * 2 * 3
        for place, row in enumerate(rows):
            for column, cell in row.items():
                if column in trials - {"trial_index"} or column == "quality_flags":
                    continue
                on_page = found.get(column) or found.get(f"{experiment}_{column}")
                # A column without any value is not on the page.
                assert same(on_page[place] if on_page else None, cell), (column, cell)
                compared += bool(cell)
    assert compared > 500


def test_rows_are_in_order_and_their_flags_name_the_experiment(politeness):
    data, folder = politeness
    found = columns(data)
    keys = list(zip(found["model_key"], found["replication"], found["trial_index"], strict=True))
    assert keys == [(m, r, i) for m in "ab" for r in (0, 1) for i in (0, 1, 2)]
    flags = [row["quality_flags"] for row in tables(folder, STUDY2, "structured")]
    assert "request_failed" in flags
    assert "unparsed" in flags
    expected = [";".join(f"exp1_{flag}" for flag in text.split(";") if flag) for text in flags]
    assert [text or "" for text in found["quality_flags"]] == expected
    assert [text is None for text in found["model_response"]] == [
        "request_failed" in text for text in flags
    ]


def test_a_row_has_its_own_prompts_reasoning_and_traces(politeness):
    data, _ = politeness
    indices = columns(data)["trial_index"]
    for row, index in enumerate(indices):
        ((role, prompt),) = text_of(data, "prompt", row)
        assert role == "user"
        assert prompt.startswith(f"Prompt {index}: ")
        assert text_of(data, "query:utterance", row) == [["user", f"utterance of {index}"]]
        assert text_of(data, "reasoning", row) == "First, the cake."
        assert text_of(data, "traces", row) == [
            {"query": "utterance", "trace": 0, "text": "thought of utterance", "end": "closed",
             "tokens": 4}
        ]  # fmt: skip


def test_people_and_theories_stand_beside_the_trial_of_their_cell(politeness):
    data, folder = politeness
    assert [(one["name"], one["people"]) for one in data.about["sources"]] == [
        ("human", True), ("polite_rsa", False),
    ]  # fmt: skip
    trials = {name: cells(one) for name, one in unpacked(data.blocks["study2/trials"]).items()}
    with (folder / "reference_study2.csv").open(encoding="utf-8", newline="") as file:
        reference = list(csv.DictReader(file))
    (query,) = data.about["queries"]
    for source in ("human", "polite_rsa"):
        block = unpacked(data.blocks[f"study2/source:{source}"])
        for place, code in enumerate(block["c"]):
            cell = (trials["Goal_simplified"][place], str(trials["State_number"][place]))
            expected = {
                f"It {row['frame']} {row['assessment']}": float(f"{float(row['probability']):.4g}")
                for row in reference
                if (row["source"], row["goal"], row["state"]) == (source, *cell)
            }
            shown = dict(zip(query["options"], block["d"][code]["utterance"], strict=True))
            assert shown == expected
            assert len(shown) == 8


@pytest.mark.parametrize(("asked", "absent"), [("exp1", "probabilities"), ("exp2", "structured")])
def test_a_run_of_one_experiment_has_its_page(tmp_path, asked, absent):
    data = Run(STUDY1, answers=(BETS,), experiments=(asked,)).data(tmp_path)
    assert not list(tmp_path.glob(f"*/*/*{absent}.csv"))
    assert data.about["experiments"] == [asked]
    assert data.about["rows"] == 12
    names = {one["name"] for one in data.about["columns"]}
    assert ("state0_prob_0" in names) == (asked == "exp2")
    assert ("model_response" in names) == (asked == "exp1")
    assert "quality_flags" in names
    assert set(data.about["shown"]) <= names | {one["name"] for one in data.about["trialColumns"]}


@pytest.mark.parametrize("name", ["refgame", "minimal_pairs"])
def test_a_declared_study_has_its_options_and_its_factors(tmp_path, name):
    (study,) = bundled(ROOT, name).values()
    experiments = study.experiments
    data = Run(study, answers=("no idea",), trials=4, experiments=experiments).data(tmp_path)
    assert set(study.declaration.factors) <= set(data.about["shown"])
    trials = unpacked(data.blocks[f"{name}/trials"])
    for query in data.about["queries"]:
        assert query["options"] is None
        assert len(query["columns"]) == len(query["optionColumns"])
        assert set(query["optionColumns"]) <= trials.keys()
    if name == "refgame":  # people's answers are about what an option is, which a trial says
        assert [one["why"] for one in data.about["sources"]] == [None, None]


def test_no_text_of_others_is_in_the_page_but_packed(tmp_path):
    said = tuple(f"{text} </script><img src=x onerror=alert(1)> \ud83d" for text in HOSTILE)
    answers = tuple(text.encode("utf-8", "replace").decode() for text in said)
    run = Run(STUDY2, models=("a",), replications=1, trials=len(answers), answers=answers,
              reasoning="</script><script>alert(2)</script>")  # fmt: skip
    data = run.data(tmp_path)
    text = written(tmp_path / "trials.html", [data], {"a": "</script><svg onload=alert(3)>"})
    given = columns(data)["model_response"]
    assert sorted(given) == sorted(
        row["model_response"] for row in tables(tmp_path, STUDY2, "structured")
    )
    assert any("onerror=alert(1)" in one for one in given)
    for sign in ("onerror", "onload", "alert(", "203.0.113.1"):
        assert sign not in text
    blocks = blocks_of(text)
    assert blocks["run"]["origins"] == {"a": "</script><svg onload=alert(3)>"}
    assert len(blocks) == len(data.blocks) + 1

    class Tags(HTMLParser):
        found: list[tuple[str, dict]]

        def handle_starttag(self, tag, attrs):
            self.found.append((tag, dict(attrs)))

    page = Tags()
    page.found = []
    page.feed(text)
    assert [tag for tag, _ in page.found].count("h1") == 1
    assert ("html", {"lang": "en"}) in page.found
    scripts = [attrs for tag, attrs in page.found if tag == "script"]
    assert len(scripts) == len(blocks) + 1
    assert [a["href"] for _, a in page.found if "href" in a] == ["report.html"]
    assert not any(name.startswith("on") or name == "src" for _, a in page.found for name in a)


def test_the_policy_names_the_pages_own_script_and_style(tmp_path):
    data = Run(STUDY2, models=("a",), replications=1).data(tmp_path)
    text = written(tmp_path / "trials.html", [data])
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1])
    for kind, found in (
        ("style", re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]),
        ("script", re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]),
    ):
        digest = base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "{{" not in text.split("<script>")[0]


def test_the_same_run_gives_the_same_bytes(tmp_path):
    pages = []
    for name in ("one", "two"):
        data = Run(STUDY1, answers=(BETS,)).data(tmp_path / name)
        pages.append(written(tmp_path / f"{name}.html", [data]))
    assert pages[0] == pages[1]


def test_a_record_that_no_table_has_is_refused(tmp_path):
    files = Run(STUDY2, models=("a",), replications=1).write(tmp_path)
    table = files.exp1[0].table
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(RecordError, match="trial 0 of variant seed is not in the table"):
        study_data(STUDY2, files._replace(exp2=[]))


def test_a_columns_numbers_texts_and_missing_cells():
    column = PackedColumn()
    for row, cell in ((0, "1"), (2, "2.50"), (5, "-3e-07")):
        column.add(cell, row)
    assert column.is_number
    assert cells(column.encoded(7)) == [1, None, 2.5, None, None, -3e-07, None]
    text = PackedColumn(is_text=True)
    text.add("007", 0)
    assert cells(text.encoded(1)) == ["007"]
    for odd in ("nan", "inf", "1_000", "\u0661", "x"):
        mixed = PackedColumn()
        mixed.add("1", 0)
        mixed.add(odd, 1)
        assert not mixed.is_number
        assert cells(mixed.encoded(2)) == ["1", odd]
    seeds = PackedColumn()
    seeds.add(str(2**60 + 1), 0)
    assert cells(seeds.encoded(1)) == [2**60 + 1]


def test_texts_are_kept_once_and_found_over_blocks(monkeypatch):
    monkeypatch.setattr(blocks_module, "TEXTS_IN_BLOCK", 30)
    texts = TextBlocks("t")
    given = [f"text number {number}" for number in range(10)]
    numbers = [texts.number(one) for one in (*given, *given)]
    texts.close()
    assert numbers == [*range(10), *range(10)]
    assert len(texts.starts) > 2
    held = [one for name in texts.blocks for one in unpacked(texts.blocks[name])]
    assert held == given


def test_lone_surrogates_can_be_packed():
    assert unpacked(packed(["\ud800"])) == ["\ud800"]
