"""No crash loses a saved answer, and no bytes make the journal crash or give a wrong answer."""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from journal_writers import key_of, value_of
from power_cut import recording
from properties import generated

from grace.journal import Journal
from grace.journal.compaction import compact
from grace.journal.lines import line_of, value_in
from grace.journal.segments import SUFFIX, SegmentWriter, scan, segments_in

WRITERS = Path(__file__).parents[1] / "support" / "journal_writers.py"
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR)  # thousands of damaged lines are meant


@contextlib.contextmanager
def scratch():
    """A folder for one generated input, in memory: what a disk would keep is simulated."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


# --- any bytes


def right_answers(content: bytes) -> list[tuple[str, dict]]:
    """Answers in a segment's bytes, found in another way than by the journal."""
    found = []
    for line in content.split(b"\n")[:-1]:
        match = re.fullmatch(
            rb'\{"check":"([0-9a-f]{16})(","key":"([0-9a-f]{64})","value":(.*)\})', line, re.DOTALL
        )
        if match and hashlib.sha256(match[2] + b"\n").hexdigest()[:16].encode() == match[1]:
            with contextlib.suppress(ValueError, RecursionError):  # forged: not JSON
                value = json.loads(match[4])
                if isinstance(value, dict):
                    found.append((match[3].decode(), value))
    return found


def checksummed(rest: bytes) -> bytes:
    return b'{"check":"' + hashlib.sha256(rest).hexdigest()[:16].encode() + rest


GOOD = st.builds(
    lambda n, value: line_of(bytes.fromhex(key_of(n)), value),
    st.integers(0, 9),
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
        max_size=3,
    ),
)
KEY = key_of(0).encode()
FORGED = st.sampled_from(
    [
        b'","key":"' + KEY + b'","value":}\n',
        b'","key":"' + KEY + b'","value":[1]}\n',
        b'","key":"' + KEY + b'","value":{"a":1}\n',
        b'","key":"' + KEY + b'","value":' + b"[" * 100_000 + b"}\n",
        b'","key":"' + b"z" * 64 + b'","value":{}}\n',
        b'","kex":"' + KEY + b'","value":{}}\n',
        b"\n",
        b"",
    ]
).map(checksummed)
PIECES = st.binary(max_size=200) | GOOD | GOOD.map(lambda line: line[:-1]) | FORGED


@given(st.lists(PIECES, max_size=8), st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3))))
@example([], [])
@generated(0.6)
def test_no_bytes_make_a_crash_or_a_wrong_answer(pieces, edits):
    content = b"".join(pieces)
    for where, bytes_ in edits:
        place = int(where * len(content))
        content = content[:place] + bytes_ + content[place + len(bytes_) :]
    with scratch() as folder:
        path = folder / f"a{SUFFIX}"
        path.write_bytes(content)
        read = [(key.hex(), value_in(line)) for _, line, key in scan(path) if key is not None]
        right = right_answers(content)
        assert [pair for pair in read if pair[1] is not None] == right
        with Journal(folder) as journal:
            for n in range(10):
                value = journal.get(key_of(n))
                assert value is None or (key_of(n), value) in right


@given(st.lists(GOOD, min_size=1, max_size=6), st.data())
@generated(0.25)
def test_damage_anywhere_costs_the_damaged_lines_only(lines, data):
    content = bytearray(b"".join(lines))
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start, min(start + 600, len(content))))
    how = data.draw(st.sampled_from(["flip", "cut", "zero", "double", "truncate"]))
    if how == "flip":
        content[start] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del content[start:end]
    elif how == "zero":
        content[start:end] = bytes(end - start)
    elif how == "double":
        content[start:start] = content[start:end]
    else:
        del content[start:]
    with scratch() as folder:
        (folder / f"a{SUFFIX}").write_bytes(content)
        found = [line for _, line, key in scan(folder / f"a{SUFFIX}") if key is not None]
    assert set(found) <= set(lines)
    # A line that follows a cut one's beginning without an end between them goes with it.
    untouched = {line + b"\n" for line in bytes(content).split(b"\n")[:-1]} & set(lines)
    assert untouched <= set(found)


# --- any history

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 4)),
        st.just(("flush", 0)),
        st.just(("merge", 0)),
        st.tuples(st.just("second writer"), st.integers(1, 3)),
        st.tuples(st.just("killed"), st.integers(0, 400)),
        st.tuples(st.just("power cut"), st.integers(0, 2**32)),
    ),
    max_size=12,
)


class History:
    """A journal's folder, what was added to it, and what of that was said to be saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.added: set[str] = set()
        self.saved: set[str] = set()
        self.count = 0

    def new_keys(self, count: int) -> list[str]:
        self.count += count
        return [key_of(n) for n in range(self.count - count, self.count)]

    def add(self, journal: Journal, count: int) -> None:
        for key in self.new_keys(count):
            journal.add(key, value_of(key))
            self.added.add(key)

    def save(self, journal: Journal) -> None:
        journal.flush()
        self.saved = set(self.added)

    def check(self) -> None:
        with Journal(self.folder) as journal:
            found = {key for key in self.added if key in journal}
            assert len(found) == len(journal)
            assert found >= self.saved
            assert all(journal.get(key) == value_of(key) for key in found)
            assert journal.conflicts == 0
        # What was not saved may be there or not, but from now on it stays as it is.
        self.added, self.saved = found, set(found)


@given(STEPS, st.integers(0, 2**32))
@generated(0.15)
def test_any_history_keeps_every_saved_answer(steps, seed):
    random = Random(seed)
    with scratch() as base:
        folder = base / "0"
        folder.mkdir()
        history = History(folder)
        cuts = 0
        while steps:
            cut = None
            with recording(history.folder, lambda: set(history.saved)) as recorder:
                journal = Journal(history.folder)
                while steps and cut is None:
                    what, number = steps[0]
                    steps = steps[1:]
                    if what == "add":
                        history.add(journal, number)
                    elif what == "flush":
                        history.save(journal)
                    elif what == "second writer":
                        with Journal(history.folder) as other:
                            history.add(other, number)
                    elif what == "killed":
                        # In the middle of a write, with half a line; nothing was said to be saved.
                        (key,) = history.new_keys(1)
                        line = line_of(bytes.fromhex(key), value_of(key))
                        SegmentWriter(history.folder).append(line[: min(number, len(line) - 1)])
                    elif what == "merge":
                        journal.close()
                        history.saved = set(history.added)
                        compact(history.folder, closed_after_s=-1)
                        journal = Journal(history.folder)
                    else:
                        cut = Random(number)
                journal.close()
                if cut is None:
                    history.saved = set(history.added)
            if cut is not None:
                cuts += 1
                moment = cut.choice(recorder.moments)
                history.folder = base / str(cuts)
                history.folder.mkdir()
                for name, content in moment.after_cut(random).items():
                    (history.folder / name).write_bytes(content)
                history.saved = moment.note
            history.check()
        history.check()


def test_a_power_cut_at_any_moment_of_a_merge_loses_nothing():
    random = Random(1)
    with scratch() as base:
        folder = base / "journal"
        folder.mkdir()
        history = History(folder)
        for _ in range(3):
            with Journal(folder) as journal:
                history.add(journal, 3)
        history.saved = set(history.added)
        with recording(folder, lambda: None) as recorder:
            assert compact(folder, closed_after_s=-1) == 3
        assert len(recorder.moments) > 5
        for moment in recorder.moments:
            for attempt in range(20):
                history.folder = base / "after"
                history.folder.mkdir()
                for name, content in moment.after_cut(random).items():
                    (history.folder / name).write_bytes(content)
                history.check()
                assert len(history.added) == 9, attempt
                shutil.rmtree(history.folder)


# --- real kills


def test_no_answer_said_to_be_saved_is_lost_by_kill_9(tmp_path):
    random = Random(7)
    saved = set()
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, WRITERS, tmp_path, "endless"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(random.randint(1, 150))]
            writer.kill()
            lines += writer.stdout.readlines()
        saved |= {line.strip() for line in lines if line.endswith("\n")}
        compact(tmp_path, closed_after_s=-1)
        with Journal(tmp_path) as journal:
            assert all(journal.get(key) == value_of(key) for key in saved)
            assert journal.damaged == 0
    assert len(saved) > 200
    assert len(segments_in(tmp_path)) == 1
