"""What a job says of its model, and the code that it refuses to run."""

from __future__ import annotations

from hashlib import sha1, sha256
from pathlib import Path

import pytest
from tiny_model import build_tiny_model

from grace import modules
from grace.contents import Contents
from grace.errors import EngineError, RecordError
from grace.models import hub
from grace.models.chat import ChatTokenizer
from grace.runs import scripting
from grace.settings.config import ModelEntry

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: Each file holds its own name; the hub knows weights by SHA-256 and small files as git does.
HUB_FILES = {
    "config.json": sha1(b"blob 11\0config.json").hexdigest(),
    "model.safetensors": sha256(b"model.safetensors").hexdigest(),
}


@pytest.fixture
def cached(tmp_path, monkeypatch) -> Path:
    """The hub's cache: a snapshot of links to files that are named by their digests."""
    cache = tmp_path / "models--org--model"
    snapshot = cache / "snapshots" / COMMIT
    for folder in (snapshot, cache / "blobs", cache / "refs"):
        folder.mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    for name, blob in HUB_FILES.items():
        (cache / "blobs" / blob).write_text(name)
        (snapshot / name).symlink_to(cache / "blobs" / blob)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return snapshot


def test_a_cached_hub_model_is_known_by_commit_and_digests(cached):
    for revision in (None, "main", COMMIT):
        found = hub.files("org/model", revision, Contents())
        assert found == {"revision": COMMIT, "files": HUB_FILES}
    nothing = {"revision": None, "files": None}
    assert hub.files("org/other", None, Contents()) == nothing


@pytest.mark.parametrize("name", HUB_FILES)
def test_a_file_of_the_hub_that_was_overwritten_on_this_machine_is_refused(cached, name):
    (cached / name).write_text("edited in place")  # through the link, as an editor would
    with pytest.raises(EngineError, match=f"{name}: not what the hub has .* edited or damaged"):
        hub.files("org/model", COMMIT, Contents())


def test_files_of_the_hub_without_links_are_known_by_their_content(cached):
    (cached / "config.json").unlink()
    (cached / "config.json").write_text("copied")  # as on file systems that have no links
    found = hub.files("org/model", COMMIT, Contents())["files"]["config.json"]
    assert found == sha256(b"copied").hexdigest()


def test_a_revision_is_the_commit_that_this_machine_knows_where_the_hub_is_not_reached(
    cached, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for revision in (None, "main", COMMIT):
        assert hub.commit("org/model", revision, "here") == COMMIT
        # A repository of a tokeniser may lack the file that is asked for first.
        assert hub.commit("org/model", revision, "here", hub.TOKENIZER_FILES) == COMMIT
    # Another commit is newest now: what had no revision is another model.
    moved = cached.with_name("f" * 40)
    cached.rename(moved)
    (moved.parents[1] / "refs" / "main").write_text(moved.name)
    assert hub.commit("org/model", None, "here") == moved.name
    with pytest.raises(EngineError, match="here is no folder of the project, and the Hugging Face"):
        hub.commit("org/other", None, "here")


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
    planned = modules.code(ROOT, ["structure.py"], ["results/tables.py"])
    found = scripting._sources(ROOT, planned)
    assert {"workflow/lib/grace/results/tables.py", "scripts/structure.py"} <= found.keys()
    with pytest.raises(RecordError, match="not what this run was planned with"):
        scripting._sources(ROOT, {**planned, "digest": "0" * 64})
