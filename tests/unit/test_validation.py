"""Validation: every kind of damage is found, and only it."""

import runpy
from pathlib import Path

import pandas as pd
import pytest
from bundled_studies import STUDIES, STUDY2
from scripted_runs import probabilities, structured

from grace.results.validation import check_models, check_probabilities, check_structured, report
from grace.settings.config import Thresholds

ROOT = Path(__file__).parents[2]
STRICT = Thresholds()
LENIENT = Thresholds(min_schema_pass=0.5, min_option_mass=0, max_low_mass_rate=1)


def failed(checks) -> dict[str, list[str]]:
    return {check.name: check.rows_to_review for check in checks if not check.passed}


@pytest.fixture
def answers(tmp_path) -> pd.DataFrame:
    return structured(tmp_path)


@pytest.fixture
def measured() -> pd.DataFrame:
    return probabilities()


def test_good_tables_pass(answers, measured):
    assert failed(check_structured(answers, STUDY2, 40, LENIENT)) == {}
    assert failed(check_probabilities(measured, STUDY2, 40, LENIENT)) == {}


def test_too_many_unparsed_answers_fail_and_are_listed(answers):
    found = failed(check_structured(answers, STUDY2, 40, STRICT))
    unparsed = answers[answers["extraction_confidence"] == 0]
    assert found == {"schema_pass": [f"seed/{index}" for index in unparsed["trial_index"]]}


@pytest.mark.parametrize("expected", [39, 41])
def test_a_wrong_row_count_fails(answers, measured, expected):
    assert failed(check_structured(answers, STUDY2, expected, LENIENT)) == {"rows": []}
    assert failed(check_probabilities(measured, STUDY2, expected, LENIENT)) == {"rows": []}


def test_a_row_that_stands_there_twice_fails(answers):
    doubled = pd.concat([answers.iloc[:-1], answers.iloc[:1]])
    name = f"seed/{answers['trial_index'].iloc[0]}"
    assert failed(check_structured(doubled, STUDY2, 40, LENIENT)) == {"repeated_rows": [name] * 2}


def test_a_missing_input_fails(answers):
    answers.loc[3, "Scenario"] = None
    name = f"seed/{answers['trial_index'][3]}"
    assert failed(check_structured(answers, STUDY2, 40, LENIENT)) == {"missing_inputs": [name]}


def test_failed_requests_fail_above_their_share(tmp_path):
    table = structured(tmp_path, fails=lambda prompt: "0 hearts" in prompt)
    found = failed(check_structured(table, STUDY2, 40, LENIENT))
    assert set(found) == {"failure_rate"}
    assert len(found["failure_rate"]) == (table["State_number"] == 0).sum()


def test_a_distribution_that_does_not_sum_to_one_fails(measured):
    measured.loc[5, "prob_was"] += 0.02
    name = f"seed/{measured['trial_index'][5]}"
    found = failed(check_probabilities(measured, STUDY2, 40, LENIENT))
    assert found == {"probability_sums": [name]}


def test_a_probability_outside_its_range_fails(measured):
    measured.loc[5, ["prob_was", "prob_wasnt"]] = [1.2, -0.2]
    found = failed(check_probabilities(measured, STUDY2, 40, LENIENT))
    assert set(found) == {"probability_range"}


def test_a_missing_probability_fails(measured):
    measured.loc[5, "prob_was_good"] = None
    found = failed(check_probabilities(measured, STUDY2, 40, LENIENT))
    assert "missing_probabilities" in found


def test_low_option_mass_fails(measured):
    found = failed(check_probabilities(measured, STUDY2, 40, STRICT))
    assert set(found) == {"option_mass"}
    assert len(found["option_mass"]) == (measured["option_mass"] < 0.5).sum()


def test_option_mass_above_one_fails(measured):
    measured.loc[5, "option_mass"] = 1.5
    assert "option_mass_range" in failed(check_probabilities(measured, STUDY2, 40, LENIENT))


def test_a_percentage_sum_off_fails(tmp_path):
    study = STUDIES["study1"]
    assert study.answer_checks({f"probability_{s}": 30.0 for s in range(4)}, 1.0) == [
        "percentages sum to 120, not 100"
    ]
    assert study.answer_checks({f"probability_{s}": 25.2 for s in range(4)}, 1.0) == []


def test_the_summary_names_model_check_value_and_limit(answers):
    found = report("pico", 1, check_structured(answers, STUDY2, 40, STRICT))
    assert not found.passed
    (line,) = found.failures()
    assert line.startswith("pico, replication 1, study2_exp1: share of answers that parse")
    assert "must be > 0.95" in line
    assert "rows to review)" in line


def reporting(table: pd.DataFrame, *names: str | None) -> pd.DataFrame:
    """The table with these models behind its answers, in turns."""
    return table.assign(reported_model=[names[n % len(names)] for n in range(len(table))])


def test_answers_of_another_model_fail_with_how_many_came_from_which(answers, measured):
    names = ("gpt-4o-2024-08-06", "gpt-4o-mini", "gpt-4o-2024-08-06", "llama", "gpt-4o-mini")
    (other, versions) = check_models(reporting(answers, *names), STUDY2, "exp1", "gpt-4o")
    assert (other.name, other.passed, other.value) == ("reported_model", False, 24)
    assert "'gpt-4o' (16 from 'gpt-4o-mini', 8 from 'llama')" in other.description
    assert other.rows_to_review_total == 24
    assert (versions.name, versions.passed) == ("model_versions", True)
    queries = reporting(measured, "gpt-4o-2024-08-06;llama", "gpt-4o-2024-08-06")
    (other, _) = check_models(queries, STUDY2, "exp2", "gpt-4o")
    assert (other.passed, other.value) == (False, 20)


def test_a_dated_version_passes_and_two_of_them_do_not(answers):
    dated = reporting(answers, "gpt-4o-2024-08-06", "GPT-4o-2024-08-06", None)
    assert failed(check_models(dated, STUDY2, "exp1", "openai/gpt-4o")) == {}
    mixed = reporting(answers, "gpt-4o-2024-08-06", "gpt-4o-2024-05-13")
    found = check_models(mixed, STUDY2, "exp1", "gpt-4o")
    assert set(failed(found)) == {"model_versions"}
    assert "20 from 'gpt-4o-2024-05-13'" in found[1].description


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (["gpt-4o-2024-08-06", "gpt-4o-2024-05-13", "GPT-4o-2024-08-06"], 1),
        (["gpt-4o-2024-08-06", "GPT-4o-2024-08-06", None], 0),
        ([None, None, None], 0),
    ],
)
def test_an_alias_that_moves_between_replications_or_experiments_stops_the_merge(
    tmp_path, answers, measured, names, lines
):
    """Each table is of one version, which is all that its own validation sees."""
    paths = []
    for index, (table, name) in enumerate(zip((answers, answers, measured), names, strict=True)):
        assert failed(check_models(reporting(table, name), STUDY2, "exp1", "gpt-4o")) == {}
        paths.append(tmp_path / f"{index}.csv")
        reporting(table, name).to_csv(paths[-1], index=False)
    mixed_versions = runpy.run_path(str(ROOT / "scripts/merge.py"))["mixed_versions"]
    refused = list(mixed_versions(paths[:2], paths[2:], STUDY2))
    reasons = {failure.reason for failure in refused}
    assert len(reasons) == lines
    assert all(
        "(80 from 'gpt-4o-2024-08-06', 40 from 'gpt-4o-2024-05-13'): 2" in t for t in reasons
    )


def test_engines_that_name_no_model_are_not_checked(answers):
    assert check_models(reporting(answers, None), STUDY2, "exp1", "gpt-4o") == []
    assert check_models(reporting(answers, "x"), STUDY2, "exp1", None) == []


def test_replaced_characters_are_shown_and_fail_nothing(answers):
    assert "replaced_characters" not in {
        c.name for c in check_structured(answers, STUDY2, 40, LENIENT)
    }
    answers.loc[3, "quality_flags"] = "replaced_characters"
    found = {c.name: c for c in check_structured(answers, STUDY2, 40, LENIENT)}
    shown = found["replaced_characters"]
    assert (shown.passed, shown.value) == (True, 1 / 40)
    assert shown.rows_to_review == [f"seed/{answers['trial_index'][3]}"]
