"""Tables: the owner's columns, no row lost, nothing invented."""

import runpy
from pathlib import Path

import pandas as pd
import pytest
from bundled_studies import STUDIES, STUDY2
from engines_for_tests import CharacterTokenizer, ScriptedEngine
from scripted_runs import items_of, probabilities, run_of, structured

from grace.errors import RecordError
from grace.experiments.measurement import run_scoring
from grace.results.tables import (
    analysis_ready,
    probability_columns,
    probability_rows,
    raw_columns,
    read_rows,
    structured_columns,
    structured_rows,
    write_rows,
)
from grace.scoring.tempering import sampled
from grace.settings.output_configs import DecodingConfig


def test_raw_tables_open_with_the_owners_columns():
    assert raw_columns(STUDIES["study1"])[:13] == (
        "participant_id", "story_shortname", "story_setup", "priorQ", "speach", "speachQ",
        "knowledgeQ", "access", "observe", "model_name", "model_response", "response_timestamp",
        "processing_time_ms",
    )  # fmt: skip
    assert raw_columns(STUDY2)[:14] == (
        "Participant_ID", "Domain", "Precontext", "Scenario", "Goal", "State", "SP_Name",
        "LS_Name", "Goal_simplified", "State_number", "model_name", "model_response",
        "response_timestamp", "processing_time_ms",
    )  # fmt: skip


def test_structured_tables_add_the_owners_columns():
    assert structured_columns(STUDIES["study1"])[13:21] == (
        "Prior_A", "probability_0", "probability_1", "probability_2", "probability_3",
        "Knowledge_A", "extraction_confidence", "extraction_errors",
    )  # fmt: skip
    assert structured_columns(STUDY2)[14:19] == (
        "Was_Wasnt", "Assessment", "response_cleaned", "extraction_confidence",
        "extraction_errors",
    )  # fmt: skip


def test_probability_tables_hold_the_owners_68_columns_and_ours_after():
    columns = probability_columns(STUDIES["study1"])
    assert columns[9] == "model_name"
    assert len(columns[:9] + columns[10:69]) == 68
    assert columns[68] == "entropy_knowledge"
    assert probability_columns(STUDY2)[:7] == (
        "Participant_ID", "Domain", "Goal_simplified", "State_number", "model_name", "prob_was",
        "prob_wasnt",
    )  # fmt: skip


def test_what_is_sampled_stands_beside_what_is_measured():
    run = run_of("study2", "exp2")
    records = list(run_scoring(run, items_of(run, 8), CharacterTokenizer(), ScriptedEngine()))

    def rows(**decoding):
        return pd.DataFrame(probability_rows(records, STUDY2, 0.5, DecodingConfig(**decoding)))

    columns = STUDY2.sampled_columns()
    assert columns["prob_wasnt_bad"] == "sampled_prob_wasnt_bad"
    measured = rows(temperature=1, top_p=1)
    assert (measured[list(columns)].to_numpy() == measured[list(columns.values())]).all(axis=None)
    assert (measured["sampled_bound"] == 0).all()
    sharper = rows(temperature=0.5, top_p=1)
    first = sampled(records[0]["queries"][0], 0.5, 1)
    assert sharper.loc[0, "sampled_prob_was_terrible"] == first.probabilities["It was terrible"]
    assert sharper.loc[0, "sampled_bound"] == first.bound
    unsampled = pd.DataFrame(probability_rows(records, STUDY2, 0.5))
    assert unsampled[list(columns.values())].isna().all(axis=None)


def test_unparsable_answers_keep_their_row(tmp_path):
    table = structured(tmp_path)
    assert len(table) == 40
    unparsed = table[table["request_seed"] % 4 == 0]
    parsed = table[table["request_seed"] % 4 != 0]
    assert 0 < len(unparsed) < 40
    assert (unparsed["extraction_confidence"] == 0).all()
    assert unparsed["extraction_errors"].notna().all()
    assert (unparsed["quality_flags"] == "unparsed").all()
    assert unparsed["model_response"].iloc[0] == 'I would rather not say, "honestly"\n'
    assert (parsed["response_cleaned"] == "It wasn't bad").all()
    assert parsed["quality_flags"].isna().all()


def test_failed_requests_are_flagged_as_such(tmp_path):
    table = structured(tmp_path, fails=lambda prompt: "0 hearts" in prompt)
    failed = table[table["State_number"] == 0]
    assert len(failed) > 0
    assert (failed["quality_flags"] == "request_failed").all()
    assert failed["model_response"].isna().all()
    assert (table[table["State_number"] != 0]["quality_flags"] != "request_failed").all()


def test_a_failed_measurement_leaves_its_numbers_empty():
    table = probabilities("study1", fails=lambda prompt: "is exactly 2?" in prompt)
    assert table["state2_mean"].isna().all()
    assert table["state2_option_mass"].isna().all()
    assert table["state1_mean"].notna().all()
    assert table["quality_flags"].str.split(";").map(lambda f: "request_failed" in f).all()


def test_low_option_mass_is_flagged():
    table = probabilities()
    low = table["option_mass"] < 0.5
    assert 0 < low.sum() < len(table)
    flagged = table["quality_flags"].str.contains("low_option_mass")
    assert (flagged == low).all()


def test_the_merged_table_joins_both_experiments_by_trial(tmp_path):
    merged = analysis_ready(STUDY2, structured(tmp_path), probabilities())
    assert len(merged) == 40
    assert merged["trial_index"].tolist() == list(range(40))
    assert list(merged.columns[:5]) == [
        "model_key", "model_name", "replication", "variant", "trial_index",
    ]  # fmt: skip
    for column in ("Precontext", "response_cleaned", "prob_was", "exp1_status", "exp2_status"):
        assert merged[column].notna().any()
    assert merged["exp2_experiment_seed"].eq(4000).all()
    assert merged["quality_flags"].str.contains("exp1_unparsed").any()


@pytest.mark.parametrize("missing", ["exp1", "exp2"])
def test_an_experiment_that_was_not_run_leaves_its_columns_empty(tmp_path, missing):
    whole = analysis_ready(STUDY2, structured(tmp_path), probabilities())
    part = analysis_ready(
        STUDY2,
        None if missing == "exp1" else structured(tmp_path),
        None if missing == "exp2" else probabilities(),
    )
    assert set(part.columns) == set(whole.columns)
    absent = "Assessment" if missing == "exp1" else "prob_was"
    present = "prob_was" if missing == "exp1" else "Assessment"
    assert part[absent].isna().all()
    assert part[present].notna().any()
    assert len(part) == 40


def test_a_table_with_other_columns_is_refused(tmp_path):
    write_rows(tmp_path / "raw.csv", [{"a": 1}], ["a"])
    with pytest.raises(RecordError, match=r"raw\.csv: its columns are not those"):
        list(read_rows(tmp_path / "raw.csv", raw_columns(STUDY2)))


def test_an_answer_may_be_unparsed_and_out_of_range():
    study = STUDIES["study1"]
    bets = "Probabilities: 0: 40%, 1: 40%, 2: 40%, 3: 40%\n"
    raw = {"status": "ok", "finish_reason": "stop", "replaced_characters": ""}
    responses = {
        f"Initial Answer: 2\n{bets}Knowledge: yes": "out_of_range",
        bets: "unparsed;out_of_range",
        "nothing": "unparsed",
    }
    rows = [{**raw, "model_response": response} for response in responses]
    found = [row["quality_flags"] for row in structured_rows(rows, study, 1.0)]
    assert found == list(responses.values())


def test_items_that_are_named_by_numbers_stay_apart_when_tables_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "study2_structured.csv"
    path.write_text("Participant_ID,Domain,variant,prompt_id\n007,01,seed,1e5\n7,1,seed,10\n")
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts/merge.py"))
    table = script["read_table"](path, STUDIES["study2"])
    assert list(table["Participant_ID"]) == ["007", "7"]
    assert list(table["Domain"]) == ["01", "1"]
