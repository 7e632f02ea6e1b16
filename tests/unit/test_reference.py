"""The tables of people and models of people that R reads."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from bundled_studies import STUDY1, STUDY2
from declared import DECLARED, study_of

from grace.errors import GraceError
from grace.studies.reading import read_study
from grace.studies.stimuli import read_trials
from grace.studies.study import Study
from grace.studies.theory import check_people, write_reference


def _tables(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    study1, study2 = folder / "study1.csv", folder / "study2.csv"
    write_reference(STUDY1, study1)
    write_reference(STUDY2, study2)
    with study1.open(newline="") as one, study2.open(newline="") as two:
        return list(csv.DictReader(one)), list(csv.DictReader(two))


def test_study1_table(tmp_path: Path) -> None:
    rows, _ = _tables(tmp_path)
    assert list(rows[0]) == ["source", "access", "observe", "state", "probability"]
    assert Counter(row["source"] for row in rows) == {"rsa": 24, "exact_report": 24}
    found = {
        (r["source"], r["access"], r["observe"], r["state"]): float(r["probability"]) for r in rows
    }
    assert len(found) == 48
    assert found["rsa", "3", "1", "2"] == pytest.approx(0.282, abs=0.0005)
    assert found["exact_report", "2", "1", "2"] == pytest.approx(0.62)


def test_study2_table(tmp_path: Path) -> None:
    _, rows = _tables(tmp_path)
    assert ",".join(rows[0]) == "source,goal,state,frame,assessment,n,total,probability"
    assert Counter(row["source"] for row in rows) == {"human": 96, "polite_rsa": 96}
    keys = ("source", "goal", "state", "frame", "assessment")
    found = {tuple(row[key] for key in keys): row for row in rows}
    assert len(found) == 192
    assert {row["frame"] for row in rows} == {"was", "wasn't"}
    human = found["human", "both", "0", "wasn't", "terrible"]
    assert (human["n"], human["total"]) == ("73", "203")
    assert float(human["probability"]) == pytest.approx(73 / 203)
    assert found["polite_rsa", "both", "0", "wasn't", "terrible"]["n"] == ""
    for source in ("human", "polite_rsa"):
        for goal in ("informative", "social", "both"):
            for state in "0123":
                chosen = [
                    float(row["probability"])
                    for key, row in found.items()
                    if key[:3] == (source, goal, state)
                ]
                assert sum(chosen) == pytest.approx(1)


PEOPLE = {
    "file": "people.csv",
    "kind": "trials",
    "cells": ["size"],
    "outcome": {"answer": ["big", "small"]},
    "columns": {"answer": "said"},
    "values": {"answer": {"B": "big", "S": "small"}},
}
GUESS = """
def guess(size, *, lapse):
    return [lapse, 1 - lapse] if size < 5 else [1 - lapse, lapse]
"""
THEORY = {
    "source": "guess",
    "function": "guess",
    "cells": {"size": [1, 9]},
    "outcome": {"answer": ["big", "small"]},
    "parameters": {"lapse": 0.1},
}


def _declared(
    folder: Path, people: str = "size,said\n1,S\n1,S\n1,B\n9,B\n", code: str = ""
) -> Study:
    return study_of(
        folder,
        {**DECLARED, "people": PEOPLE, "theory": [THEORY]},
        people_csv=people,
        theory_py=code or GUESS,
    )


def test_people_are_counted_by_cell_and_stand_before_theories(tmp_path: Path) -> None:
    write_reference(_declared(tmp_path / "toy"), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "source,size,query,outcome,n,total,probability",
        "human,1,answer,big,1,3,0.3333333333333333",
        "human,1,answer,small,2,3,0.6666666666666666",
        "human,9,answer,big,1,1,1.0",
        "human,9,answer,small,0,1,0.0",
        "guess,1,answer,big,,,0.1",
        "guess,1,answer,small,,,0.9",
        "guess,9,answer,big,,,0.9",
        "guess,9,answer,small,,,0.1",
    ]


def test_each_participant_stands_behind_the_people(tmp_path: Path) -> None:
    study = study_of(
        tmp_path / "toy",
        {**DECLARED, "people": {**PEOPLE, "participant": "who"}, "theory": []},
        people_csv="who,size,said\nann,1,S\nann,1,S\nbob,1,B\nbob,9,B\n",
    )
    write_reference(study, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "source,participant,size,query,outcome,n,total,probability",
        "human,,1,answer,big,1,3,0.3333333333333333",
        "human,,1,answer,small,2,3,0.6666666666666666",
        "human,,9,answer,big,1,1,1.0",
        "human,,9,answer,small,0,1,0.0",
        "human,ann,1,answer,small,2,2,1.0",
        "human,bob,1,answer,big,1,1,1.0",
        "human,bob,9,answer,big,1,1,1.0",
    ]


@pytest.mark.parametrize(
    ("people", "text", "message"),
    [
        ({}, "who,size,said\n,1,S\n", r"people\.csv, row 2, column who: is empty"),
        ({}, "who,size,said\nann,1,S\nann,9,\n", r"row 3, column said: is empty"),
        ({}, "who,size,said\nann,1\n", r"row 2, column said: is empty"),
        ({}, "size,said\n1,S\n", r"row 1: has no column 'who', which `people` of"),
        ({}, "who,size,said\n", r"people\.csv: holds no answers"),
        ({}, "who,size,said\nann,1,X\n", r"row 2, column said: answer is 'X', which is none of"),
        ({}, "who,size,said\nann,7,S\n", r"row 2, column size: people answered in the cell size 7"),
        ({"kind": "cells"}, "", r"`participant` needs one answer a row"),
        ({"participant": "said"}, "", r"`participant` names a column that holds who answered"),
    ],
)
def test_what_is_wrong_in_a_file_of_participants_is_named_when_the_run_starts(
    tmp_path: Path, people: dict[str, str], text: str, message: str
) -> None:
    declared = {**PEOPLE, "participant": "who", **people}

    def check() -> None:
        study = study_of(tmp_path / "toy", {**DECLARED, "people": declared}, people_csv=text)
        check_people(study, read_trials(study.stimuli_file, study))

    with pytest.raises(GraceError, match=message):
        check()


@pytest.mark.parametrize(
    ("people", "code", "message"),
    [
        ("size,word\n1,S\n", "", r"people\.csv, row 1: has no column 'said'"),
        ("size,said\n1,X\n", "", r"row 2, column said: answer is 'X', which is none of big, small"),
        (
            "",
            "def gess(): pass",
            r"theory\.py: there is no function 'guess'\. Did you mean 'gess'\?",
        ),
        ("", "def guess(size): return [1, 0]", r"theory\.py: guess\(1\) fails: TypeError"),
        ("", "def guess(size, lapse): return [1]", "gives 1 probabilities, but `outcome` has 2"),
        ("", "def guess(size, lapse): return [1, 1]", r"\[1\.0, 1\.0\], which is no distribution"),
        ("", "1 / 0\ndef guess(): pass", r"theory\.py: cannot be loaded: ZeroDivisionError"),
        ("", "def guess(:", r"theory\.py: not readable as Python"),
    ],
)
def test_a_file_that_does_not_fit_is_named(
    tmp_path: Path, people: str, code: str, message: str
) -> None:
    def run() -> None:
        study = _declared(tmp_path / "toy", people or "size,said\n1,S\n", code)
        write_reference(study, tmp_path / "table.csv")

    with pytest.raises(GraceError, match=message):
        run()


def test_an_unknown_human_utterance_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(STUDY2.folder, tmp_path / "studies/study2")
    text = "goal,state,polarity,adjective,n,total\nboth,0,was,okay,1,203\n"
    (folder / "people.csv").write_text(text)
    declared = (folder / "study.yaml").read_text()
    declared = declared.replace("../../resources/reference/study2_human_cells.csv", "people.csv")
    root = os.path.relpath(STUDY2.folder.parents[1], folder)
    declared = declared.replace("../..", root)
    (folder / "study.yaml").write_text(declared)
    with pytest.raises(
        GraceError, match=r"people\.csv, row 2, column adjective: assessment is 'okay'"
    ):
        write_reference(read_study(folder, "study2"), tmp_path / "table.csv")
