"""Ways of scoring as a factor, in R: the default's conclusions are the analysis's own."""

import json
from pathlib import Path

import bundled_analyses as bundled
import game_analysis as generic
import numpy as np
import pandas as pd
import pytest
from bundled_analyses import SCORING_TABLES, as_sampled, knows_made, made_bets
from r_analysis import Figures, jsd, one, rscript


def run(
    folder: Path, study: int | None, scored: list[dict], figures: Figures = "none"
) -> dict[str, pd.DataFrame]:
    """The analysis of the job in a folder, once more with these rows under ways of scoring."""
    job = json.loads((folder / "job.json").read_text())
    made = [as_sampled(study, row) if study else row for row in scored]
    table = (
        pd.DataFrame(made) if made else pd.DataFrame(columns=["scoring_method", "options_alike"])
    )
    table.to_csv(folder / "methods.csv", index=False)
    job["input"]["scoring_methods"] = str(folder / "methods.csv")
    job["output"] |= {name: str(folder / f"{name}.csv") for name in SCORING_TABLES}
    job["output"]["scoring"] = str(folder / "scoring.png")
    job["figures"] = figures
    (folder / "scoring_job.json").write_text(json.dumps(job))
    driver = bundled.DRIVER if study else generic.DRIVER
    done = rscript(driver, str(folder / "scoring_job.json"))
    assert done.returncode == 0, done.stderr
    if figures != "none":
        assert (folder / "scoring.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    return {name: pd.read_csv(folder / f"{name}.csv") for name in SCORING_TABLES}


def under(method: str, rows: list[dict], alike: int = 1) -> list[dict]:
    return [row | {"scoring_method": method, "options_alike": alike} for row in rows]


def test_study1_the_default_gives_the_contrasts_of_experiment_2(tmp_path):
    bets = made_bets()
    main = bundled.analyse(tmp_path, 1, bundled.study1_rows(bets, knows_made))
    measured = bundled.study1_rows(bets, knows_made, draws=1, exps=("exp2",))
    turned = bundled.study1_rows(
        lambda *cell: bets(*cell)[::-1], knows_made, draws=1, exps=("exp2",)
    )
    tables = run(
        tmp_path, 1, [*under("whole", measured), *under("terminated", measured),
                      *under("mean_token", turned, alike=3)], "png",
    )  # fmt: skip
    found = tables["scoring_methods"]
    for method, experiment in (("whole", "exp2"), ("terminated", "exp2"), ("exp1", "exp1")):
        theirs = main["contrasts"][main["contrasts"]["experiment"] == experiment]
        mine = found[(found["method"] == method) & found["people"].notna()]
        assert list(mine["value"]) == pytest.approx(list(theirs["difference"]))
        assert list(mine["ci_low"]) == pytest.approx(list(theirs["ci_low"]))
        assert list(mine["p"]) == pytest.approx(list(theirs["p_bh"]))
        assert list(mine["outcome"]) == list(theirs["model_pattern"])
        assert list(mine["people"]) == list(theirs["human_pattern"])
    name = "3/2: bet on 2 over bet on 3"
    assert one(found, method="whole", conclusion=name)["outcome"] == "holds"
    turned_round = one(found, method="mean_token", conclusion="2/2: bet on 2 over bet on 3")
    assert turned_round["outcome"] in ("equivalent", "undecided")
    assert "cannot tell 3 options apart" in turned_round["note"]
    assert found[found["method"] == "terminated"]["same_as_whole"].all()
    pairs = tables["scoring_agreement"]
    same = one(pairs, method="whole", compared_with="terminated")
    assert same["n_same"] == same["n_conclusions"] == 13
    assert (same["jsd_bits"], same["same_favourite"]) == (0, 1)
    turned_pair = one(pairs, method="whole", compared_with="mean_token")
    assert turned_pair["n_same"] < 13
    means = pd.DataFrame(measured).groupby(["access", "observe"])[
        [f"state{s}_mean" for s in range(4)]
    ].mean().to_numpy()  # fmt: skip
    expected = np.mean([jsd(cell, cell[::-1]) for cell in means])
    assert turned_pair["jsd_bits"] == pytest.approx(expected)
    people = one(pairs, method="whole", compared_with="people")
    theirs = main["contrasts"][main["contrasts"]["experiment"] == "exp2"]
    assert people["n_decided"] == theirs["same_pattern"].notna().sum()
    assert people["n_decided_same"] == theirs["same_pattern"].sum()


def test_study2_the_default_gives_the_tests_of_experiment_2(tmp_path):
    counts = bundled.human_counts()
    cells = [(goal, state) for goal in bundled.GOALS for state in range(4)]
    shares = {
        cell: np.array([np.divide(*counts[(*cell, *u)]) for u in bundled.UTTERANCES])
        for cell in cells
    }
    said = {cell: [int(np.argmax(p))] * 4 for cell, p in shares.items()}
    rows = bundled.study2_rows(said, shares)
    main = bundled.analyse(tmp_path, 2, rows)
    measured = bundled.study2_rows(said, shares, exps=("exp2",))
    tables = run(tmp_path, 2, [*under("whole", measured), *under("first_token", measured, 4)])
    found = tables["scoring_methods"]
    theirs = main["tests"][main["tests"]["experiment"] == "exp2"]
    mine = found[(found["method"] == "whole") & found["conclusion"].str.startswith("above chance")]
    assert list(mine["value"]) == pytest.approx(list(theirs["proportion"]))
    comparison = one(main["human_comparison"], experiment="exp2")
    for goal in bundled.GOALS:
        row = one(found, method="whole", conclusion=f"{goal}: negation, 0-1 over 2-3 hearts")
        assert row["value"] == pytest.approx(comparison[f"indirectness_{goal}"])
        assert row["people"] == "holds"
        assert row["outcome"] == "holds"  # the same in every domain
    assert set(found[found["method"] == "first_token"]["alike"]) == {4}


def test_a_generic_study_has_its_contrasts_under_every_way(tmp_path):
    rows = generic.game_rows()
    generic.analyse(tmp_path, rows)
    main = pd.read_csv(tmp_path / "game_contrasts.csv")
    measured = generic.game_rows(exps=("exp2",), draws=1)
    truth = {cell: p[::-1] for cell, p in generic.TRUTH.items()}
    turned = generic.game_rows(exps=("exp2",), draws=1, truth=truth)
    # The same items as in the main table.
    first = pd.DataFrame(rows).drop_duplicates("prompt_id")
    for row, other in zip(measured, first.to_dict("records"), strict=True):
        row |= {name: other[name] for name in other if name.startswith("prob_")}
    tables = run(tmp_path, None, [*under("whole", measured), *under("pmi_null", turned)])
    found = tables["scoring_methods"]
    for name in ("roles differ", "nothing"):
        for method, experiment in (("whole", "exp2"), ("exp1", "exp1")):
            mine = one(found, method=method, conclusion=name)
            theirs = one(main, contrast=name, experiment=experiment)
            assert mine["value"] == pytest.approx(theirs["difference"])
            assert mine["p"] == pytest.approx(theirs["p_bh"])
    assert one(found, method="whole", conclusion="roles differ")["outcome"] == "holds"
    turned_round = one(found, method="pmi_null", conclusion="roles differ")
    assert turned_round["outcome"] in ("equivalent", "undecided", "reversed")
    assert not turned_round["same_as_whole"]
    assert one(found, method="whole", conclusion="roles differ")["people"] == "holds"
    mean = one(found, method="whole", conclusion="mean: chose the target")
    assert mean["value"] == pytest.approx(first["prob_target"].mean())
    assert found["conclusion"].str.contains("distance to human").sum() == 3


def test_a_run_without_measurements_has_tables_without_rows(tmp_path):
    generic.analyse(tmp_path, generic.game_rows(exps=("exp1",)))
    assert all(len(table) == 0 for table in run(tmp_path, None, [], "png").values())
