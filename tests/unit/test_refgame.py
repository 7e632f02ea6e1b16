"""The reference game, by declaration alone: options that differ by trial, labels, responses."""

from __future__ import annotations

import csv
import runpy
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from bundled_studies import bundled_study
from engines_for_tests import CharacterTokenizer, ScriptedEngine

from grace.engines.base import Decoding
from grace.errors import StimuliError
from grace.experiments.generation import run_generation
from grace.experiments.measurement import run_scoring
from grace.experiments.trials import Run, trial_prompts
from grace.results import validation
from grace.results.tables import (
    analysis_ready,
    probability_columns,
    probability_rows,
    raw_rows,
    structured_columns,
    structured_rows,
)
from grace.settings.config import Thresholds
from grace.settings.output_configs import DecodingConfig
from grace.studies.declaration import Declaration
from grace.studies.soundness import findings
from grace.studies.stimuli import read_trials
from grace.studies.study import Study

ROOT = Path(__file__).parents[2]
STUDY = bundled_study("refgame")
TRIALS = read_trials(STUDY.stimuli_file, STUDY)


def items_of(run: Run):
    return trial_prompts(run, TRIALS, [STUDY.variant("seed")])


def run_of(experiment: str) -> Run:
    return Run("pico", "resources/models/pico", STUDY, experiment, 0, 1000, True)


def measured(decoding: DecodingConfig | None = None) -> pd.DataFrame:
    run = run_of("exp2")
    records = run_scoring(run, items_of(run), CharacterTokenizer(), ScriptedEngine())
    rows = list(probability_rows(records, STUDY, 0.5, decoding))
    return pd.DataFrame(rows, columns=list(probability_columns(STUDY)))


def answered() -> pd.DataFrame:
    """Half of the trials name their target, some in more words, the others nothing."""
    run = run_of("exp1")
    targets = {
        STUDY.messages(trial, STUDY.variant("seed"))[0]["content"]: trial["target"]
        for trial in TRIALS
    }
    engine = ScriptedEngine(
        lambda prompt, seed: f"I mean the {targets[prompt]}." if seed % 2 else "No idea"
    )
    decoding = Decoding(temperature=1.0, top_p=1.0, max_tokens=16)
    records = run_generation(run, items_of(run), CharacterTokenizer(), engine, decoding)
    rows = [{name: str(value) for name, value in row.items()} for row in raw_rows(records, STUDY)]
    for row in rows:
        row["replaced_characters"] = "0"
    table = pd.DataFrame(structured_rows(rows, STUDY, 1.0), columns=structured_columns(STUDY))
    return table.astype({"replication": int, "trial_index": int})


def test_its_items_are_what_its_script_makes_of_the_design():
    rows = runpy.run_path(str(STUDY.folder / "make_stimuli.py"))["rows"]()
    with STUDY.stimuli_file.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows
    places = Counter()
    for row in rows:
        objects = [row[f"object_{place}"].split() for place in (1, 2, 3)]
        words = [row[f"word_{place}"] for place in (1, 2, 3, 4)]
        assert sorted(sum(word in thing for thing in objects) for word in words) == [1, 1, 2, 2]
        assert row["given"] in words or row["given"].split() in objects
        options = words if row["role"] == "production" else [" ".join(one) for one in objects]
        places[row["role"], options.index(row["target"])] += 1
    assert set(places.values()) == {6, 8}  # 24 targets over 4 places, and over 3


def test_only_the_queries_of_its_role_are_asked_of_a_trial():
    names = {
        (trial["role"], query.name, len(query.options))
        for trial in TRIALS
        for query in STUDY.queries(trial, STUDY.variant("seed"))
    }
    assert names == {("production", "word", 4), ("interpretation", "object", 3)}


def test_probabilities_are_counted_by_label_and_what_was_not_asked_is_empty():
    table = measured()
    produced = table[table["role"] == "production"]
    assert produced[["prob_object_1", "object_option_mass"]].isna().all(axis=None)
    assert produced["prob_target"].to_numpy() == pytest.approx([0.25] * 24)
    assert produced["prob_distractor"].to_numpy() == pytest.approx([0.5] * 24)
    heard = table[table["role"] == "interpretation"]
    assert heard[["prob_target", "prob_competitor", "prob_distractor"]].to_numpy() == (
        pytest.approx(1 / 3)
    )
    checks = validation.check_probabilities(table, STUDY, len(TRIALS), Thresholds())
    failed = {check.name for check in checks if not check.passed}
    assert failed <= {"option_mass"}  # the scripted engine leaves most of it to other answers
    table.loc[table.index[0], ["prob_word_1", "prob_object_1"]] = None
    checks = validation.check_probabilities(table, STUDY, len(TRIALS), Thresholds())
    assert "missing_probabilities" in {check.name for check in checks if not check.passed}


def test_answers_are_read_by_the_options_of_their_trial():
    def read(answer: str, role: str = "interpretation"):
        trial = next(one for one in TRIALS if one["role"] == role)
        return STUDY.parse(answer, trial.row())

    found = read("It is the Yellow Striped CUBE!")
    assert found["choice"] == "yellow striped cube"
    assert found["choice_label"] == "target"
    assert read("the cube")["extraction_errors"] == "none of the options"
    assert read("yellow striped cube or yellow dotted cube")["extraction_errors"] == (
        "several options"
    )
    assert read("dotted", "production")["choice_label"] == "target"
    assert read("cubes", "production")["choice"] is None
    assert read("", "production")["choice_label"] is None


def test_responses_stand_in_the_analysis_ready_table():
    ready = analysis_ready(STUDY, answered(), measured())
    said = ready["choice"].notna()
    assert 0 < said.sum() < len(ready)
    assert (ready.loc[said, "response_1_exp1"] == 1).all()
    assert (ready.loc[said, "response_2_exp1"] == 0).all()
    assert ready.loc[~said, "response_1_exp1"].isna().all()
    assert (ready["response_1_exp2"] == ready["prob_target"]).all()
    assert ready["response_1_sampled"].isna().all()
    ready = analysis_ready(STUDY, answered(), measured(DecodingConfig(temperature=0, top_p=1)))
    assert set(ready["sampled_prob_target"]) == {0, 1}
    assert (ready["response_1_sampled"] == ready["sampled_prob_target"]).all()
    assert (ready["response_1_exp2"] == ready["prob_target"]).all()


def changed(**parts: object) -> Study:
    values = STUDY.declaration.model_dump(mode="json", by_alias=True, exclude_none=True)
    declaration = Declaration.model_validate({**values, **parts})
    return Study("refgame", STUDY.folder, declaration, "refgame/study.yaml")


def test_an_option_without_a_label_or_with_two_is_refused_with_its_row():
    labels = STUDY.declaration.labels.model_dump(mode="json")
    labels["of"]["distractor"] = "option != target"
    with pytest.raises(StimuliError, match=r"row 2: its option 'cube' has 2 labels, competitor"):
        read_trials(STUDY.stimuli_file, changed(labels=labels))
    labels["of"]["distractor"] = "option == given"
    with pytest.raises(StimuliError, match=r"row 2: its option 'striped' has no label"):
        read_trials(STUDY.stimuli_file, changed(labels=labels))


def test_queries_and_fields_that_are_not_there_are_refused():
    labels = STUDY.declaration.labels.model_dump(mode="json")
    for part, value, place, what in (
        ("queries", ["words"], "labels.queries.0", "there is no query 'words'"),
        ("field", "choise", "labels.field", "there is no field of experiment 1 called 'choise'"),
    ):
        # A column that a fit reads is called after the field: that is found, too.
        found, said = next(findings(changed(labels={**labels, part: value})))
        assert (found, said.partition(".")[0]) == (place, what)
    tables = STUDY.declaration.tables.model_copy(update={"responses": ["trial"]})
    said = dict(findings(changed(tables=tables.model_dump(mode="json", exclude_none=True))))
    assert said["tables.responses"].startswith("must hold all columns, since answers are read by")
    score = STUDY.declaration.model_dump(mode="json", exclude_none=True)["score"]
    score[0]["when"] = "role == 'neither'"
    with pytest.raises(StimuliError, match="no query is asked of it"):
        read_trials(STUDY.stimuli_file, changed(score=score))


def test_a_row_with_two_equal_options_is_refused(tmp_path):
    text = STUDY.stimuli_file.read_text(encoding="utf-8").splitlines()
    text[1] = text[1].replace(",dotted,cube,striped,", ",dotted,cube,cube,")
    (tmp_path / "stimuli.csv").write_text("\n".join(text) + "\n", encoding="utf-8")
    with pytest.raises(StimuliError, match=r"row 2: word_3 and word_2 are both 'cube'"):
        read_trials(tmp_path / "stimuli.csv", STUDY)
