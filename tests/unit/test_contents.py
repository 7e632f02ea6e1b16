"""Digests of files: whole, once, and never of what a file was before."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from grace import contents
from grace.contents import ALWAYS_READ, NAME, Contents

SIZE = ALWAYS_READ + 1


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read."""
    found: list[Path] = []
    file_digest = contents.file_digest

    def counting(path: Path) -> str:
        found.append(path)
        return file_digest(path)

    monkeypatch.setattr(contents, "file_digest", counting)
    return found


def large(path: Path, text: bytes = b"a") -> str:
    """A file that is read once, as if it had lain there for long; its digest."""
    path.write_bytes(text * SIZE)
    return sha256(text * SIZE).hexdigest()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as written long before, without the wait."""
    monkeypatch.setattr(contents, "SETTLED_NS", -(10**12))


def test_a_file_is_read_once_by_all_that_ask(tmp_path, read, settled):
    expected = large(tmp_path / "weights")
    assert Contents(tmp_path).digest(tmp_path / "weights") == expected
    assert Contents(tmp_path).digest(tmp_path / "weights") == expected
    (tmp_path / "weights").rename(tmp_path / "moved")  # the same file, at another time of change
    assert Contents(tmp_path).digest(tmp_path / "moved") == expected
    assert len(read) == 2


def test_other_contents_of_the_same_size_and_time_are_noticed(tmp_path, read, settled):
    path = tmp_path / "weights"
    before = large(path)
    times = path.stat()
    assert Contents(tmp_path).digest(path) == before
    after = large(path, b"b")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Contents(tmp_path).digest(path) == after
    other = tmp_path / "other"
    last = large(other, b"c")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)
    assert Contents(tmp_path).digest(path) == last


def test_a_file_that_was_written_just_now_is_read_again(tmp_path, read):
    # A second write within the clock's step of the file system leaves the same times.
    path = tmp_path / "weights"
    large(path)
    Contents(tmp_path).digest(path)
    assert not (tmp_path / NAME).exists()
    Contents(tmp_path).digest(path)
    assert len(read) == 2


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path, monkeypatch, settled):
    path = tmp_path / "weights"
    large(path)
    file_digest = contents.file_digest

    def slow(path: Path) -> str:
        found = file_digest(path)
        large(path, b"b")
        return found

    monkeypatch.setattr(contents, "file_digest", slow)
    Contents(tmp_path).digest(path)
    monkeypatch.undo()
    assert Contents(tmp_path).digest(path) == sha256(b"b" * SIZE).hexdigest()


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: b"",
        lambda kept: kept[: len(kept) // 2],
        lambda kept: b"\xff\x00 nonsense",
        lambda kept: b"[]",
        lambda kept: b"[" * 100_000,
        lambda kept: b'{"check": 1, "files": 2}',
        # One digit of a digest that is kept.
        lambda kept: json.dumps(
            {
                **json.loads(kept),
                "files": {k: [*v[:3], "0" * 64] for k, v in json.loads(kept)["files"].items()},
            }
        ).encode(),
    ],
)
def test_damaged_digests_are_taken_again(tmp_path, settled, damage):
    path = tmp_path / "weights"
    expected = large(path)
    assert Contents(tmp_path).digest(path) == expected
    kept = tmp_path / NAME
    kept.write_bytes(damage(kept.read_bytes()))
    assert Contents(tmp_path).digest(path) == expected


def test_writers_at_a_time_keep_each_others_digests(tmp_path, read, settled):
    names = ["a", "b", "c"]
    for name in names:
        large(tmp_path / name, name.encode())
    all_at_once = [Contents(tmp_path) for _ in names]
    for one, name in zip(all_at_once, names, strict=True):
        one.digest(tmp_path / name)
    before = len(read)
    for name in names:
        assert (
            Contents(tmp_path).digest(tmp_path / name) == sha256(name.encode() * SIZE).hexdigest()
        )
    assert len(read) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path, settled):
    path = tmp_path / "weights"
    expected = large(path)
    (tmp_path / "file").touch()
    assert Contents(tmp_path / "file" / "below").digest(path) == expected


def test_a_model_folder_counts_without_words_and_what_is_hidden(tmp_path):
    folder = tmp_path / "model"
    (folder / ".cache/huggingface").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    before = Contents().folder(folder)
    (folder / "README.md").write_text("words")
    (folder / ".cache/huggingface/config.json.metadata").write_text("when it was fetched")
    assert Contents().folder(folder) == before
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert Contents().folder(folder) != before


def test_files_behind_links_count_and_a_circle_ends(tmp_path):
    """Engines follow a link to a folder, as an index of sharded weights may name one."""
    folder, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "1.safetensors").write_text("old")
    (folder / "shards").symlink_to(elsewhere)
    (elsewhere / "circle").symlink_to(folder)
    (folder / "again").symlink_to(elsewhere)
    assert list(Contents().files(folder)) == ["again/1.safetensors", "shards/1.safetensors"]
    before = Contents().folder(folder)
    (elsewhere / "1.safetensors").write_text("new")
    assert Contents().folder(folder) != before
