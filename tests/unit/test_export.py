"""Exports for other tools: they hold what the tables hold, and their validators take them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import metadata_facts
import psych_ds_rules
import pytest
from browser_runs import Run
from bundled_studies import ROOT, STUDY1, STUDY2
from pypdf import PdfReader, PdfWriter
from report_page import HOSTILE
from scipy.spatial.distance import jensenshannon

from grace.errors import RecordError
from grace.export import every_eval_ever, figures_pdf, inspect_log, psych_ds
from grace.export.facts import export_facts
from grace.export.samples import Sample, favourites, generated, jsd, measured, people_of
from grace.export.totals import Totals
from grace.provenance.metadata import metadata
from grace.results.codebook import codebook
from grace.results.records import write_json

VALIDATOR = ROOT / ".venv-export" / "bin" / "python"
#: A separator of lines for some, characters that command, quotes, and text that HTML acts on.
ODD = "It was\u2028good\x1b[31m \"'</script>\x07 \U0001f600 " + " ".join(HOSTILE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A replication of six trials of study 2, with answers that fail, odd ones, and reasoning."""
    where = tmp_path_factory.mktemp("run")
    answers = ("It was good", None, ODD, "It wasn't bad")
    run = Run(STUDY2, models=("m",), replications=1, trials=6, answers=answers, reasoning="Hm.")
    run.write(where)
    told = {
        name.replace("study1", "study2"): run for name, run in metadata_facts.runs().items()
    }  # fmt: skip
    write_json(where / "m/replication-0/metadata.json", metadata(metadata_facts.plan(), told))
    return where / "m/replication-0"


def table(folder: Path, name: str) -> dict[int, dict[str, str]]:
    with (folder / f"study2_{name}.csv").open(encoding="utf-8", newline="") as file:
        return {int(row["trial_index"]): row for row in csv.DictReader(file)}


def samples(folder: Path, experiment: str) -> list[Sample]:
    name, read = {"exp1": ("structured", generated), "exp2": ("probabilities", measured)}[
        experiment
    ]
    people = people_of(STUDY2, folder.parents[1] / "reference_study2.csv")
    files = (folder / f"study2_{name}.csv", folder / f"study2_{experiment}.json")
    return list(read(STUDY2, *files, people))


def facts(folder: Path, experiment: str):
    records = folder / f"study2_{experiment}.json"
    return export_facts("study2", STUDY2.title, experiment, records, folder / "metadata.json")


def asked_most(folder: Path, trial: dict) -> str:
    """What most people say in a trial's condition."""
    with (folder.parents[1] / "reference_study2.csv").open(encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["source"], row["goal"], row["state"])
            == ("human", trial["Goal_simplified"], str(trial["State_number"]))
        ]
    most = max(rows, key=lambda row: float(row["probability"]))
    return f"It {most['frame']} {most['assessment']}"


def test_samples_of_answers_hold_the_tables_cells(folder):
    rows, found = table(folder, "structured"), samples(folder, "exp1")
    assert [one.id for one in found] == [f"seed-{index}" for index in range(6)]
    for one in found:
        row = rows[one.metadata["trial_index"]]
        read = one.scores["answer_read"]
        assert (one.response or "") == row["model_response"]
        assert one.metadata["quality_flags"] == [f for f in row["quality_flags"].split(";") if f]
        assert read.value == (row["status"] == "ok" and not row["extraction_errors"])
        assert (one.error is None) == (row["status"] == "ok")
        assert one.metadata["answer"]["Assessment"] == (row["Assessment"] or None)
        assert one.target == [asked_most(folder, one.metadata["trial"])]
        if row["response_cleaned"]:
            right = row["response_cleaned"] in one.target
            assert one.scores["people_favourite"].value == right
    assert {one.scores["answer_read"].value for one in found} == {0, 1}
    assert sum(one.error is not None for one in found) >= 1


def test_a_chat_of_several_turns_ends_in_its_last_answer(folder, tmp_path):
    """A record's answer is those of all turns; each turn's prompt holds what was said before."""
    records = json.loads((folder / "study2_exp1.json").read_text(encoding="utf-8"))
    said = [("user", "How was it?"), ("assistant", "Fine."), ("user", "In a word?")]
    prompt = [{"role": role, "content": text} for role, text in said]
    turns = [
        {"name": "one", "messages": prompt[:1], "response": "Fine."},
        {"name": "two", "messages": prompt, "response": "Good.", "reasoning": "Well."},
    ]
    for record in records:
        record |= {"turns": turns, "response": "Fine.\nGood."}
    (tmp_path / "exp1.json").write_text(json.dumps(records), encoding="utf-8")
    for one in generated(STUDY2, folder / "study2_structured.csv", tmp_path / "exp1.json"):
        assert (one.messages, one.response, one.reasoning) == (prompt, "Good.", "Well.")
        assert (one.turns, one.scores["answer_read"].answer) == (2, "Fine.\nGood.")
        row = next(every_eval_ever.sample_rows(one, facts(folder, "exp1")))
        assert [m["content"] for m in row["messages"]] == [text for _, text in said] + ["Good."]
        assert row["answer_attribution"][0]["turn_idx"] == 3


def test_samples_of_measurements_hold_the_tables_probabilities(folder):
    rows, found = table(folder, "probabilities"), samples(folder, "exp2")
    options = STUDY2.distributions.queries["utterance"].options
    assert len(found) == 6
    for one in found:
        row = rows[one.metadata["trial_index"]]
        shares = [float(row[name]) for name in options]
        assert list(one.metadata["probabilities"].values()) == shares
        assert list(one.metadata["probabilities"]) == list(one.choices)
        assert one.scores["option_mass"].value == float(row["option_mass"])
        assert one.response == one.choices[shares.index(max(shares))]
        people = list(one.metadata["people"].values())
        assert one.scores["jsd_people"].value == pytest.approx(
            jensenshannon(shares, people, 2) ** 2
        )
        assert one.scores["jsd_people"].correct == (one.response in one.target)


@pytest.mark.parametrize(
    ("one", "other", "bits"),
    [([1, 0], [0, 1], 1), ([1, 3], [2, 6], 0), ([0, 0.5, 0.5], [0.5, 0.5, 0], 0.5)],
)
def test_jsd_of_distributions_of_known_distance(one, other, bits):
    named = (dict(enumerate(map(float, shares))) for shares in (one, other))
    assert jsd(*named) == pytest.approx(bits, abs=1e-12)


def test_several_options_may_be_favourites_and_none_of_nothing():
    assert favourites({"a": 0.4, "b": 0.4, "c": 0.2}) == ["a", "b"]
    assert favourites({"a": 0.0}) == []


def test_a_query_that_was_not_measured_has_no_score(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m/r")
    path = tmp_path / "m/r/study2_probabilities.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in (*STUDY2.distributions.queries["utterance"].options, "option_mass"):
        rows[0][name] = ""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    records = tmp_path / "m/r/study2_exp2.json"
    found = {one.metadata["trial_index"]: one for one in measured(STUDY2, path, records)}
    empty = found[int(rows[0]["trial_index"])]
    assert (empty.response, empty.scores, empty.metadata["probabilities"]) == (None, {}, None)
    assert empty.error is not None
    assert list(found[int(rows[1]["trial_index"])].scores) == ["option_mass"], "no people given"


def test_a_study_without_peoples_answers_has_no_target(tmp_path):
    Run(STUDY1, models=("m",), replications=1).write(tmp_path)
    assert people_of(STUDY1, tmp_path / "reference_study1.csv") is None


def test_a_table_without_a_records_trial_is_refused(folder, tmp_path):
    path = tmp_path / "study2_structured.csv"
    path.write_text("variant,trial_index\nseed,99\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"is not in the table beside it\. Delete the table"):
        list(generated(STUDY2, path, folder / "study2_exp1.json"))


def test_facts_are_those_of_the_jobs_that_answered(folder):
    found = facts(folder, "exp2")
    assert (found.model, found.hub_id, found.seeds["base_seed"]) == ("m", None, 1000)
    assert found.deployment["gpu_type"] == ["NVIDIA A100", "NVIDIA H100"]
    assert found.engine == "vllm"
    with pytest.raises(RecordError, match="knows nothing of study1_exp1"):
        export_facts(
            "study1", "", "exp1", folder / "study2_exp1.json", folder / "metadata.json"
        )  # fmt: skip


def test_the_same_run_has_the_same_bytes(folder, tmp_path):
    made = []
    for name in ("one", "two"):
        own = tmp_path / name
        own.mkdir()
        for experiment in ("exp1", "exp2"):
            known = facts(folder, experiment)
            found = samples(folder, experiment)
            inspect_log.write_log(own / inspect_log.file_name(known), known, found)
            every_eval_ever.write_records(own, known, found)
        paths = sorted(path for path in own.rglob("*") if path.is_file())
        made.append({path.relative_to(own): path.read_bytes() for path in paths})
    assert made[0] == made[1]
    assert len(made[0]) == 2 + 2 * 2


def test_a_model_that_is_no_hubs_has_folders_that_every_system_takes(folder):
    known = facts(folder, "exp1")
    assert known.hub_id is None
    for hub, key, expected in [
        (None, "pico", "local/pico"), ("alone", "k", "local/k"), ("a/b/c", "k", "a/b/c"),
        ("org/m:1?", "k", "org/m-1-"),
    ]:  # fmt: skip
        assert every_eval_ever.model_id(replace(known, hub_id=hub, model_key=key)) == expected
    assert every_eval_ever.model_place(replace(known, hub_id="a/b/c")) == ("a", "b_c")


@pytest.mark.skipif(not VALIDATOR.exists(), reason="no .venv-export (make export-env)")
def test_their_own_validators_take_odd_answers_and_refuse_damage(folder, tmp_path):
    """inspect_ai reads all that stands in its logs; the records have no error and no warning."""
    logs, records = tmp_path / "inspect", tmp_path / "every-eval-ever"
    logs.mkdir()
    means = {}
    for experiment in ("exp1", "exp2"):
        known, found = facts(folder, experiment), samples(folder, experiment)
        if experiment == "exp1":
            said = [{"role": role, "content": ODD} for role in ("system", "user", "assistant")]
            found.append(replace(found[0], id="chat", messages=[*said, said[1]], turns=2))
        totals = inspect_log.write_log(logs / inspect_log.file_name(known), known, found)
        means[f"grace/study2_{experiment}"] = {
            name: score.mean for name, score in totals.scores.items()
        }
        damaged = every_eval_ever.write_records(records, known, found)
    lines = damaged.with_name(f"{damaged.stem}_samples.jsonl")
    copy = damaged.with_name("00000000-0000-4000-8000-000000000000.json")
    copy.write_text(damaged.read_text("utf-8").replace('"score_type"', '"type"'), "utf-8")
    done = subprocess.run(
        [VALIDATOR, ROOT / "tests" / "support" / "validate_exports.py", tmp_path],
        capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    for log in told["inspect"]:
        assert (log["status"], log["lost"]) == ("success", [])
        assert log["scores"] == means[log["task"]]
        assert log["samples"] == 6 + (log["task"] == "grace/study2_exp1")
    reports = {Path(one["file"]).name: one for one in told["every_eval_ever"]}
    assert reports.pop(copy.name)["errors"], "a record of another's samples"
    assert len(reports) == 4
    assert [one for one in reports.values() if one["errors"] or one["warnings"]] == []
    assert reports[lines.name]["lines"] == 6 * 2


def test_totals_count_samples_without_an_answer(folder):
    totals = Totals()
    for one in samples(folder, "exp1"):
        totals.add(replace(one, tokens=(10, 2)))
    assert (totals.samples, totals.tokens) == (6, (60, 12))
    assert totals.failed == sum(
        row["status"] != "ok" for row in table(folder, "structured").values()
    )


# --- Psych-DS


def tables(folder: Path) -> list[psych_ds.StudyTable]:
    """Two studies' tables of one row, with their codebooks."""
    found = []
    for study in (STUDY1, STUDY2):
        columns = ["model_key", "replication", "variant", "trial_index", *study.derived_names]
        columns += [name for name in study.probability_columns() if name != "status"]
        path = folder / f"{study.name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, ["1"] * len(columns)])
        entries = codebook(study, columns)
        book = folder / f"codebook_{study.name}.csv"
        with book.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["column", "meaning", "unit", "values", "source"])
            writer.writerows([e.column, e.meaning, e.unit, e.values, e.source] for e in entries)
        found.append(psych_ds.StudyTable(study.name, study.title, path, book))
    return found


def test_a_dataset_has_no_error_by_the_rules_of_psych_ds(tmp_path):
    given = tables(tmp_path)
    psych_ds.write_dataset(tmp_path / "out", given, ["pico"], ["Somebody (2020)."])
    assert psych_ds_rules.errors(tmp_path / "out") == []
    told = json.loads((tmp_path / "out" / psych_ds.DESCRIPTION).read_text(encoding="utf-8"))
    variables = {one["name"]: one for one in told["variableMeasured"]}
    assert variables["state0_mean"]["description"].startswith("Mean of the distribution")
    assert variables["entropy_knowledge"]["unitText"] == "bits"
    (tmp_path / "out/data/study-study1_data.csv").rename(tmp_path / "out/data/study1.csv")
    del told["variableMeasured"][0], told["name"]
    write_json(tmp_path / "out" / psych_ds.DESCRIPTION, told)
    assert set(psych_ds_rules.errors(tmp_path / "out")) == {
        "FILENAME_KEYWORD_FORMATTING_ERROR study1.csv", "JSON_KEY_REQUIRED name",
        "CSV_COLUMN_MISSING_FROM_METADATA model_key",
    }  # fmt: skip


def test_a_column_with_two_meanings_says_both(tmp_path):
    line = {"unit": "", "values": "0 to 1", "source": ""}
    of = {"a": {**line, "meaning": "This."}, "b": {**line, "meaning": "That."}}
    told = psych_ds.description([], [], [], {"x": of})
    assert told["variableMeasured"] == [
        {"@type": "PropertyValue", "name": "x", "description": "a: This.; b: That.",
         "minValue": 0.0, "maxValue": 1.0}
    ]  # fmt: skip


def test_a_column_without_a_codebook_and_names_that_become_one_are_refused(tmp_path):
    one, other = tables(tmp_path)
    with pytest.raises(RecordError, match=r"codebook_study2\.csv: has no column 'state0_prob_0'"):
        psych_ds.write_dataset(tmp_path / "x", [replace(one, codebook=other.codebook)], [], [])
    same = [replace(one, name="my-study"), replace(other, name="mystudy")]
    with pytest.raises(RecordError, match=r"several studies would be data/study-mystudy_data\.csv"):
        psych_ds.write_dataset(tmp_path / "y", same, [], [])


# --- figures.pdf


def report_with(folder: Path, *names: str) -> Path:
    """A report that shows figures, each as a page of another size."""
    (folder / "analysis").mkdir(parents=True)
    figures = []
    for place, name in enumerate(names):
        writer = PdfWriter()
        writer.add_blank_page(width=100 + place, height=50)
        writer.write(folder / "analysis" / f"{name}.pdf")
        figures.append(
            f'<figure id="figure-{place + 1}"><img src="data:," alt="Figure 9. No."/>'
            f"<figcaption>Figure {place + 1}. Bets &#60;of {name}&#62;.<br/>A note.<br/>"
            f'<a href="analysis/{name}.svg">SVG</a> <a href="analysis/{name}.pdf">PDF</a>'
            "</figcaption></figure><p>Words.</p>"
        )
    page = folder / "report.html"
    page.write_text("<figure><figcaption>none</figcaption></figure>" + "".join(figures), "utf-8")
    return page


def test_all_figures_are_pages_with_their_captions_in_the_reports_order(tmp_path):
    report = report_with(tmp_path, "b", "a", "c")
    made = []
    for name in ("one.pdf", "two.pdf"):
        assert figures_pdf.write_figures(report, tmp_path / name) == 3
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    found = PdfReader(tmp_path / "one.pdf")
    assert [float(page.mediabox.width) for page in found.pages] == [100, 101, 102]
    assert found.page_labels == ["Figure 1", "Figure 2", "Figure 3"]
    assert [one.title for one in found.outline] == [
        "Figure 1. Bets <of b>.", "Figure 2. Bets <of a>.", "Figure 3. Bets <of c>.",
    ]  # fmt: skip


def test_a_damaged_figure_and_a_report_without_any_are_refused(tmp_path):
    report = report_with(tmp_path / "x", "a")
    (tmp_path / "x/analysis/a.pdf").write_bytes(b"%PDF-1.5 cut")
    with pytest.raises(RecordError, match=r"a\.pdf: cannot be read as a PDF .* Delete it"):
        figures_pdf.write_figures(report, tmp_path / "out.pdf")
    assert not (tmp_path / "out.pdf").exists()
    with pytest.raises(RecordError, match="shows no figures"):
        figures_pdf.write_figures(report_with(tmp_path / "y"), tmp_path / "out.pdf")
