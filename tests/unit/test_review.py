"""The review sheet: a fair sample, no text that acts, and what a person says of it."""

from __future__ import annotations

import csv
import random
import runpy

import pytest
from bundled_studies import ROOT, STUDIES, STUDY2

from grace.errors import RecordError
from grace.results.review import (
    ReviewSource,
    field_names,
    page,
    read_sheet_rows,
    sample,
    sheet_rows,
    write_sheet,
)
from grace.results.review_agreement import (
    ALL_MODELS,
    COLUMNS,
    ReviewAgreement,
    _compared,
    agreement,
    current_rows,
    write_agreements,
)
from grace.results.run_checks import check_review

HOSTILE = '=HYPERLINK("http://x")<script>alert(1)</script>\n\x1b[2J"'


def row_of(number: int, model: str = "pico", **changes: str) -> dict[str, str]:
    return {
        "model_key": model, "replication": "0", "variant": "seed", "trial_index": str(number),
        "answer_id": f"id{number}", "model_response": HOSTILE, "Was_Wasnt": "was",
        "Assessment": "good", "response_cleaned": "It was good", "quality_flags": "",
        "extraction_confidence": "1.0", "extraction_errors": "", **changes,
    }  # fmt: skip


def sheet_of(rows: list[dict[str, str]]) -> list[dict]:
    prompts = {("seed", row["trial_index"]): "@SUM(1) How was it?" for row in rows}
    return list(sheet_rows(ReviewSource(STUDY2, rows, prompts), range(len(rows))))


def test_a_sample_is_even_over_studies_and_models_and_the_same_again():
    groups = {("study1", "a"): 3, ("study1", "b"): 100, ("study2", "a"): 100, ("study2", "b"): 100}
    found = sample(groups, 50, 1000)
    assert {key: len(rows) for key, rows in found.items()} == {
        ("study1", "a"): 3, ("study1", "b"): 16, ("study2", "a"): 16, ("study2", "b"): 15,
    }  # fmt: skip
    assert found == sample(dict(reversed(groups.items())), 50, 1000)
    assert found != sample(groups, 50, 1001)
    assert all(len(set(rows)) == len(rows) for rows in found.values())
    assert sample({("s", "m"): 4}, 50, 0) == {("s", "m"): [0, 1, 2, 3]}
    assert sample({("s", "m"): 0}, 50, 0) == {("s", "m"): []}


def test_no_cell_is_a_formula_and_no_text_is_mark_up(tmp_path):
    rows = sheet_of([row_of(0)])
    path = tmp_path / "review" / "study2.csv"
    write_sheet(path, rows)
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["answer"].startswith("'=HYPER")
    assert row["prompt"].startswith("'@SUM")
    assert "\x1b" not in path.read_text(encoding="utf-8")
    shown = page(STUDY2, rows, path.name)
    assert "<script" not in shown
    assert "default-src 'none'" in shown
    assert "&lt;script&gt;" in shown
    assert "How was it?" in shown


def fill(path, changes: dict[int, dict[str, str]], separator: str = ",") -> None:
    """Fill in rows as a spreadsheet would."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for number, values in changes.items():
        rows[number] |= values
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


def current(rows: list[dict[str, str]], study: str = "study2"):
    return current_rows(study, rows)


@pytest.mark.parametrize("separator", [",", ";"])
def test_what_a_person_filled_in_is_compared_with_the_results_of_today(tmp_path, separator):
    rows = [row_of(number) for number in range(6)]
    path = tmp_path / "study2.csv"
    write_sheet(path, sheet_of(rows))
    fill(
        path,
        {
            0: {"checked": "AB"},
            1: {"checked": "x", "right_Assessment": "amazing"},
            2: {"checked": "x", "right_Was_Wasnt": "none", "right_Assessment": "None"},
            4: {"checked": "x", "right_Assessment": " GOOD "},
        },
        separator,
    )
    found, problems = agreement(STUDY2, path, current(rows[:4]))
    for model in (ALL_MODELS, "pico"):
        counts = {one.what: (one.right, one.checked) for one in found if one.model_key == model}
        assert counts == {"Was_Wasnt": (2, 3), "Assessment": (1, 3), "all fields": (1, 3)}
    assert {one.answers for one in found} == {6}
    assert problems == ["row 6: its answer is not in the results any more; not counted"]


def test_a_sheet_that_no_one_has_filled_in_says_so(tmp_path):
    rows = [row_of(0), row_of(1)]
    path = tmp_path / "study2.csv"
    write_sheet(path, sheet_of(rows))
    (one,), problems = agreement(STUDY2, path, current(rows))
    assert (one.what, one.answers, one.checked, problems) == ("all fields", 2, 0, [])
    assert one.said() == "study2, all models, all fields: none of 2 answers is checked yet"
    write_agreements(tmp_path / "agreement.csv", [one])
    assert (tmp_path / "agreement.csv").read_text() == (
        ",".join(COLUMNS) + "\nstudy2,,all fields,2,0,0,,,,,,\n"
    )


@pytest.mark.parametrize(
    ("study", "changes", "message"),
    [
        ("study2", {"right_Assessment": "bad"},
         r"study2\.csv, row 3, column checked: is empty, but right_Assessment is filled in"),
        ("study2", {"checked": "x", "right_Assessment": "fine"},
         r"row 3, column right_Assessment: is 'fine', but must be one of terrible, bad"),
        ("study2", {"study": "study1"}, r"row 3, column study: is 'study1', but this is the sheet"),
        ("study2", {"trial_index": "0", "answer_id": "id0"}, r"row 3: is row 2 once more"),
        ("study1", {"checked": "x", "right_probability_0": "120"},
         r"row 3, column right_probability_0: is '120', but must be a number from 0 to 100, or `n"),
        ("study1", {"checked": "x", "right_probability_0": "a few"},
         r"row 3, column right_probability_0: is 'a few', but must be a number from 0 to 100"),
        ("study1", {"checked": "x", "right_Prior_A": "1.5"},
         r"row 3, column right_Prior_A: is '1\.5', but must be one of 0, 1, 2, 3"),
    ],
)  # fmt: skip
def test_a_wrongly_filled_sheet_is_refused_with_row_and_column(tmp_path, study, changes, message):
    declared = STUDIES[study]
    names = field_names(declared)
    rows = [row_of(number) | dict.fromkeys(names, "1") for number in range(3)]
    path = tmp_path / f"{study}.csv"
    write_sheet(path, list(sheet_rows(ReviewSource(declared, rows, {}), range(3))))
    fill(path, {1: changes})
    with pytest.raises(RecordError, match=message):
        agreement(declared, path, current(rows, study))


def test_what_is_filled_in_rightly_is_taken_in_every_form(tmp_path):
    study = STUDIES["study1"]
    read = {"Prior_A": "2", "Knowledge_A": "yes", **{f"probability_{n}": "12.5" for n in range(4)}}
    rows = [row_of(0) | read]
    path = tmp_path / "study1.csv"
    write_sheet(path, list(sheet_rows(ReviewSource(study, rows, {}), range(1))))
    said = {"right_Prior_A": "2.0", "right_probability_0": "12,5 %", "right_Knowledge_A": "Yes"}
    fill(path, {0: {"checked": "x", **said}})
    found, _ = agreement(study, path, current(rows, "study1"))
    assert {one.share for one in found} == {1.0}


def test_other_columns_or_cells_are_refused(tmp_path):
    path = tmp_path / "study2.csv"
    write_sheet(path, sheet_of([row_of(0)]))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("right_Assessment", "right_Assesment"), encoding="utf-8")
    with pytest.raises(RecordError, match=r"column right_Assesment is of no field of this study"):
        agreement(STUDY2, path, {})
    path.write_text(text.rstrip() + ",more,cells\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"row 2: holds more cells than the first row"):
        agreement(STUDY2, path, {})


# --- kappa ----------------------------------------------------------------------------------------


def compared(pairs) -> ReviewAgreement:
    return _compared("s", "m", "f", len(pairs), [((a,), (b,)) for a, b in pairs])


def test_kappa_is_cohens():
    """Cohen (1960), and values that follow by hand: .7 agreement, .5 by chance."""
    pairs = [*[("a", "a")] * 20, *[("b", "b")] * 15, *[("a", "b")] * 5, *[("b", "a")] * 10]
    kappa, low, high = compared(pairs).kappa()
    assert kappa == pytest.approx(0.4)
    assert low < kappa < high
    assert compared([("a", "a"), ("a", "a")]).kappa() is None  # one value alone: not defined
    kappa, low, high = compared([("a", "a"), ("b", "b")] * 25).kappa()
    assert (kappa, round(high, 12)) == (1, 1)
    assert 0.8 < low < 0.9  # 50 right ones do not show that all are


@pytest.mark.parametrize(("error", "categories"), [(0.02, 2), (0.1, 2), (0.1, 4), (0.3, 8)])
def test_the_interval_of_kappa_holds_the_true_one(error, categories):
    """Readers that err at a known rate, 50 answers, 600 sheets: .95, within what chance leaves."""
    numbers = random.Random(categories)
    p_right = 1 - error
    by_chance = 1 / categories  # both readers' readings are even
    true = (p_right - by_chance) / (1 - by_chance)
    held = defined = 0
    for _ in range(600):
        pairs = []
        for _ in range(50):
            said = numbers.randrange(categories)
            wrong = [one for one in range(categories) if one != said]
            pairs.append((said, numbers.choice(wrong) if numbers.random() < error else said))
        kappa = compared(pairs).kappa()
        if kappa is not None:
            defined += 1
            held += kappa[1] <= true <= kappa[2]
    assert defined > 590
    assert 0.92 <= held / defined <= 0.99


def test_validation_holds_a_replication_to_what_a_person_reads(tmp_path):
    rows = [row_of(number) for number in range(40)]
    path, table = tmp_path / "study2.csv", tmp_path / "structured.csv"
    write_sheet(path, sheet_of(rows))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert check_review(STUDY2, path, table, 0.9) == []
    fill(path, {n: {"checked": "x"} for n in range(40)})
    (check,) = check_review(STUDY2, path, table, 0.9)
    assert (check.name, check.passed, check.value) == ("review_agreement", True, 1.0)
    # Few wrong ones may be chance; a quarter are not.
    fill(path, {n: {"right_Assessment": "bad"} for n in range(4)})
    (check,) = check_review(STUDY2, path, table, 0.9)
    assert check.passed
    fill(path, {n: {"right_Assessment": "bad"} for n in range(10)})
    (check,) = check_review(STUDY2, path, table, 0.9)
    assert not check.passed
    assert "30 of 40 checked ones were" in check.description


def test_a_sheet_that_somebody_has_begun_is_not_written_over(tmp_path):
    path = tmp_path / "study2.csv"
    rows = sheet_of([row_of(0), row_of(1)])
    write_sheet(path, rows)
    write_sheet(path, rows)  # nothing filled in
    fill(path, {1: {"checked": "x"}})
    with pytest.raises(RecordError, match="begun to fill it in"):
        write_sheet(path, rows)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe", b'"study'])
def test_a_file_that_is_no_sheet_is_refused(tmp_path, content):
    path = tmp_path / "study2.csv"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"study2\.csv"):
        read_sheet_rows(path)


def test_intervals_are_wilsons():
    low, high = ReviewAgreement("s", "m", "all fields", 50, 50, 50).interval()
    assert (round(low, 4), high) == (0.9287, 1.0)
    low, high = ReviewAgreement("s", "m", "all fields", 10, 10, 8).interval()
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)


def test_the_script_needs_results_and_something_filled_in(tmp_path):
    script = runpy.run_path(str(ROOT / "scripts/review.py"))
    jobs = {"study2": {"folder": str(STUDY2.folder), "digest": STUDY2.digest, "root": str(ROOT)}}
    with pytest.raises(RecordError, match="run the workflow first"):
        script["sheets"](tmp_path, [("pico", 0)], jobs, 50, 1000)
    with pytest.raises(RecordError, match="no row has anything in `checked`"):
        script["agreements"](tmp_path, [("pico", 0)], jobs)
