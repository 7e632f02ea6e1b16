"""Every script: a function that imports without Snakemake, which appears below `__main__` alone."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from grace.pico.settings import Settings
from tools import compare_results

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
NO_RULES = sorted((ROOT / "scripts").glob("*/*.py"))
#: What of it is a command, the tests that run it, and how.
COMMANDS = {
    "bench/__main__.py": ("unit/test_bench.py", "command.main("),
    "bench/browsing.py": ("long/test_trial_browser_page.py", "browsing.main("),
    "bench/cluster.py": ("long/test_benchmarks.py", '"bench.cluster"'),
    "bench/forecast.py": ("unit/test_bench.py", "forecast.main()"),
    "bench/journal.py": ("long/test_benchmarks.py", '"bench.journal"'),
    "bench/limits.py": ("integration/test_workflow.py", '"bench.limits"'),
    "bench/overhead.py": ("long/test_benchmarks.py", "overhead.main()"),
    "bench/rereading.py": ("unit/test_bench.py", "rereading.main()"),
    "bench/vllm_benchmark.py": ("long/test_bench_systems.py", '"vllm-bench"'),
    "tools/compare_results.py": ("unit/test_scripts.py", "compare_results.main("),
    "tools/diagrams.py": ("long/test_docs_site_page.py", "scripts/setup/diagrams.sh"),
    "tools/gold_set.py": ("unit/test_gold_set.py", "gold_set.main("),
    "tools/make_stimuli.py": ("unit/test_stimuli_bundled.py", "make_stimuli.make_stimuli("),
    "tools/screenshots.py": ("long/test_docs_site_page.py", "screenshots.screenshots("),
    "tools/sbom.py": ("integration/test_sbom.py", '"sbom.py"'),
}


def test_every_script_is_a_rules():
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert set(re.findall(r"scripts/(\w+)\.py", rules)) == {path.stem for path in SCRIPTS}


def test_every_command_that_no_rule_calls_is_run_by_a_test():
    found = {
        path.relative_to(ROOT / "scripts").as_posix()
        for path in NO_RULES
        if "\nif __name__ == " in path.read_text(encoding="utf-8")
    }
    assert found == COMMANDS.keys()
    for file, how in COMMANDS.values():
        assert how in (ROOT / "tests" / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_a_module_that_knows_of_snakemake_below_main_alone(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    main = [node for node in tree.body if isinstance(node, ast.If)]
    allowed = {id(node) for one in main for node in ast.walk(one)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    assert [one.lineno for one in names if one.id == "snakemake" and id(one) not in allowed] == []
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
    def results(name: str, **files: str) -> str:
        (tmp_path / name / "logs").mkdir(parents=True)
        (tmp_path / name / "logs/run.log").write_text(name)
        whole = {
            "plan_json": f'{{"seeds": {{"base_seed": 1}}, "created": "{name}"}}',
            "a_csv": f"run_timestamp,answer\r\n{name},yes\r\n",
            "s_glmer_csv": "p\n0.1234567\n",
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
    assert compare_results.main([old, results("same", s_glmer_csv="p\n0.1234568\n")]) == 0
    assert "5 results are the same" in capsys.readouterr().out
    other = results(
        "other", plan_json='{"seeds": {}}', a_csv="run_timestamp,answer\r\nx,no\r\n",
        s_glmer_csv="p\n0.13\n", report_html="at 2026, commit 1\n0.6", figure_png="lines",
        new_csv="x\n1\n",
    )  # fmt: skip
    assert compare_results.main([old, other]) == 1
    told = capsys.readouterr().out
    for line in (
        "new.csv: only in", "a.csv: row 2, answer: 'yes' and 'no'", "figure.png: other bytes",
        "s_glmer.csv: row 2, p: '0.1234567' and '0.13'", "plan.json: seeds", "report.html: line 2",
    ):  # fmt: skip
        assert line in told
    compare_results.main([old, other, "--moved", "plan.json:seeds"])
    assert "plan.json" not in capsys.readouterr().out
    assert compare_results.main([old, str(tmp_path / "none")]) == 1
    answers = "answer,response_timestamp\n{},2026-01-01T10:00:0{}\n".format
    one, later = (results(f"at-{n}", b_csv=answers("yes", n)) for n in (1, 2))
    assert compare_results.main([one, later]) == 1
    assert compare_results.main([one, later, "--asked-anew"]) == 0
    changed = results("at-3", b_csv=answers("no", 3))
    assert compare_results.main([one, changed, "--asked-anew"]) == 1
