"""The journal in everyday use, its command, and what it says when its volume fails."""

import errno
import json
import logging
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from journal_writers import key_of, value_of
from waiting import PATIENCE_S

from grace.digests import digest
from grace.errors import JournalError
from grace.journal import Journal, segments
from grace.journal.__main__ import main
from grace.journal.compaction import compact
from grace.journal.index import Index
from grace.journal.segments import segments_in

WRITERS = Path(__file__).parents[1] / "support" / "journal_writers.py"
A, B, C = (digest(name) for name in "abc")


def filled(folder, *names):
    with Journal(folder) as journal:
        for name in names:
            journal.add(key_of(name), value_of(key_of(name)))


def test_an_answer_is_found_again_at_once_and_after_reopening(tmp_path):
    value = {"text": "½ “so” \n\u2028 \ud83d 好", "logprobs": [[-0.1, -1e-300], []], "none": None}
    with Journal(tmp_path / "new" / "journal") as journal:
        assert journal.get(A) is None
        assert A not in journal
        journal.add(A, value)
        assert journal.get(A) == value  # while it may still be on its way to the disk
        journal.flush()
        assert journal.get(A) == value
        assert (A in journal, B in journal, len(journal)) == (True, False, 1)
    with Journal(tmp_path / "new" / "journal") as journal:
        assert journal.get(A) == value
        assert len(journal) == 1


def test_every_line_is_json_for_other_programs(tmp_path):
    with Journal(tmp_path) as journal:
        journal.add(A, {"text": "好", "n": [1, 0.1]})
    (path,) = segments_in(tmp_path)
    line = json.loads(path.read_text(encoding="utf-8"))
    assert line["key"] == A
    assert line["value"] == {"text": "好", "n": [1, 0.1]}


def test_an_answer_reaches_the_disk_without_a_flush_or_another_answer(tmp_path):
    with Journal(tmp_path) as journal:
        for key in (A, B, C):
            journal.add(key, {})
            with journal._changed:
                assert journal._changed.wait_for(lambda: not journal._pending, timeout=PATIENCE_S)
            assert key in bytes.hex(b"".join(Index.load(tmp_path)._rows))


def test_answers_added_during_a_commit_share_the_next_one(tmp_path, monkeypatch):
    real, in_fsync, go_on, calls = os.fsync, threading.Event(), threading.Event(), []

    def slow(descriptor):
        calls.append(descriptor)
        in_fsync.set()
        assert go_on.wait(PATIENCE_S)
        real(descriptor)

    with Journal(tmp_path) as journal:
        monkeypatch.setattr(segments.os, "fsync", slow)
        journal.add(A, {})
        assert in_fsync.wait(PATIENCE_S)
        for number in range(500):
            journal.add(key_of(number), {})
        go_on.set()
        journal.flush()
        assert len(calls) == 2


def test_keys_and_values_that_could_change_silently_are_refused(tmp_path):
    with Journal(tmp_path) as journal:
        for key in ("", "abc", A[:-1], A.upper(), A + "\n"):
            with pytest.raises(ValueError, match="64 lower-case hex digits"):
                journal.add(key, {})
        with pytest.raises(ValueError, match="JSON"):
            journal.add(A, {"logprob": float("nan")})
        with pytest.raises(ValueError, match="JSON"):
            journal.add(A, {"logprob": float("-inf")})
        with pytest.raises(TypeError):
            journal.add(A, {"path": tmp_path})
        assert len(journal) == 0


def test_the_first_of_two_answers_counts_and_the_other_is_reported(tmp_path, caplog):
    with Journal(tmp_path) as one, Journal(tmp_path) as other:
        one.add(A, {"n": 1})
        one.add(A, {"n": 1})
        assert one.conflicts == 0
        one.add(A, {"n": 2})  # before or after it is saved
        one.flush()
        one.add(A, {"n": 3})
        assert one.conflicts == 2
        assert one.get(A) == {"n": 1}
        other.add(A, {"n": 4})  # it cannot know
    assert f"two different answers to {A}" in caplog.text
    for _ in range(2):
        with Journal(tmp_path) as journal:
            assert journal.get(A) == {"n": 1}
            assert journal.conflicts == 1
        compact(tmp_path, closed_after_s=-1)  # keeps the evidence


def test_a_closed_journal_takes_nothing_and_leaves_no_empty_file(tmp_path):
    journal = Journal(tmp_path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.add(A, {})
    assert list(tmp_path.iterdir()) == []


def test_64_writers_at_once(tmp_path):
    done = subprocess.run(
        [sys.executable, WRITERS, tmp_path, "many", "64"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = [(writer, n) for writer in range(64) for n in range(10)]
    wanted += [("shared", n) for n in range(10)]
    with Journal(tmp_path) as journal:
        assert len(journal) == len(wanted)
        for name in wanted:
            assert journal.get(key_of(name)) == value_of(key_of(name))
        assert (journal.damaged, journal.conflicts) == (0, 0)


# --- damage


def test_a_damaged_line_costs_its_own_answer_only(tmp_path, caplog):
    filled(tmp_path, 0, 1, 2, 3)
    (path,) = segments_in(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    digit = lines[1].index(b'"logprob":-') + 11
    lines[1] = lines[1][:digit] + bytes([lines[1][digit] ^ 1]) + lines[1][digit + 1 :]
    path.write_bytes(b"".join(lines[:3]) + lines[3][:-1])  # and the last is torn
    with Journal(tmp_path) as journal:
        assert [key_of(n) in journal for n in range(4)] == [True, False, True, False]
        assert journal.get(key_of(1)) is None
        assert journal.damaged == 1
        assert f"{path}: 1 damaged lines skipped" in caplog.text
        for n in range(4):
            journal.add(key_of(n), value_of(key_of(n)))
    with Journal(tmp_path) as journal:
        assert all(journal.get(key_of(n)) == value_of(key_of(n)) for n in range(4))


def test_damage_after_opening_is_noticed_and_can_be_repaired(tmp_path, caplog):
    filled(tmp_path, 0)
    (path,) = segments_in(tmp_path)
    with Journal(tmp_path) as journal:
        path.write_bytes(path.read_bytes().replace(b"answer", b"answes"))
        assert journal.get(key_of(0)) is None
        assert "damaged since" in caplog.text
        assert key_of(0) not in journal
        journal.add(key_of(0), value_of(key_of(0)))
        assert journal.get(key_of(0)) == value_of(key_of(0))


# --- merging


def test_merging_keeps_every_answer_and_sets_damage_aside(tmp_path):
    for n in range(5):
        filled(tmp_path, n, n + 1)
    damaged, torn = segments_in(tmp_path)[1:3]
    damaged.write_bytes(b"what is this\n" + damaged.read_bytes())
    torn.write_bytes(torn.read_bytes() + b'{"check":"')
    assert compact(tmp_path, closed_after_s=-1) == 5
    (merged,) = segments_in(tmp_path)
    assert merged.read_bytes().count(b"\n") == 6
    assert not merged.read_bytes().endswith(b'"')
    assert [path.name for path in tmp_path.glob("*.damaged")] == [damaged.stem + ".damaged"]
    with Journal(tmp_path) as journal:
        assert all(journal.get(key_of(n)) == value_of(key_of(n)) for n in range(6))
        assert journal.damaged == 0


def test_only_segments_left_alone_for_a_day_are_merged(tmp_path):
    with Journal(tmp_path) as journal:
        journal.add(A, {})
        journal.flush()
        filled(tmp_path, 0)
        filled(tmp_path, 1)
        live, old, older = segments_in(tmp_path)
        assert compact(tmp_path) == 0
        leftover = tmp_path / "x-merged-y.tmp"
        leftover.touch()
        for path in (old, older, leftover):
            os.utime(path, (0, 0))
        assert compact(tmp_path) == 2
        assert live in segments_in(tmp_path)
        assert len(segments_in(tmp_path)) == 2
        assert not leftover.exists()


def test_opening_merges_when_there_are_many_closed_segments(tmp_path):
    for n in range(32):
        filled(tmp_path, n)
    for path in segments_in(tmp_path):
        os.utime(path, (0, 0))
    with Journal(tmp_path) as journal:
        assert len(segments_in(tmp_path)) == 2  # merged ones and its own
        assert len(journal) == 32


def test_a_journal_opened_before_a_merge_finds_its_answers(tmp_path):
    filled(tmp_path, 0)
    filled(tmp_path, 1)
    with Journal(tmp_path) as journal:
        for path in segments_in(tmp_path)[:2]:
            os.utime(path, (0, 0))
        assert compact(tmp_path) == 2
        for n in range(2):
            assert journal.get(key_of(n)) == value_of(key_of(n))
        journal.add(A, {"n": 1})
    with Journal(tmp_path) as journal:
        assert len(journal) == 3


def test_a_journal_opened_during_a_merge_finds_everything(tmp_path, monkeypatch):
    filled(tmp_path, 0)
    filled(tmp_path, 1)
    listed = []

    def merged_after_the_first_listing(folder):
        paths = segments_in(folder)
        if not listed:
            compact(folder, closed_after_s=-1)
        listed.append(paths)
        return paths

    monkeypatch.setattr("grace.journal.index.segments_in", merged_after_the_first_listing)
    assert len(Index.load(tmp_path)) == 2
    assert len(listed) == 2


def test_a_writer_leaves_its_segment_after_a_pause(tmp_path, monkeypatch):
    with Journal(tmp_path) as journal:
        journal.add(A, {"n": 1})
        journal.flush()
        monkeypatch.setattr(segments, "LEFT_AFTER_S", -1.0)
        journal.add(B, {"n": 2})
        journal.flush()
        assert len(segments_in(tmp_path)) == 2
        assert (journal.get(A), journal.get(B)) == ({"n": 1}, {"n": 2})


# --- a volume that fails


@contextmanager
def small_volume(folder, size="64k"):
    """A file system of its own; skips where this user may not mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"only an administrator can mount a small volume: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False, capture_output=True)


def test_a_full_disk_is_explained_and_loses_nothing_saved(tmp_path):
    with small_volume(tmp_path / "volume") as volume:
        journal = Journal(volume / "journal")
        saved = []

        def fill():
            for n in range(10_000):
                journal.add(key_of(n), value_of(key_of(n)))
                journal.flush()
                saved.append(key_of(n))

        with pytest.raises(JournalError, match=r"no space left for the journal .*/volume/journal"):
            fill()
        assert len(saved) > 50
        with pytest.raises(JournalError, match="no space left"):
            journal.add(A, {})
        with pytest.raises(JournalError, match="no space left"):
            journal.close()
        index = Index.load(volume / "journal")
        assert all(bytes.fromhex(key) in index for key in saved)
        assert index.damaged == 0
        (path,) = segments_in(volume / "journal")
        assert path.read_bytes().endswith(b"}\n")


def test_a_file_size_limit_is_explained_too(tmp_path):
    done = subprocess.run(
        [sys.executable, WRITERS, tmp_path, "limited", "20000"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "no space left for the journal" in done.stderr
    with Journal(tmp_path) as journal:
        assert all(journal.get(key) == value_of(key) for key in done.stdout.split())
        assert len(journal) >= len(done.stdout.split()) > 20


def test_a_read_only_folder_is_refused_before_anything_is_asked(tmp_path):
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(JournalError, match=r"cannot be used: .*journal_dir"):
            Journal(tmp_path)
        return
    with small_volume(tmp_path / "volume") as volume:
        filled(volume, 0)
        subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
        with pytest.raises(JournalError, match=r"volume cannot be used: .*journal_dir"):
            Journal(volume)
        assert bytes.fromhex(key_of(0)) in Index.load(volume)


def test_a_volume_that_vanishes_is_noticed_by_the_next_commit(tmp_path):
    folder, away = tmp_path / "journal", tmp_path / "away"
    journal = Journal(folder)
    journal.add(A, {"n": 1})
    journal.flush()
    folder.rename(away)  # as after `umount --lazy`: the open file still takes writes
    journal.add(B, {"n": 2})
    with pytest.raises(JournalError, match="deleted or its volume vanished"):
        journal.flush()
    with pytest.raises(JournalError, match="deleted or its volume vanished"):
        journal.close()
    with Journal(away) as reopened:
        assert reopened.get(A) == {"n": 1}


def test_a_volume_that_hangs_ends_the_wait(tmp_path, monkeypatch):
    released = threading.Event()
    in_fsync = threading.Event()

    def hang(descriptor):
        in_fsync.set()
        assert released.wait(PATIENCE_S)

    journal = Journal(tmp_path, timeout_s=0.05)
    monkeypatch.setattr(segments.os, "fsync", hang)
    journal.add(A, {})
    assert in_fsync.wait(PATIENCE_S)
    with pytest.raises(JournalError, match=r"has not answered for 0\.05 s"):
        journal.flush()
    with pytest.raises(JournalError, match=r"has not answered for 0\.05 s"):
        journal.add(B, {})
    with pytest.raises(JournalError, match=r"has not answered for 0\.05 s"):
        journal.close()
    released.set()
    journal._thread.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "cannot be used"),
        (errno.ESTALE, "Is its volume still there"),
        (errno.EIO, "Is its volume still there"),
    ],
)
def test_a_failed_fsync_is_final_and_explained(tmp_path, monkeypatch, number, words):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    journal = Journal(tmp_path)
    real = os.fsync
    monkeypatch.setattr(segments.os, "fsync", fail)
    journal.add(A, {})
    with pytest.raises(JournalError, match=words):
        journal.flush()
    # The kernel may forget pages it could not write: a later fsync that works proves nothing.
    monkeypatch.setattr(segments.os, "fsync", real)
    with pytest.raises(JournalError, match=words):
        journal.flush()
    with pytest.raises(JournalError, match=words):
        journal.close()


def test_a_bug_in_the_thread_is_reported_to_who_flushes(tmp_path, monkeypatch, caplog):
    journal = Journal(tmp_path)
    monkeypatch.setattr(journal, "_commit", lambda batch: 1 / 0)
    journal.add(A, {})
    with pytest.raises(JournalError, match="ZeroDivisionError"):
        journal.flush()
    assert "a bug in Grace" in caplog.text


# --- the command


def show(capsys, *arguments):
    main([*map(str, arguments)])
    return capsys.readouterr().out.splitlines()


def test_show_lists_segments_and_prints_answers(tmp_path, capsys, caplog):
    with Journal(tmp_path) as journal:
        journal.add(A, {"text": "好", "meta": {"study": "study2", "n": 1}})
        journal.add(B, {"meta": {"study": "study1", "n": 1}})
    (path,) = segments_in(tmp_path)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"nonsense\nhalf")
    caplog.set_level(logging.CRITICAL)
    assert show(capsys, "--journal", tmp_path, "show") == [
        f"{path.name}: 2 answers, {size + 13} bytes, 1 DAMAGED LINES, torn tail of 4 bytes",
        f"{tmp_path}: 2 different answers, 1 damaged lines, 0 conflicts",
    ]
    (line,) = show(capsys, "--journal", tmp_path, "show", A[:8])
    assert json.loads(line) == {
        "key": A,
        "value": {"text": "好", "meta": {"study": "study2", "n": 1}},
    }
    (line,) = show(capsys, "--journal", tmp_path, "show", "--where", "meta.study=study1")
    assert json.loads(line)["key"] == B
    assert len(show(capsys, "--journal", tmp_path, "show", "--where", "meta.n=1")) == 2
    assert len(show(capsys, "--journal", tmp_path, "show", "")) == 2
    assert show(capsys, "--journal", tmp_path, "show", "--where", "meta.n=1", C) == []
    assert show(capsys, "--journal", tmp_path, "compact") == ["0 files merged"]


def test_show_names_a_missing_journal(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "grace.journal", "--journal", tmp_path / "none", "show"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("there is no journal in ")
