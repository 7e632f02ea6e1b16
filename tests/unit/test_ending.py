"""The last lines of a run, from the tables of quality that R writes."""

from __future__ import annotations

from grace.results.ending import ending

HEAD = "label,model_key,variant,experiment,replications,trials,usable,usable_percent,flagged\n"


def test_the_last_lines_are_a_table_and_what_to_open(tmp_path):
    one, two = tmp_path / "study1_quality.csv", tmp_path / "my-study_quality.csv"
    one.write_text(f"{HEAD}pico †,pico,seed,exp1,2,600,598,99.6667,3\n", encoding="utf-8")
    two.write_text(f"{HEAD}g,gemma-2b,mine,exp2,1,3,0,0,3\n", encoding="utf-8")
    report, trials = tmp_path / "report.html", tmp_path / "trials.html"
    lines = ending([one, two], report, trials).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["study1", "pico", "seed", "exp1", "2", "600", "598", "(99.7", "%)", "3"],
        ["my-study", "gemma-2b", "mine", "exp2", "1", "3", "0", "(0.0", "%)", "3"],
    ]
    assert lines[0].split() == [
        "study", "model", "variant", "experiment", "replications", "trials", "usable", "flagged",
    ]  # fmt: skip
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[3:] == ["", f"Report: {report}"]
    trials.touch()
    assert ending([one], report, trials).endswith(f"\nTrials: {trials}")
