"""Which models a reader is told were trained on simulated people: by their weights, not names."""

import json
import shutil
from pathlib import Path

import pytest

from grace.pico.origin import BUNDLED, ORIGIN, origin
from grace.settings.outputs import Outputs
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model of somebody's own, which is no pico."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text("{}")
    (tmp_path / "mine/model.safetensors").write_bytes(b"weights")
    return tmp_path / "mine"


def test_the_bundled_models_are_reported():
    assert [origin(ROOT / one, ROOT) for one in BUNDLED] == [ORIGIN, ORIGIN]
    assert Outputs(Project(ROOT, {})).analysis("study1").origins == {"pico": ORIGIN}


@pytest.mark.parametrize("one", BUNDLED)
def test_a_copy_of_the_weights_is_reported_under_any_name(folder, one):
    shutil.copy(ROOT / one / "model.safetensors", folder / "other.bin")
    assert origin(folder, ROOT) == ORIGIN


def test_the_weights_behind_a_link_are_reported(folder):
    (folder / "shards").symlink_to(ROOT / BUNDLED[0])
    assert origin(folder, ROOT) == ORIGIN


@pytest.mark.parametrize(("one", "key"), list(zip(BUNDLED, ("settings", "pico_base"), strict=True)))
def test_another_training_of_it_is_reported(folder, one, key):
    record = json.loads((ROOT / one / "training.json").read_text())
    record[key]["seed"] = 7
    (folder / "training.json").write_text(json.dumps(record))
    assert origin(folder, ROOT) == ORIGIN


@pytest.mark.parametrize(
    "record", ["", "[]", "{", '{"settings": {}}', '{"settings": 1}', '{"pico_base": 1}', "[" * 9999]
)
def test_other_models_are_not(folder, record):
    (folder / "training.json").write_text(record)
    same_size = bytes((ROOT / BUNDLED[0] / "model.safetensors").stat().st_size)
    (folder / "model.safetensors").write_bytes(same_size)
    assert origin(folder, ROOT) is None
    assert origin(folder / "absent", ROOT) is None


def test_settings_of_generation_are_reported_where_experiment_1_runs():
    config = Outputs(Project(ROOT, {"generation": {"temperature": 0.3}})).analysis("study1")
    assert config.generation["temperature"] == 0.3
    assert Outputs(Project(ROOT, {"experiments": ["exp2"]})).analysis("study1").generation == {}
