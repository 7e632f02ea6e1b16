"""Every prompt is rendered before the first request, and what none may ask is told by row."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import transformers

from grace import inference
from grace.chat import ChatTokenizer
from grace.config import ModelEntry
from grace.errors import ConfigError, StimuliError
from grace.experiments import Asked, Run, asked
from grace.project import Project
from grace.prompt_checks import check_control_tokens, check_prompts
from grace.prompts import PromptSet
from grace.stimuli import read_trials
from grace.studies import STUDIES

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
    wordings = {variant: PromptSet(prompts / variant) for variant in variants}
    check_prompts(stimuli, STUDY2, experiments, trials, wordings)


def test_a_template_that_fails_for_one_trial_is_told_with_its_row(
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


def test_a_models_own_control_token_is_told_with_row_and_column(
    prompts: Path, stimuli: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(ROOT / "resources/models/pico")
    tokenizer.add_special_tokens({"additional_special_tokens": ["@@turn@@"]})
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    chat = ChatTokenizer("mine", ModelEntry(name=str(folder)), tmp_path)
    text = stimuli.read_text(encoding="utf-8")
    scenario = read_trials(stimuli, STUDY2)[1].row()["Scenario"].split(".")[0]

    def items() -> list[Asked]:
        run = Run("mine", "mine", STUDY2, "exp1", 0, 1000, shuffle=True)
        return asked(run, read_trials(stimuli, STUDY2), [PromptSet(prompts / "seed")])

    check_control_tokens(stimuli, STUDY2, "exp1", items(), chat)
    assert scenario in text
    stimuli.write_text(text.replace(scenario, f"@@turn@@ {scenario}"), encoding="utf-8")
    with pytest.raises(
        StimuliError, match=r"mine\.csv, row 4, Scenario: model 'mine': .*control token '@@turn@@'"
    ):
        check_control_tokens(stimuli, STUDY2, "exp1", items(), chat)
    stimuli.write_text(text, encoding="utf-8")
    template = prompts / "seed/study2_exp1.j2"
    template.write_text("Please @@{{ 'turn' }}@@. {{ goal }}")
    with pytest.raises(StimuliError, match="variant seed, study2_exp1: model 'mine'"):
        check_control_tokens(stimuli, STUDY2, "exp1", items(), chat)


def test_two_questions_of_a_trial_in_the_same_words_are_refused(prompts: Path) -> None:
    template = prompts / "seed/study1_exp2_state.j2"
    text = template.read_text(encoding="utf-8")
    assert "{{ state }}" in text
    template.write_text(text.replace("{{ state }}", "2"), encoding="utf-8")
    study, stimuli = STUDIES["study1"], ROOT / "resources/stimuli/study1.csv"
    trials, seed = read_trials(stimuli, study, 1), {"seed": PromptSet(prompts / "seed")}
    with pytest.raises(ConfigError, match=r"two questions of study1_exp2 are the same .*row 2\)"):
        check_prompts(stimuli, study, ["exp2"], trials, seed)


def test_a_job_refuses_control_tokens_before_its_journal_and_its_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("config", "resources"):
        shutil.copytree(ROOT / part, tmp_path / part)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "resources/models/pico")
    tokenizer.add_special_tokens({"additional_special_tokens": ["quillberry"]})
    tokenizer.save_pretrained(tmp_path / "resources/models/pico", save_jinja_files=False)
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path, {"studies": ["study1"]}, {})
    project.check()  # no tokeniser is at hand yet
    config = project.config
    settings = {
        "entry": project.models["pico"].model_dump(),
        **{name: getattr(config, name).model_dump() for name in ("requests", "scoring", "serving")},
        **{"root": str(tmp_path), "journal_dir": str(tmp_path / "journal"), "threads": 1},
        **{"journal_timeout_s": 10, "log_dir": str(tmp_path)},
    }
    cell = project.experiment_cell("pico", 0, "study1", "exp2")
    stimuli = tmp_path / "resources/stimuli/study1.csv"
    records, facts = tmp_path / "records.json", tmp_path / "facts.json"
    with pytest.raises(StimuliError, match=r"study1\.csv, row \d+, story_setup: .*'quillberry'"):
        inference.infer(stimuli, cell, settings, "", records, facts)
    assert not any(path.exists() for path in (records, facts, tmp_path / "journal"))
