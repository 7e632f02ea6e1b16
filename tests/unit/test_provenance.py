"""What a job says of its model, and the code that it refuses to run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import build_tiny_model

from grace import modules, provenance, scripting
from grace.chat import ChatTokenizer
from grace.config import ModelEntry
from grace.errors import RecordError

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_cached_hub_model_is_known_by_commit_and_digests(tmp_path, monkeypatch):
    # The hub's cache: snapshots of links to files that are named by their digests.
    cache = tmp_path / "models--org--model"
    snapshot = cache / "snapshots" / COMMIT
    for folder in (snapshot, cache / "blobs", cache / "refs"):
        folder.mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    for name, blob in (("config.json", "a" * 40), ("model.safetensors", "b" * 64)):
        (cache / "blobs" / blob).write_text(name)
        (snapshot / name).symlink_to(cache / "blobs" / blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    files = {"config.json": "a" * 40, "model.safetensors": "b" * 64}
    for revision in (None, "main", COMMIT):
        found = provenance.hub_files("org/model", revision)
        assert found == {"revision": COMMIT, "files": files}
    assert provenance.hub_files("org/other", None) == {"revision": None, "files": None}


def test_a_tokenisers_digests_tell_its_vocabulary_from_its_template(tmp_path):
    build_tiny_model(tmp_path / "model")
    entry = ModelEntry(name="model", engine="transformers")

    def digests() -> dict[str, str]:
        tokenizer = ChatTokenizer("tiny", entry, tmp_path)
        before = tokenizer.digests()
        tokenizer.tokenise_all(["3 of 12 answers", "It"])
        assert tokenizer.digests() == before
        return before

    first = digests()
    assert digests() == first
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant: ", "speaker: "))
    assert digests()["chat_template"] != first["chat_template"]
    assert digests()["tokenizer"] == first["tokenizer"]


def test_a_job_refuses_code_that_it_was_not_planned_with():
    planned = modules.code(ROOT, ["structure.py"], ["tables.py"])
    found = scripting._sources(ROOT, planned)
    assert {"workflow/lib/grace/tables.py", "scripts/structure.py"} <= found.keys()
    with pytest.raises(RecordError, match="not what this run was planned with"):
        scripting._sources(ROOT, {**planned, "digest": "0" * 64})
