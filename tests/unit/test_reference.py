"""The tables of people and models of people that R reads."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import pytest

from grace.errors import GraceError

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "resources" / "reference"
sys.path.insert(0, str(ROOT / "scripts"))

import reference  # noqa: E402


def _tables(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    study1, study2 = folder / "study1.csv", folder / "study2.csv"
    reference.reference(
        human=REFERENCE / "study2_human_cells.csv",
        lexicon=REFERENCE / "politeness_lexicon.csv",
        weights=REFERENCE / "politeness_weights.csv",
        study1=study1,
        study2=study2,
    )
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


def test_an_unknown_human_utterance_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "human.csv"
    path.write_text("goal,state,polarity,adjective,n,total\nboth,0,was,okay,1,203\n")
    with pytest.raises(GraceError, match=r"human\.csv: 'It was okay'"):
        reference.human_rows(path)
