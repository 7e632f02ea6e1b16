"""The summary of many models: one table, one of conditions, and sentences that are folded."""

import re
from html import unescape

import numpy as np
import pandas as pd
import pytest
from bundled_analyses import GOALS, UTTERANCES, analyse, human_counts, study2_rows
from report_page import GENERATION, render

pytestmark = pytest.mark.long


def test_many_models_are_one_table_and_the_sentences_are_folded(tmp_path):
    """Of five models one chooses as people do; the others say "bad" to more and more of them."""
    people, rng = human_counts(), np.random.default_rng(3)
    shares = {
        (goal, state): np.array([people[goal, state, *said][0] for said in UTTERANCES])
        for goal in GOALS
        for state in range(4)
    }
    generated = {
        cell: [int(one) for one in rng.choice(8, 60, p=counts / counts.sum())]
        for cell, counts in shares.items()
    }
    scored = {cell: counts / counts.sum() for cell, counts in shares.items()}
    rows = []
    for i in range(5):
        for row in study2_rows(generated, scored):
            said = row["Assessment"] if row["Participant_ID"] % 5 >= i else "bad"
            name = f"model-{i}"
            rows.append(row | {"model_key": name, "model_name": name, "Assessment": said})
    analyse(tmp_path / "2", 2, rows, figures="whole", generation=GENERATION)
    text = render(tmp_path / "results", {2: tmp_path / "2"}).read_text(encoding="utf-8")
    summary = text[text.index("<main>") : text.index("What was run</h2>")]
    found = pd.read_csv(tmp_path / "2/human_comparison.csv").query("experiment == 'exp1'")
    found = found[found.label.str.startswith("model")].sort_values("jsd_corrected")
    said = " ".join(unescape(re.sub(r"<[^>]+>", " ", summary)).split())
    assert (
        f"Closest to people: {found.label.iloc[0]}, JSD {found.jsd_corrected.iloc[0]:.3f}" in said
    )
    overlap = set(found.label[1:][found.jsd_low[1:] <= found.jsd_high.iloc[0]])
    named = re.search(r"bits; the intervals of (.*?) overlap this one|no other model", said)
    assert set(re.findall(r"model-\d", named[1] or "")) == overlap
    within = found[found.jsd_bits <= found.jsd_noise_high]
    assert ("exactly as people do: no model." in said) == (len(within) == 0)
    assert summary.count("each model in words</summary>") == 1
    assert summary[: summary.index("<details>")].count("<li>") <= 4, "experiments, and data quality"
    (table,) = re.findall(r"<table id=\"table-1\".*?</table>", summary, re.S)
    assert table.count("<tr>") == 1 + 5 * 2
    (heat,) = re.findall(r"<table id=\"table-2\".*?</table>", summary, re.S)
    cells = re.findall(r'class="number heat(\d)"><a [^>]*>([\d.]+)( &#8800;)?</a>', heat)
    assert len(cells) == 12 * 10
    steps = [0.01, 0.03, 0.06, 0.12, 0.25, 0.5]
    for step, value, _ in cells:
        if min(abs(float(value) - one) for one in steps) > 0.0005:
            assert int(step) == sum(float(value) >= one for one in steps)
