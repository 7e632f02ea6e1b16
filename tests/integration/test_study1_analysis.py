"""Study 1's analysis on made data whose answers are computed here anew, with numpy and scipy."""

import numpy as np
import pandas as pd
import pytest
from bundled_analyses import (
    CELLS,
    PUBLISHED,
    RSA,
    STORIES,
    TABLES,
    analyse,
    knows_made,
    launch,
    made_bets,
    study1_rows,
)
from r_analysis import benjamini_hochberg, jsd, one, share_interval
from scipy import stats


@pytest.fixture(scope="module")
def bets():
    return made_bets()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study1")


@pytest.fixture(scope="module")
def study1(folder, bets):
    return analyse(folder, 1, study1_rows(bets, knows_made), figures="whole")


def values(bets, cell, experiment):
    draws = range(4) if experiment == "exp1" else [None]
    return np.array([[bets(cell, story, d) for d in draws] for story in STORIES])


def test_cell_means_and_distances(study1, bets):
    for experiment in ("exp1", "exp2"):
        for a, o in CELLS:
            mean = values(bets, (a, o), experiment).mean((0, 1))
            where = {"model_key": "m", "experiment": experiment, "access": a, "observe": o}
            for state in range(4):
                row = one(study1["cells"], **where, state=state)
                assert row["bet"] == pytest.approx(mean[state])
                assert row["n_prompts"] == row["n_items"] == 6
                assert row["n_answers"] == (24 if experiment == "exp1" else 6)
                copies = "" if experiment == "exp1" else "18 copies not counted"
                assert (row["note"] if copies else "") == copies
                by_story = values(bets, (a, o), experiment)[:, :, state].mean(1)
                if (by_story > 0).all() and (by_story < 100).all():
                    limits = np.array(share_interval(by_story / 100, STORIES, counted=False))
                    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(100 * limits))
            row = one(study1["distances"], **where, reference="rsa")
            p, q = mean / mean.sum(), np.array(RSA[a, o]) / sum(RSA[a, o])
            assert row["jsd_bits"] == pytest.approx(jsd(p, q), abs=1e-9)
            assert row["emd_states"] == pytest.approx(np.abs(np.cumsum(p - q)).sum(), abs=1e-9)
            assert row["jsd_low"] <= row["jsd_corrected"] <= row["jsd_high"]


def test_planned_contrasts(study1, bets):
    published = pd.read_csv(PUBLISHED)
    for experiment in ("exp1", "exp2"):
        table = study1["contrasts"]
        table = table[table["experiment"] == experiment].reset_index(drop=True)
        assert len(table) == len(published) == 8
        p = []
        for (_, plan), (_, row) in zip(published.iterrows(), table.iterrows(), strict=True):
            data = values(bets, (plan["access"], plan["observe"]), experiment)
            d = (data[:, :, plan["state_a"]] - data[:, :, plan["state_b"]]).mean(1)
            expected = stats.ttest_1samp(d, 0)
            assert row["difference"] == pytest.approx(d.mean())
            assert row["t"] == pytest.approx(expected.statistic)
            assert row["df"] == 5
            assert row["p"] == pytest.approx(expected.pvalue)
            low, high = expected.confidence_interval()
            assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
            human_p = 2 * stats.t.sf(abs(plan["t_signed_a_minus_b"]), plan["df"])
            assert row["human_t"] == plan["t_signed_a_minus_b"]
            assert row["human_p_two_sided"] == pytest.approx(human_p)
            holds = plan["t_signed_a_minus_b"] > 0 and human_p < 0.05
            assert row["human_pattern"] == ("holds" if holds else "cancelled")
            sides = (
                stats.ttest_1samp(d, -10, alternative="greater").pvalue,
                stats.ttest_1samp(d, 10, alternative="less").pvalue,
            )
            assert row["p_equivalence"] == pytest.approx(max(sides))
            p.append(expected.pvalue)
        assert table["p_bh"].to_numpy() == pytest.approx(benjamini_hochberg(p))
        sign = np.where(table["difference"] > 0, "holds", "reversed")
        outcome = np.where(table["p_bh"] < 0.05, sign, "undecided")
        outcome = np.where(table["p_equivalence"] < 0.05, "equivalent", outcome)
        assert list(table["model_pattern"]) == list(outcome)
        decided = table[outcome != "undecided"]
        same = (decided["model_pattern"] == "holds") == (decided["human_pattern"] == "holds")
        assert decided["same_pattern"].astype(bool).tolist() == same.tolist()
        assert table[outcome == "undecided"]["same_pattern"].isna().all()


def test_a_figures_numbers_are_those_of_its_table(study1, folder):
    """The CSV beside the figure of bets: the models' points, and the listener's bars."""
    drawn = pd.read_csv(folder / "bets.csv")
    cells = study1["cells"]
    points = drawn[drawn.drawn_as.str.contains("point")]
    models = cells[cells.experiment.isin(["exp1", "exp2"])]
    assert sorted(points.bet) == pytest.approx(sorted(models.bet))
    bars = drawn[drawn.drawn_as == "col"]
    assert sorted(bars.bet) == pytest.approx(sorted(cells[cells.label == "rsa"].bet))


def test_knowledge_and_cancellation(study1, bets):
    said = {
        a: np.array(
            [
                knows_made(cell, story, d) == "yes"
                for cell in CELLS
                if cell[0] == a
                for story in STORIES
                for d in range(4)
            ]
        )
        for a in (1, 2, 3)
    }
    for a in (1, 2, 3):
        row = one(study1["knowledge"], experiment="exp1", access=a)
        assert row["p_knows"] == pytest.approx(said[a].mean())
        assert row["ci_low"] <= row["p_knows"] <= row["ci_high"]
        stories = np.tile(np.repeat(STORIES, 4), len(said[a]) // 24)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(share_interval(said[a], stories))
        row = one(study1["knowledge"], experiment="exp2", access=a)
        assert row["p_knows"] == pytest.approx(0.9 if a == 3 else 0.2)

    def index(keep):
        def side(cell, story):
            return np.mean([
                bets(cell, story, d)[2] - bets(cell, story, d)[3]
                for d in range(4)
                if keep(cell, story, d)
            ])  # fmt: skip

        return np.array([side((3, 2), story) - side((2, 2), story) for story in STORIES])

    def right(cell, story, draw):
        return (knows_made(cell, story, draw) == "yes") == (cell[0] == 3)

    where = {"experiment": "exp1", "word": "two"}
    every = one(study1["cancellation"], filter="all answers", **where)
    by_story = index(lambda *_: True)
    expected = stats.ttest_1samp(by_story, 0)
    limits = expected.confidence_interval()
    assert every["index"] == pytest.approx(by_story.mean())
    assert every["rsa"] == pytest.approx((98 - 2) - (38 - 62))
    assert (every["ci_low"], every["ci_high"]) == pytest.approx((limits.low, limits.high))
    assert (every["n_items"], every["outcome"]) == (6, "holds")
    for _, block in study1["cancellation"].groupby(["filter", "experiment"]):
        assert len(block) == 5
        assert list(block["p_bh"]) == pytest.approx(list(benjamini_hochberg(block["p"])))
        sign = np.where(block["index"] > 0, "holds", "reversed")
        outcome = np.where(block["p_bh"] < 0.05, sign, "undecided")
        assert list(block["outcome"]) == list(
            np.where(block["p_equivalence"] < 0.05, "equivalent", outcome)
        )
    kept = one(study1["cancellation"], filter="knowledge answered right", **where)
    assert kept["n_full"] == 22
    assert kept["index"] == pytest.approx(index(right).mean())


def test_agreement_and_quality(study1, bets):
    table = study1["agreement"].set_index("measure")["value"]
    pairs = [
        (np.mean([bets(c, s, d) for d in range(4)], axis=0), bets(c, s, None))
        for c in CELLS
        for s in STORIES
    ]
    same = np.mean([np.argmax(g) == np.argmax(e) for g, e in pairs])
    assert table["same favourite state (share of prompts)"] == pytest.approx(same)
    distance = np.mean([jsd(g, e) for g, e in pairs])
    assert table["JSD of bets (bits, mean over prompts)"] == pytest.approx(distance)
    total = np.mean([np.sum(bets(c, s, d)) for c in CELLS for s in STORIES for d in range(4)])
    assert table["sum of the four generated bets (mean, %)"] == pytest.approx(total)
    row = one(study1["quality"], experiment="exp2")
    assert row["trials"] == row["usable"] == 144
    assert row["replications"] == 2
    assert row["option_mass_min"] == pytest.approx(0.96)
    assert pd.isna(row["first_answer"]), "measurements are no answers"
    assert one(study1["quality"], experiment="exp1")["first_answer"] == "2025-03-01T10:00:00Z"


def drawn_bets(rng, sampled):
    """Rows whose bets were drawn from distributions as sampled, of `sampled` bets of 100."""
    steps = np.arange(0, 101, 10)
    rows = study1_rows(lambda *_: [25] * 4, lambda *_: "yes", draws=20)
    means = {}
    for row in rows:
        for state in range(4):
            p = sampled[(row["access"], row["observe"])][state]
            row |= {f"sampled_state{state}_prob_{s}": x for s, x in zip(steps, p, strict=True)}
            row[f"sampled_state{state}_mean"] = means[state] = float(p @ steps)
            row[f"probability_{state}"] = int(rng.choice(steps, p=p))
        row |= {
            "sampled_prob_knowledge_yes": 0.7,
            "Knowledge_A": rng.choice(["yes"] * 7 + ["no"] * 3),
        }
    return rows


def test_bets_are_compared_at_the_temperature_that_they_were_sampled_with(tmp_path):
    rng = np.random.default_rng(2)
    sampled = {cell: [rng.dirichlet([0.5] * 11) for _ in range(4)] for cell in CELLS}
    tables = analyse(
        tmp_path,
        1,
        drawn_bets(rng, sampled),
        bootstrap_draws=20,
        generation={"temperature": 0.7, "top_p": 1, "max_tokens": 9},
    )
    found = tables["agreement"].set_index("measure")
    assert list(found["temperature"]) == [0.7] * 6 + [1] * 2
    for measure in found.index[:4]:
        row = found.loc[measure]
        assert row["sampling_low"] <= row["value"] <= row["sampling_high"], measure
    distance = found.loc["JSD of bets (bits, mean over prompts)"]
    assert distance["value_low"] == pytest.approx(distance["value"])
    assert found.loc["sum of the four scored bets (mean, %)", "value"] == pytest.approx(100)


def test_constant_answers_are_noted_not_tested(tmp_path):
    def same(cell, story, draw):
        return [10, 20, 30, 40]

    rows = study1_rows(same, lambda *_: "yes", exps=("exp1",), stories=STORIES[:2])
    tables = analyse(tmp_path, 1, rows, figures="png")
    assert set(tables["contrasts"]["experiment"]) == {"exp1"}
    assert tables["contrasts"]["t"].isna().all()
    assert tables["contrasts"]["p"].isna().all()
    assert tables["contrasts"]["note"].str.contains("constant").all()
    first = one(tables["contrasts"], access=3, observe=2)
    assert first["difference"] == pytest.approx(-10)
    assert first["model_pattern"] == "reversed"
    assert tables["anova"]["note"].str.contains("constant data: every cell mean is 40").all()
    assert tables["anova"]["f"].isna().all()
    unanswered = tables["agreement"].iloc[:4]
    assert unanswered["note"].eq("experiment 2 has no usable answer").all()


def test_missing_column_names_file_and_column(tmp_path, bets):
    rows = study1_rows(bets, knows_made, draws=1)
    for row in rows:
        del row["prompt_id"]
    done = launch(tmp_path, 1, rows)
    assert done.returncode != 0
    assert f"{tmp_path / 'ready.csv'}: missing column(s): prompt_id" in done.stderr


def test_bets_out_of_range_do_not_count(tmp_path, bets):
    """Read, but not summing to 100 or not percentages: in the sums they are judged by, only."""
    rows = study1_rows(bets, knows_made)
    flags = {0: "exp1_out_of_range", 1: "exp1_unparsed;exp1_out_of_range", 2: "exp1_truncated"}
    for i, flag in flags.items():
        rows[i]["quality_flags"] = flag
    for i in (0, 1):
        rows[i] |= {"probability_0": 40, "probability_1": 40, "probability_2": 40}
        rows[i]["probability_3"] = 40
    rows[3]["probability_0"] = 140
    rows[4]["state0_mean"] = -3
    tables = analyse(tmp_path, 1, rows)
    quality = tables["quality"].set_index("experiment")
    assert quality["usable"].to_dict() == {"exp1": 144 - 3, "exp2": 144 - 1}
    cell = one(tables["cells"], model_key="m", experiment="exp1", access=1, observe=1, state=3)
    assert cell["n_answers"] == 24 - 3
    used = [row["probability_3"] for row in rows[2:24] if row is not rows[3]]
    stories = [np.mean(used[:1]), *(np.mean(used[i : i + 4]) for i in range(1, 21, 4))]
    assert cell["bet"] == pytest.approx(np.mean(stories)), "every story weighs the same"
    shares = one(
        tables["agreement"],
        measure="generated bets adding up to 100 within 1 (share of answers)",
    )
    assert shares["n"] == 144 - 1
    assert shares["value"] < 1


@pytest.mark.parametrize("exps", [("exp1",), ("exp1", "exp2")])
def test_bets_that_never_parse_leave_the_analysis_standing(tmp_path, bets, exps):
    rows = study1_rows(bets, knows_made, exps=exps, draws=1)
    for row in rows:
        row |= {f"probability_{state}": None for state in range(4)} | {"Knowledge_A": None}
    tables = analyse(tmp_path, 1, rows, figures="png")
    assert one(tables["quality"], experiment="exp1")["usable"] == 0
    assert set(tables["contrasts"]["experiment"]) == set(exps) - {"exp1"}


def test_marking_a_model_changes_no_number(tmp_path, bets):
    plain, marked = (
        analyse(tmp_path / name, 1, study1_rows(bets, knows_made), origins=origins)
        for name, origins in (("plain", {}), ("marked", {"m": "made of something else"}))
    )
    for name in TABLES[1]:
        own = marked[name]
        if "label" in own and len(own):  # no row without a second wording
            assert set(own[own["model_key"] == "m"]["label"]) == {"m \u2020"}
            own["label"] = own["label"].str.removesuffix(" \u2020")
        pd.testing.assert_frame_equal(plain[name], own)
