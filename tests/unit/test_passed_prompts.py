"""A check of prompts that was passed is not made again, and any other is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bundled_studies import bundled_study

from grace import understood
from grace.errors import ConfigError
from grace.prompts import passed
from grace.prompts.variants import PromptSet

ROOT = Path(__file__).parents[2]
STUDY1, STUDY2 = map(bundled_study, ("study1", "study2"))


@pytest.fixture
def seed(tmp_path) -> Path:
    return Path(shutil.copytree(ROOT / "config/prompts/seed", tmp_path / "seed"))


class Checks:
    """How often the check was made."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.library, self.folder, self.made = library, folder, 0

    def __call__(
        self, study=STUDY2, experiments=("exp1", "exp2"), trials="of 10 rows", fails=False
    ) -> int:
        def check() -> None:
            self.made += 1
            if fails:
                raise ConfigError("a question is asked twice")

        before = self.made
        variants = {"seed": PromptSet(self.folder)}
        passed.once(study, experiments, trials, variants, check, self.library)
        return self.made - before


def test_what_was_passed_is_checked_once(tmp_path, seed):
    check = Checks(tmp_path, seed)
    assert [check(), check(), check()] == [1, 0, 0]


def test_whatever_the_check_depends_on_makes_another_one(tmp_path, seed):
    check = Checks(tmp_path, seed)
    assert check()
    assert check(trials="of 11 rows")
    assert check(experiments=("exp1",))
    assert check(study=STUDY1)
    template = seed / f"{STUDY2.templates['exp2'][0]}"
    text = template.read_text(encoding="utf-8")
    template.write_text(f"{text}\nPlease.", encoding="utf-8")
    assert check()
    (seed / "variant.yaml").write_text("system: Be short.\n", encoding="utf-8")
    assert check()
    (seed / "variant.yaml").unlink()
    template.write_text(text, encoding="utf-8")
    assert not check()


def test_a_check_that_fails_is_made_again(tmp_path, seed):
    check = Checks(tmp_path, seed)
    for _ in range(2):
        with pytest.raises(ConfigError, match="twice"):
            check(fails=True)
    assert check() == 1


@pytest.mark.parametrize("broken", ["", "{}", '["x"]'])
def test_a_broken_file_costs_a_check_and_nothing_else(tmp_path, seed, broken):
    check = Checks(tmp_path, seed)
    check()
    understood.path_of(tmp_path, passed.NAME).write_text(broken, encoding="utf-8")
    assert [check(), check()] == [1, 0]


def test_the_oldest_are_forgotten(tmp_path, seed, monkeypatch):
    monkeypatch.setattr(passed, "MOST", 3)
    check = Checks(tmp_path, seed)
    for number in range(5):
        assert check(trials=str(number))
    assert len(json.loads(understood.path_of(tmp_path, passed.NAME).read_bytes()[64:])) == 3
    assert [check(trials="4"), check(trials="0")] == [0, 1]
