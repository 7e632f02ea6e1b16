"""Study 2's analysis on made data whose answers are computed here anew, with numpy and scipy."""

import math
import re

import numpy as np
import pytest
from bundled_analyses import (
    GOALS,
    UTTERANCES,
    analyse,
    human_counts,
    made_choices,
    polite_rsa,
    study2_rows,
)
from r_analysis import benjamini_hochberg, jsd, one, rscript, share_interval
from scipy import stats


@pytest.fixture(scope="module")
def choices():
    return made_choices()


@pytest.fixture(scope="module")
def study2(tmp_path_factory, choices):
    folder = tmp_path_factory.mktemp("study2")
    return analyse(folder, 2, study2_rows(*choices), figures="whole")


def counts(generated, goal, state):
    said = [x for x in generated[goal, state] if x is not None]
    return np.bincount(said, minlength=8), len(said)


def said(generated, goal, state, options):
    """Whether each answer is one of these, and the answers' domains."""
    known = [(x in options, i % 12) for i, x in enumerate(generated[goal, state]) if x is not None]
    hits, domains = zip(*known, strict=True)
    return np.array(hits, float), np.array(domains)


def by_domain(hits, domains):
    return np.mean([hits[domains == domain].mean() for domain in set(domains)])


def test_proportions_are_those_of_domains(study2, choices):
    generated, scored = choices
    zeros = 0
    for goal in GOALS:
        for state in range(4):
            n, total = counts(generated, goal, state)
            for i, (frame, adjective) in enumerate(UTTERANCES):
                where = {"goal": goal, "state": state, "frame": frame, "assessment": adjective}
                row = one(study2["cells"], model_key="m", experiment="exp1", **where)
                assert (row["n"], row["total"], row["n_items"]) == (n[i], total, 12)
                hits, domains = said(generated, goal, state, [i])
                assert row["proportion"] == pytest.approx(by_domain(hits, domains))
                assert (row["ci_low"], row["ci_high"]) == pytest.approx(
                    share_interval(hits, domains)
                )
                assert row["chance"] == 0.125
                zeros += n[i] == 0 and row["ci_low"] == 0
                row = one(study2["cells"], model_key="m", experiment="exp2", **where)
                assert row["proportion"] == pytest.approx(scored[goal, state][i])
    assert zeros == sum((counts(generated, g, s)[0] == 0).sum() for g in GOALS for s in range(4))


def test_negation_rates_of_model_and_people(study2, choices):
    human = human_counts()
    for goal in GOALS:
        for state in range(4):
            n, total = counts(choices[0], goal, state)
            row = one(study2["negation"], model_key="m", experiment="exp1", goal=goal, state=state)
            hits, domains = said(choices[0], goal, state, [4, 5, 6, 7])
            assert (row["n"], row["total"]) == (n[4:].sum(), total)
            assert row["negation"] == pytest.approx(by_domain(hits, domains))
            assert (row["ci_low"], row["ci_high"]) == pytest.approx(share_interval(hits, domains))
            row = one(study2["negation"], model_key="human", goal=goal, state=state)
            expected = sum(human[goal, state, f, a][0] for f, a in UTTERANCES[4:])
            assert row["n"] == expected
            assert row["total"] == 203


def test_shares_are_tested_by_domain_and_agree_with_their_intervals(study2, choices):
    generated = choices[0]
    plans = [("primary", 0, [4], 1 / 8), ("wasn't amazing", 0, [7], 1 / 8)]
    plans.append(("was or wasn't", 1, [3, 7], 1 / 4))
    table = study2["tests"]
    p = []
    for text, state, options, null in plans:
        n, total = counts(generated, "both", state)
        hits = int(n[options].sum())
        mine = table[(table["model_key"] == "m") & table["test"].str.contains(text, regex=False)]
        row = one(mine, experiment="exp1")
        p.append(row["p"])
        assert (row["n"], row["total"], row["null"]) == (hits, total, null)
        assert (row["p"] < 0.05) == (not row["ci_low"] <= null <= row["ci_high"])
        scored = one(mine, experiment="exp2")
        assert math.isnan(scored["p"])
        assert "the same for every domain" in scored["note"]
        assert scored["proportion"] == pytest.approx(choices[1]["both", state][options].sum())
    mine = table[(table["model_key"] == "m") & (table["experiment"] == "exp1")]
    assert mine["p_bh"].to_numpy() == pytest.approx(benjamini_hochberg(p))
    people = table[(table["model_key"] == "human") & table["test"].str.contains("primary")]
    assert (people["n"].item(), people["total"].item()) == (73, 203)


def test_human_comparison(study2, choices):
    human = {k: n / total for k, (n, total) in human_counts().items()}
    cells = [(goal, state) for goal in GOALS for state in range(4)]
    people = {c: np.array([human[(*c, *u)] for u in UTTERANCES]) for c in cells}
    generated = {
        c: np.array([by_domain(*said(choices[0], *c, [i])) for i in range(8)]) for c in cells
    }
    fitted = {c: np.array([polite_rsa()[(*c, *u)] for u in UTTERANCES]) for c in cells}
    for key, experiment, mine in (
        ("m", "exp1", generated),
        ("m", "exp2", choices[1]),
        ("polite_rsa", "reference", fitted),
    ):
        row = one(study2["human_comparison"], model_key=key, experiment=experiment)
        x = np.concatenate([mine[c] for c in cells])
        y = np.concatenate([people[c] for c in cells])
        assert row["n_cells"] == 96
        assert row["r"] == pytest.approx(np.corrcoef(x, y)[0, 1])
        assert row["rmse"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
        assert row["jsd_bits"] == pytest.approx(np.mean([jsd(mine[c], people[c]) for c in cells]))
        for goal in GOALS:
            rate = [mine[goal, s][4:].sum() for s in range(4)]
            expected = (rate[0] + rate[1] - rate[2] - rate[3]) / 2
            assert row[f"indirectness_{goal}"] == pytest.approx(expected)
    row = one(study2["human_comparison"], model_key="polite_rsa")
    assert row["r"] ** 2 == pytest.approx(0.970, abs=0.001)
    assert row["rmse"] == pytest.approx(0.038, abs=0.001)
    assert row["jsd_bits"] == pytest.approx(0.021, abs=0.001)
    row = one(study2["human_comparison"], model_key="human")
    published = [row[f"indirectness_{goal}"] for goal in ("both", "informative", "social")]
    assert published == pytest.approx([0.70, 0.36, 0.43], abs=0.006)


def participants_of(seed=1, people=203):
    """What each of the people said, one answer a cell; who said what is not published."""
    rng = np.random.default_rng(seed)
    rows = []
    for goal in GOALS:
        for state in range(4):
            said = [
                each for each in UTTERANCES for _ in range(human_counts()[goal, state, *each][0])
            ]
            for person, place in enumerate(rng.permutation(len(said))[:people]):
                frame, assessment = said[place]
                rows.append(
                    {"source": "human", "participant": f"p{person}", "goal": goal, "state": state,
                     "frame": frame, "assessment": assessment, "n": 1, "total": 1,
                     "probability": 1}
                )  # fmt: skip
    return rows


def test_people_by_participant_have_a_ceiling_and_models_a_noise_band(tmp_path):
    cells = [(goal, state) for goal in GOALS for state in range(4)]
    exact = {c: np.array([human_counts()[(*c, *u)][0] for u in UTTERANCES]) / 203 for c in cells}
    rng = np.random.default_rng(3)
    # Another 203 people of the same kind, and answers as theirs.
    others = {c: rng.multinomial(203, exact[c]) / 203 for c in cells}
    drawn = {c: [int(x) for x in rng.choice(8, 240, p=others[c])] for c in cells}
    found = analyse(tmp_path, 2, study2_rows(drawn, exact), participants=participants_of())
    comparison = found["human_comparison"]
    halves = one(comparison, model_key="human: half against half")
    assert halves["r"] == pytest.approx(0.9877, abs=0.002)
    assert halves["rmse"] == pytest.approx(0.0345, abs=0.001)
    assert halves["jsd_bits"] == pytest.approx(0.0231, abs=0.001)
    assert "203 participants" in halves["note"]
    spearman_brown = re.search(r"r would be (0\.\d{4}) \(Spearman-Brown\)", halves["note"])
    assert float(spearman_brown[1]) == pytest.approx(2 * halves["r"] / (1 + halves["r"]), abs=1e-4)
    # A model that chooses as such people do lies in the band, a copy of these people below it.
    sampled, copied = (one(comparison, model_key="m", experiment=e) for e in ("exp1", "exp2"))
    for name, column in (("jsd", "jsd_bits"), ("rmse", "rmse"), ("r", "r")):
        assert sampled[f"{name}_noise_low"] <= sampled[column] <= sampled[f"{name}_noise_high"]
    assert copied["rmse"] == pytest.approx(0, abs=1e-12)
    target = np.concatenate([exact[c] for c in cells])
    again = np.hstack([rng.multinomial(203, exact[c], 2000) for c in cells]) / 203
    errors = np.sqrt(np.mean((again - target) ** 2, axis=1))
    limits = np.quantile(errors, [0.025, 0.975])
    assert [copied["rmse_noise_low"], copied["rmse_noise_high"]] == pytest.approx(limits, rel=0.05)
    # Each answered each cell once, so that answers are as independent as people.
    row = one(found["cells"], label="human", experiment="reference", goal="both", state=0,
              frame="wasn't", assessment="terrible")  # fmt: skip
    q, p, size = stats.t.ppf(0.975, 202), 73 / 203, 202
    half = q * math.sqrt(p * (1 - p) / size + q**2 / (4 * size**2)) / (1 + q**2 / size)
    middle = (p + q**2 / (2 * size)) / (1 + q**2 / size)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((middle - half, middle + half))
    people = one(comparison, model_key="human")
    assert (
        people["indirectness_both_low"]
        < people["indirectness_both"]
        < people["indirectness_both_high"]
    )
    assert math.isnan(people["rmse"])


def test_mixed_model_recovers_the_log_odds_of_each_state(study2):
    table = study2["glmer"]
    for state in (1, 2, 3):
        step = one(table, kind="coefficient", term=f"state{state}")
        assert step["estimate"] == pytest.approx(-1.0 * state, abs=4 * step["se"])
        assert step["se"] < 0.3
        assert step["n"] == 12 * 240 - 1
    assert set(table["formula"]) == {
        "negation ~ state * goal + (1 | item) + (1 | item:state) + (1 | item:goal)"
    }
    assert set(table["kind"]) == {"coefficient", "random effect (sd)"}
    assert "p" not in table, "a test of 12 items stands in the analysis of variance"
    assert table[table["singular"]]["note"].str.contains("singular fit: no variance left").all()


def test_negation_is_tested_by_domain_in_both_experiments(study2, choices):
    table = study2["anova"]
    state = one(table, experiment="exp1", term="state")
    assert state["p"] < 1e-10
    assert state["df_num"] == pytest.approx(3 * state["epsilon"])
    assert state["df_den"] == pytest.approx(33 * state["epsilon"])
    assert (state["n_items"], state["n_answers"]) == (12, 12 * 240 - 1)
    assert one(table, experiment="exp1", term="goal")["p"] > 0.001
    # The made probabilities depend on the cell alone.
    scored = table[table["experiment"] == "exp2"]
    assert scored["p"].isna().all()
    assert scored["note"].str.contains("no variation between items").all()


AT_SEVEN = {"temperature": 0.7, "top_p": 1, "max_tokens": 9}


def tempered_rows(choices, bound=0.0):
    """Answers drawn from `choices`, which was measured as something flatter."""
    generated, sampled = choices
    flatter = {cell: np.sqrt(p) / np.sqrt(p).sum() for cell, p in sampled.items()}
    rows = study2_rows(generated, flatter)
    for row in rows:
        p = sampled[row["Goal_simplified"], row["State_number"]]
        for (frame, adjective), x in zip(UTTERANCES, p, strict=True):
            row[f"sampled_prob_{frame.replace(chr(39), '')}_{adjective}"] = x
        row["sampled_bound"] = bound
    return rows


def test_utterances_are_compared_at_the_temperature_that_they_were_sampled_with(tmp_path, choices):
    generated, sampled = choices
    tables = analyse(tmp_path, 2, tempered_rows(choices), bootstrap_draws=20, generation=AT_SEVEN)
    found = tables["agreement"]
    assert list(found["temperature"]) == [0.7] * 4
    distance, favourite, hits, chance = (found.iloc[i] for i in range(4))
    shares = {
        cell: np.bincount([x for x in said if x is not None], minlength=8)
        for cell, said in generated.items()
    }
    expected = np.mean([jsd(shares[cell], sampled[cell]) for cell in sampled])
    assert distance["value"] == pytest.approx(expected)
    # Of 240 draws of one of eight: 7 / (8 n ln 2).
    assert distance["sampling_mean"] == pytest.approx(7 / (8 * 240 * math.log(2)), rel=0.1)
    for row in (distance, favourite, hits, chance):
        assert row["sampling_low"] <= row["value"] <= row["sampling_high"], row["measure"]
        assert row["value_low"] == pytest.approx(row["value"])
        assert row["value_high"] == pytest.approx(row["value"])
    assert hits["sampling_mean"] == pytest.approx(
        np.mean([max(p) for p in sampled.values()]), abs=0.01
    )
    assert chance["sampling_mean"] == pytest.approx(
        np.mean([p @ p for p in sampled.values()]), abs=0.01
    )
    cells = tables["cells"].query("experiment == 'exp2'")
    assert cells["proportion"].max() < max(map(max, sampled.values())), "measured at temperature 1"


def test_what_the_residual_leaves_open_holds_every_distribution_that_it_allows(tmp_path, choices):
    bound = 0.02
    tables = analyse(
        tmp_path, 2, tempered_rows(choices, bound), bootstrap_draws=20, generation=AT_SEVEN
    )
    generated, sampled = choices
    found = tables["agreement"]
    assert (found["value_low"] < found["value"]).iloc[0]
    rng = np.random.default_rng(4)
    for _ in range(20):
        said, other = [], []
        for cell, p in sampled.items():
            move = rng.dirichlet([0.2] * 8) - rng.dirichlet([0.2] * 8)
            q = np.clip(p + move * bound / np.abs(move).sum(), 0, None)
            other.append(q / q.sum())
            assert np.abs(other[-1] - p).sum() / 2 <= bound
            said.append([x for x in generated[cell] if x is not None])
        counts = [np.bincount(xs, minlength=8) for xs in said]
        true = [
            np.mean([jsd(n, q) for n, q in zip(counts, other, strict=True)]),
            np.mean([np.argmax(n) == np.argmax(q) for n, q in zip(counts, other, strict=True)]),
            sum((np.array(x) == np.argmax(q)).sum() for x, q in zip(said, other, strict=True))
            / sum(map(len, said)),
            sum(q[x].sum() for x, q in zip(said, other, strict=True)) / sum(map(len, said)),
        ]
        assert (found["value_low"].to_numpy() <= np.array(true) + 1e-12).all()
        assert (found["value_high"].to_numpy() >= np.array(true) - 1e-12).all()


def test_few_rows_of_one_experiment(tmp_path, choices):
    few = {("both", 0): [4, 4, 4]}
    tables = analyse(tmp_path, 2, study2_rows(few, choices[1], exps=("exp2",)), figures="png")
    assert set(tables["glmer"]["note"]) == {"experiment 1 was not run or has no usable answer"}
    row = one(tables["human_comparison"], model_key="m")
    assert row["n_cells"] == 8
    assert row["note"].startswith("only 8 of the 96 cells have answers; the same for every domain")
    assert math.isnan(row["indirectness_both"])


def test_constant_answers_have_no_mixed_model(tmp_path, choices):
    same = {(goal, state): [2] * 6 for goal in GOALS for state in range(4)}
    tables = analyse(tmp_path, 2, study2_rows(same, choices[1], exps=("exp1",)), figures="png")
    row = tables["glmer"].iloc[0]
    assert row["note"] == "constant data: none of the 72 answers is negated, so no model exists"
    rate = tables["negation"].query("model_key == 'm'")
    assert (rate["negation"] == 0).all()
    assert (rate["ci_low"] == 0).all()


@pytest.mark.parametrize("exps", [("exp1",), ("exp1", "exp2")])
def test_choices_that_never_parse_leave_the_analysis_standing(tmp_path, choices, exps):
    nothing = {(goal, state): [None] * 3 for goal in GOALS for state in range(4)}
    tables = analyse(tmp_path, 2, study2_rows(nothing, choices[1], exps), figures="png")
    assert one(tables["quality"], experiment="exp1")["usable"] == 0
    shown = tables["human_comparison"]
    assert set(shown["experiment"]) - {"reference"} == set(exps) - {"exp1"}
    assert set(shown["model_key"]) >= {"human", "polite_rsa"}


def test_indirectness_lies_within_its_interval_where_domains_lack_a_state():
    """Eight of twelve domains always negate and lack 0 hearts: the other four alone count."""
    code = """
    for (name in c("common", "statistics", "inference")) {
      source(sprintf("scripts/lib/%s.R", name))
    }
    source("studies/study2/analysis.R")
    observed <- lapply(seq_len(nrow(goal_states)), function(i) {
      tilt <- (0:3 - 1.5) * (goal_states$state[i] < 2)
      rate <- c(rep(1, 8), c(0.7, 0.6, 0.2, 0.1)[goal_states$state[i] + 1] + tilt / 100)
      if (goal_states$state[i] == 0) rate[1:8] <- NA
      means <- matrix(cbind(1 - rate, 0, 0, 0, rate, 0, 0, 0), 12)
      list(mean = colMeans(means, na.rm = TRUE), means = means)
    })
    found <- indirectness_by_domain(observed, 12)
    cat(unlist(found$numbers[1:3]), found$note, sep = ";")
    """
    done = rscript(code)
    assert done.returncode == 0, done.stderr
    estimate, low, high, note = done.stdout.split(";", 3)
    assert float(estimate) == pytest.approx(0.5)
    assert float(low) < 0.5 < float(high)
    assert "goal informative, without domains that lack a state: 8" in note
