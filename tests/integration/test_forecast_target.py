"""What a user sees of a run before it runs."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from workflow_project import Project

from grace import steps
from grace.errors import GraceError


def test_the_target_and_the_dry_run_say_what_would_be_asked(tmp_path):
    project = Project.copied_to(tmp_path / "project", whole=True)
    settings = ("--config", "models=[pico, gemma-2b]", "limit=24", "replications=2")
    shown = project.run("forecast", *settings)
    asked, taken = shown.split("Hours and storage")
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in asked.splitlines() if line}
    assert rows["pico", "study1_exp1"][:4] == ["24", "24", "24", "0"]
    assert rows["pico", "study2_exp1"][-2:] == ["24", "6,144"]
    one_by_one, without_repeats, in_forests = (
        int(cell.replace(",", "")) for cell in rows["pico", "study1_exp2"][4:7]
    )
    assert one_by_one >= without_repeats > 5 * in_forests > 0
    assert rows["gemma-2b", "study1_exp2"][4:7] == ["?", "?", "?"]
    log = (project.folder / "results/logs/forecast.log").read_text()
    assert log.startswith("model ")
    # Hours of both, on a GPU and on this machine's cores, and how sure that is.
    assert "gemma-2b  1 x a100 " in taken
    assert " GPU-hours of a budget of 250" in taken
    assert "Not calibrated: arithmetic alone" in log
    assert not list((project.folder / "results").rglob("*.json"))

    # With a recipe's checkpoint, what stands before its plan is counted, too.
    trained = [one.replace("gemma-2b]", "gemma-2b, bootstrap.dpo-2]") for one in settings]
    preview = project.run("-n", *trained)
    assert preview.count("Forecast") == 1
    assert (
        "study1_exp2: 6 runs of 149 distributions, for 216 queries and 5 null contexts" in preview
    )
    assert "bootstrap, answers: 1 run of 20,000 answers of at most 256 tokens" in preview
    assert "bootstrap, dpo: 1 run of at most 15,000 pairs, once" in preview
    assert re.search(r"\n  gemma-2b: 2 replications in \S+ hours on 1 x a100, ", preview)
    assert "\n  In all " in preview
    # Not where nobody wants to read it, nor where no job asks a model.
    hooks = (project.folder / "workflow/rules/hooks.smk").read_text(encoding="utf-8")
    told = hooks[hooks.index("def recipe_jobs") :]
    for quiet, rule in ((True, "score"), (False, "reference")):
        assert said_of(told, quiet, rule) == []


def said_of(code: str, quiet: bool, rule: str) -> list[str]:
    """What the end of a dry-run of one job says."""
    said: list[str] = []
    dag = SimpleNamespace(needrun_jobs=lambda exclude_finished: [rule])
    known: dict[str, Any] = {
        "workflow": SimpleNamespace(
            is_main_process=True, dryrun=True, output_settings=SimpleNamespace(quiet=quiet), dag=dag
        ),
        "stop_without_extraction_key": lambda jobs: None,
        "on_cluster": lambda: False,
        "step_of": steps.of_rule,
        "WorkflowError": GraceError,
        "print": lambda *words, file: said.extend(words),
    }
    exec(code, known)
    known["tell_forecast"]()
    return said
