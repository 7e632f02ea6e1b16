"""Every script: a function that imports without Snakemake, which appears below `__main__` alone."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from grace.pico.settings import Settings

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
#: Typed by hand, and tested in the files named.
BY_HAND = {
    "bench_cluster": "integration/test_benchmarks.py",
    "bench_journal": "integration/test_benchmarks.py",
    "bench_limits": "integration/test_workflow.py",
    "compare_results": "unit/test_scripts.py",
    "bench_overhead": "integration/test_benchmarks.py",
    "make_stimuli": "unit/test_stimuli_bundled.py",
    "sbom": "integration/test_sbom.py",
}


def test_every_script_is_a_rules_or_is_typed_by_hand_and_tested():
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    named = set(re.findall(r"scripts/(\w+)\.py", rules))
    assert named | set(BY_HAND) == {path.stem for path in SCRIPTS}
    for name, file in BY_HAND.items():
        assert name in (ROOT / "tests" / file).read_text()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_a_module_that_knows_of_snakemake_below_main_alone(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    main = [node for node in tree.body if isinstance(node, ast.If)]
    allowed = {id(node) for one in main for node in ast.walk(one)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    assert [one.lineno for one in names if one.id == "snakemake" and id(one) not in allowed] == []
    if path.stem != "sbom":  # its library is in .venv-sbom
        importlib.import_module(path.stem)


def test_pico_is_trained_with_the_settings_given(monkeypatch, tmp_path):
    script = importlib.import_module("train_pico")
    given = []
    monkeypatch.setattr(script, "build", lambda *arguments: given.append(arguments))
    prompts = ROOT / "config" / "prompts" / "seed"
    script.train_pico(prompts, tmp_path, Settings(seed=7).as_dict())
    ((_, folder, settings),) = given
    assert (folder, settings) == (tmp_path, Settings(seed=7))


def test_two_results_folders_are_compared_file_by_file(tmp_path, capsys):
    compare = importlib.import_module("compare_results")

    def results(name: str, **files: str) -> str:
        (tmp_path / name / "logs").mkdir(parents=True)
        (tmp_path / name / "logs/run.log").write_text(name)
        whole = {
            "plan_json": '{"seeds": {"base_seed": 1}, "created": "%s"}' % name,
            "a_csv": "run_timestamp,answer\r\n%s,yes\r\n" % name,
            "s_anova_csv": "p\n0.1234567\n",
            "report_html": f"at 2026-01-0{len(name)}T10:00, commit {len(name) * 'abcdef12'}\n0.5",
            "figure_png": "dots",
            **files,
        }
        for file, text in whole.items():
            stem, _, ending = file.rpartition("_")
            (tmp_path / name / f"{stem}.{ending}").write_text(text, newline="")
        return str(tmp_path / name)

    old = results("old")
    # Another time and commit, and a fit that ended a hair elsewhere.
    assert compare.main([old, results("same", s_anova_csv="p\n0.1234568\n")]) == 0
    assert "5 results are the same" in capsys.readouterr().out
    other = results(
        "other", plan_json='{"seeds": {}}', a_csv="run_timestamp,answer\r\nx,no\r\n",
        s_anova_csv="p\n0.13\n", report_html="at 2026, commit 1\n0.6", figure_png="lines",
        new_csv="x\n1\n",
    )  # fmt: skip
    assert compare.main([old, other]) == 1
    told = capsys.readouterr().out
    for line in (
        "new.csv: only in", "a.csv: row 2, answer: 'yes' and 'no'", "figure.png: other bytes",
        "s_anova.csv: row 2, p: '0.1234567' and '0.13'", "plan.json: seeds", "report.html: line 2",
    ):  # fmt: skip
        assert line in told
    compare.main([old, other, "--moved", "plan.json:seeds"])
    assert "plan.json" not in capsys.readouterr().out
    assert compare.main([old, str(tmp_path / "none")]) == 1
