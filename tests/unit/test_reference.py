"""The tables of people and models of people that R reads."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from bundled_studies import STUDY1, STUDY2
from declared import study_of

from grace.errors import GraceError
from grace.studies.theory import write_reference


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


