"""Every prompt is rendered when the workflow is read, and what none may ask is told by row."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundled_studies import STUDIES

from grace.errors import ConfigError
from grace.prompts.checks import check_prompts
from grace.prompts.variants import PromptSet
from grace.studies.stimuli import read_trials

ROOT = Path(__file__).parents[2]
STUDY2 = STUDIES["study2"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A folder of variants, with a copy of `seed`."""
    folder = tmp_path / "prompts"
    shutil.copytree(ROOT / "config/prompts/seed", folder / "seed")
    return folder


@pytest.fixture
def stimuli(tmp_path: Path) -> Path:
    """Three trials and an empty row after the first."""
    rows = (ROOT / "resources/stimuli/study2.csv").read_text(encoding="utf-8").split("\n")[:4]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([*rows[:2], "", *rows[2:]]) + "\n", encoding="utf-8")
    return path


def check(stimuli: Path, prompts: Path, *variants: str, experiments: tuple[str, ...]) -> None:
    trials = read_trials(stimuli, STUDY2)
    sets = {variant: PromptSet(prompts / variant) for variant in variants}
    check_prompts(stimuli, STUDY2, experiments, trials, sets)


def test_a_template_that_fails_for_one_trial_is_reported_with_its_row(
    prompts: Path, stimuli: Path
) -> None:
    third = read_trials(stimuli, STUDY2)[2].row()["SP_Name"]
    template = prompts / "seed/study2_exp1.j2"
    for faulty, problem in (("{{ 1 / 0 }}", "divides by zero"), ("", "gives an empty message")):
        template.write_text(f"{{% if speaker == '{third}' %}}{faulty}{{% else %}}fine{{% endif %}}")
        with pytest.raises(ConfigError, match=rf"{problem}.*\(for .*mine\.csv, row 5\)"):
            check(stimuli, prompts, "seed", experiments=("exp1",))


def test_variants_that_ask_the_same_are_refused(prompts: Path, stimuli: Path) -> None:
    shutil.copytree(prompts / "seed", prompts / "copy")
    (prompts / "link").symlink_to("seed")
    other = shutil.copytree(prompts / "seed", prompts / "other")
    question = (other / "_study2_question.j2").read_text(encoding="utf-8")
    (other / "_study2_question.j2").write_text(f"{{# otherwise made #}}{question}\n\n")
    for twin in ("copy", "link", "other"):
        with pytest.raises(ConfigError, match=f"seed and {twin}, whose prompts for study2_exp1"):
            check(stimuli, prompts, "seed", twin, experiments=("exp1", "exp2"))


def test_variants_that_differ_in_what_is_run_are_two(prompts: Path, stimuli: Path) -> None:
    other = shutil.copytree(prompts / "seed", prompts / "other")
    (other / "study2_exp2.j2").write_text("{{ goal }}? {{ hearts }}")
    check(stimuli, prompts, "seed", "other", experiments=("exp2",))
    with pytest.raises(ConfigError, match="study2_exp1 are the same"):
        check(stimuli, prompts, "seed", "other", experiments=("exp1", "exp2"))


def test_two_questions_of_a_trial_in_the_same_words_are_refused(prompts: Path) -> None:
    template = prompts / "seed/study1_exp2_state.j2"
    text = template.read_text(encoding="utf-8")
    assert "{{ state }}" in text
    template.write_text(text.replace("{{ state }}", "2"), encoding="utf-8")
    study, stimuli = STUDIES["study1"], ROOT / "resources/stimuli/study1.csv"
    trials, seed = read_trials(stimuli, study, 1), {"seed": PromptSet(prompts / "seed")}
    with pytest.raises(ConfigError, match=r"two questions of study1_exp2 are the same .*row 2\)"):
        check_prompts(stimuli, study, ["exp2"], trials, seed)
