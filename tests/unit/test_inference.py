"""A whole inference job: what it asks, what the journal spares it, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_adapter import write_adapter
from workflow_project import shorten_studies

import grace.engines.opening
from grace import contents
from grace.engines.opening import engine_version, runtime_of
from grace.errors import ConfigError, EngineError
from grace.experiments.inference import infer
from grace.provenance.metadata import metadata
from grace.provenance.record import ProvenanceRecord
from grace.settings.config import ModelEntry
from grace.settings.outputs import Outputs
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]
CONFIG = {"limit": 1, "studies": ["study2"], "models": ["pico"]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose files a test may change; every file counts as a large one."""
    for name in ("config", "resources", "studies"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shorten_studies(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(contents, "ALWAYS_READ", 0)
    monkeypatch.setattr(contents, "SETTLED_NS", -(10**12))
    return tmp_path


def settings(project: Project) -> dict[str, Any]:
    config = project.config
    return {
        "studies": project.study_jobs(),
        "requests": config.requests.model_dump(),
        "scoring": config.scoring.model_dump(),
        "serving": config.serving.model_dump(),
        "entry": project.models["pico"].model_dump(),
        "root": str(project.root),
        "journal_dir": ".grace",
        "journal_timeout_s": 60,
        "wanted": project.wanted,
        "log_dir": "logs",
        "threads": 1,
    }


def run(root: Path, experiment: str = "exp1", **values: Any) -> tuple[Any, Any]:
    """The records of a job and its provenance."""
    project = Project(root, CONFIG | values)
    records, provenance = root / f"{experiment}.json", root / "provenance.json"
    config = Outputs(project).experiment("pico", 0, "study2", experiment)
    stimuli = Path(project.stimuli_path("study2"))
    infer(stimuli, config, settings(project), "code", records, provenance)
    return json.loads(records.read_text()), json.loads(provenance.read_text())


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("an engine was opened")


def same_size_and_time(path: Path, old: str, new: str) -> None:
    before = path.stat()
    text = path.read_bytes()
    assert len(old) == len(new)
    path.write_bytes(text.replace(old.encode(), new.encode()))
    assert path.read_bytes() != text
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_weights(path: Path) -> None:
    """Other weights of the same size, with the old time."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-2000:] = bytes(2000)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("experiment", ["exp1", "exp2"])
def test_a_rerun_without_anything_to_ask_opens_no_engine(root, monkeypatch, experiment):
    records, first = run(root, experiment)
    assert first["engine_opened"]
    monkeypatch.setattr(grace.engines.opening, "open_engine", refuse)
    again, second = run(root, experiment)
    times = {"run_timestamp": None}
    assert [one | times for one in again] == [one | times for one in records]
    assert not second["engine_opened"]
    # What is said of the engine is what answered.
    assert second["engine"] == first["answers"][0]["engine"]
    assert second["answers"][0]["session"] == first["answers"][0]["session"]
    with pytest.raises(AssertionError, match="an engine was opened"):
        run(root, experiment, base_seed=7 if experiment == "exp1" else 1000, limit=2)


@pytest.mark.parametrize("experiment", ["exp1", "exp2"])
def test_what_a_variant_declares_stands_in_the_provenance_file_alone(root, experiment):
    variants = ["seed", "seed-system"]
    project = Project(root, CONFIG | {"variants": variants, "generation": {"max_tokens": 8}})
    config = Outputs(project).experiment("pico", 0, "study2", experiment)
    stimuli, records = Path(project.stimuli_path("study2")), root / "records.json"
    facts = infer(stimuli, config, settings(project), "code", records, root / "provenance.json")
    assert facts.keys() <= ProvenanceRecord.model_fields.keys()
    provenance = json.loads((root / "provenance.json").read_text())
    assert provenance["wordings"].keys() == {"seed-system"}
    assert provenance["wordings"]["seed-system"]["system"].startswith("You take part in a study")
    assert "config/prompts/seed-system/variant.yaml" in provenance["files"]
    found = {one["variant"]: one for one in json.loads(records.read_text())}
    assert found["seed-system"]["system_message"] == "yes"
    assert "system_message" not in found["seed"]


def test_other_weights_of_the_same_size_are_asked_and_have_another_cell(root, monkeypatch):
    _, first = run(root)
    flip_weights(root / "resources/models/pico/model.safetensors")
    _, second = run(root)
    assert second["engine_opened"]
    assert second["output_config"]["model"]["weights"] != first["output_config"]["model"]["weights"]
    assert second["identity"] != first["identity"]
    assert second["files"] != first["files"]


def test_an_edited_template_in_the_folder_of_the_tokenizer_is_asked_anew(root):
    shutil.copytree(root / "resources/models/pico", root / "words")
    models = root / "config/models.yaml"
    models.write_text(models.read_text().replace("pico\n", "pico\n  tokenizer: words\n", 1))
    _, first = run(root)
    assert "words/tokenizer.json" in first["files"]
    template = root / "words/tokenizer_config.json"
    same_size_and_time(template, "{{ '<|assistant|>' }}", "{{ '<|end|>' }}      ")
    _, second = run(root)
    assert second["engine_opened"]
    assert second["identity"]["tokenizer"] != first["identity"]["tokenizer"]
    assert second["output_config"]["model"] != first["output_config"]["model"]


def test_an_adapter_is_asked_for_itself_and_stands_in_provenance_and_metadata(root):
    _, base = run(root, "exp2")
    write_adapter(root / "kind", root / "resources/models/pico", base="resources/models/pico")
    models = root / "config/models.yaml"
    models.write_text(models.read_text().replace("pico\n", "pico\n  adapter: kind\n", 1))
    records, first = run(root, "exp2")
    assert first["engine_opened"]
    assert first["engine"]["adapter"] == "kind"
    assert "peft" in first["engine"]["version"]
    adapter = first["model"]["adapter"]
    assert (adapter["base"], adapter["rank"]) == (base["identity"]["model"], 4)
    assert first["files"]["kind/adapter_model.safetensors"] in adapter["files"].values()
    plan = {"model": first["output_config"]["model"], "replication": 0, "seeds": {}}
    plan |= {"created": "", "commit": None, "dirty": None}
    found = metadata(plan, {"study2_exp2": first})
    assert found["configuration"]["adapter"] == adapter
    assert "adapter" not in metadata(plan, {"study2_exp2": base})["configuration"]
    (root / "exp2.json").unlink()
    again, second = run(root, "exp2")
    assert not second["engine_opened"]
    assert again[0]["queries"] == records[0]["queries"]
    flip_weights(root / "kind/adapter_model.safetensors")
    moved, third = run(root, "exp2")
    assert third["engine_opened"]
    assert moved[0]["queries"] != records[0]["queries"]
    models.write_text(models.read_text().replace("  adapter: kind\n", "", 1))
    assert not run(root, "exp2")[1]["engine_opened"], "its base's answers are what they were"


def test_a_model_that_is_not_the_planned_one_is_refused(root):
    project = Project(root, CONFIG)
    config = Outputs(project).experiment("pico", 0, "study2", "exp1")
    flip_weights(root / "resources/models/pico/model.safetensors")
    with pytest.raises(ConfigError, match="'pico': its weights changed since this run was planned"):
        infer(
            Path(project.stimuli_path("study2")), config, settings(project), "code",
            root / "records.json", root / "provenance.json",
        )  # fmt: skip
    assert not (root / "records.json").exists()


def test_a_model_that_changes_while_it_is_loaded_is_refused(root, monkeypatch):
    opening = grace.engines.opening.open_engine

    def overwritten(*arguments: Any) -> Any:
        engine = opening(*arguments)
        flip_weights(root / "resources/models/pico/model.safetensors")
        return engine

    monkeypatch.setattr(grace.engines.opening, "open_engine", overwritten)
    with pytest.raises(ConfigError, match="its weights changed while it was loaded"):
        run(root)
    assert not list((root / ".grace/journal").glob("*.jsonl"))


def test_the_version_of_an_engine_is_known_without_it():
    runtime = runtime_of(settings(Project(ROOT, CONFIG)))
    entry = ModelEntry(name="resources/models/pico", engine="transformers", gpus=0)
    expected = f"{transformers.__version__}, torch {torch.__version__}"
    assert engine_version(entry, runtime) == expected


def test_an_engine_of_another_version_than_its_keys_is_refused(root, monkeypatch):
    monkeypatch.setattr("grace.experiments.inference.engine_version", lambda *_: "0, torch 0")
    with pytest.raises(EngineError, match=r"says that it is version .*, but 0, torch 0"):
        run(root)
