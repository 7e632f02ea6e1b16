"""What of a run follows from its studies: seeds, jobs, pods, forecast; and who is left alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from declared import DECLARED, write_study

from grace.cluster.plan import pod_plan, policy_report
from grace.errors import ConfigError
from grace.forecast.request_table import rows
from grace.settings.outputs import Outputs
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ("exp1", "exp2")


def project(*studies: str | Path, **values) -> Project:
    values = {"limit": 2, "replications": 1, **values}
    return Project(ROOT, {"studies": [str(study) for study in studies], **values}, {})


@pytest.fixture
def toy(tmp_path) -> Path:
    return write_study(tmp_path / "toy")


def everything(of: Project, study: str) -> dict[str, object]:
    """What all outputs about a study depend on, but those about the whole run."""
    outputs = Outputs(of)
    return {
        "plan": outputs.plan("pico", 0),
        **{one: outputs.experiment("pico", 0, study, one) for one in EXPERIMENTS},
        **{f"{one} code": outputs.experiment_code("pico", study, one) for one in EXPERIMENTS},
        "tabulate": outputs.tabulate(study),
        "structure": outputs.structure(study),
        "probabilities": outputs.probabilities(study),
        "merge": outputs.merge(study),
        "reference": outputs.reference(study),
        "fit": outputs.fit(study),
        "analysis": outputs.analysis(study),
    }


def test_a_study_more_changes_nothing_that_another_depends_on(toy):
    assert everything(project("study1", toy), "study1") == everything(project("study1"), "study1")


def test_a_users_study_is_in_the_forecast_and_in_the_pods_of_a_run(toy):
    run = project("study1", toy)
    run.check()
    assert [row.label for row in rows(run)] == [
        f"{study}_{one}" for study in ("study1", "toy") for one in EXPERIMENTS
    ]
    alone = {pod.name: pod.runtime_min for pod in pod_plan.pods(project("study1"))}
    both = {pod.name: pod.runtime_min for pod in pod_plan.pods(run)}
    assert alone.keys() == both.keys()
    # Three tables of the toy; its `merge`, `reference`, `fit` and analysis.
    assert both["grace-tables-pico-0"] - alone["grace-tables-pico-0"] == 3 * 15
    assert both["grace-report-all"] - alone["grace-report-all"] == 4 * 30
    assert "report" in policy_report.text(run)


def test_an_experiment_that_a_study_lacks_is_asked_of_the_others_alone(tmp_path):
    scored = {key: value for key, value in DECLARED.items() if key != "generate"}
    run = project("study1", write_study(tmp_path / "scored", scored))
    run.check()
    assert run.asked == {"study1": EXPERIMENTS, "scored": ("exp2",)}
    assert "scored_exp1" not in run.prompt_digests
    with pytest.raises(ConfigError, match="study 'scored' has exp2 alone"):
        project(tmp_path / "scored", experiments=["exp1"])


def test_experiments_that_would_share_seeds_are_refused(tmp_path):
    own = write_study(tmp_path / "own", {**DECLARED, "seed_offset": {"exp1": 2500}})
    with pytest.raises(ConfigError, match=r"own's exp1 2500, and study1's exp2 has 2000"):
        project("study1", own)
    assert project(own).studies["own"].seed_offset("exp1") == 2500


def test_trials_of_a_study_that_is_not_there_are_refused_with_the_nearest_name(toy):
    with pytest.raises(ConfigError, match=r"names 'toi' .* Did you mean 'toy'\?"):
        project(toy, toi_csv="x.csv")
    # Those of a bundled study may stand in a config that does not ask for it.
    assert project(toy, study2_csv="x.csv").studies.keys() == {"toy"}


def test_a_study_whose_files_would_be_taken_for_anothers_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="reference_"):
        project("study1", write_study(tmp_path / "reference_study1"))


def test_no_shared_file_names_a_study():
    """But for what pico was trained on, the config's default, and scripts about a study."""
    own = re.compile(r"study ?[12]", re.IGNORECASE)
    allowed = {
        "workflow/lib/grace/settings/config.py": 2,  # the default; a docstring's example
        "workflow/lib/grace/journal/__main__.py": 1,  # an example
        "scripts/tools/make_stimuli.py": None,  # builds the two studies' bundled trials
    }
    named = {}
    for path in [*ROOT.glob("workflow/**/*"), *ROOT.glob("scripts/**/*")]:
        name = path.relative_to(ROOT).as_posix()
        if path.suffix not in {".py", ".R", ".Rmd", ".smk"} and path.name != "Snakefile":
            continue
        if "/pico" in name or "/bench" in name:
            continue
        code = "\n".join(
            line.split("#")[0] for line in path.read_text(encoding="utf-8").splitlines()
        )
        found = own.findall(re.sub(r'"""[\s\S]*?"""', "", code))
        if found:
            named[name] = len(found)
    assert {name: n for name, n in named.items() if allowed.get(name, 0) not in (None, n)} == {}
