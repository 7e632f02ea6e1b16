"""Trials that were read are kept, between processes too, and never out of date."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bundled_studies import ROOT, bundled_study

from grace import understood
from grace.digests import digest
from grace.errors import StimuliError
from grace.source_code import LIBRARY
from grace.studies import trial_cache
from grace.studies.catalogue import bundled
from grace.studies.stimuli import numbered_trials
from grace.studies.trial_cache import LEAST, MOST, remembered
from grace.studies.trials import Trial

STUDY = bundled_study("study2")
STIMULI = ROOT / "resources/stimuli/study2.csv"

TELL = """
import json, sys
from pathlib import Path
from grace.digests import digest
from grace.studies import stimuli, trials
from grace.studies.catalogue import bundled

computed = []
compute = trials._Derivation.compute
trials._Derivation.compute = lambda *of: computed.append(1) or compute(*of)
root, path = map(Path, sys.argv[1:])
found = stimuli.numbered_trials(path, bundled(root, "study2")["study2"])
print(json.dumps([len(computed), digest([[row, trial.all()] for row, trial in found])]))
"""


@pytest.fixture
def library(tmp_path) -> Path:
    folder = tmp_path / "grace"
    shutil.copytree(LIBRARY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def kept(library: Path) -> list[Path]:
    return sorted((library / "__pycache__").glob("trials-*.json"))


def read(library: Path, path: Path = STIMULI, *flags: str) -> tuple[int, str]:
    """How many derived columns a new process had to compute, and what it read."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", TELL, str(ROOT), str(path)],
        cwd=library.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    computed, found = json.loads(done.stdout)
    return computed, found


@pytest.fixture
def short(tmp_path) -> Path:
    path = tmp_path / "study2.csv"
    path.write_text("".join(STIMULI.read_text().splitlines(keepends=True)[: LEAST + 1]))
    return path


def expected(path: Path) -> str:
    return digest([[row, trial.all()] for row, trial in numbered_trials(path, STUDY)])


def test_a_second_process_computes_nothing_and_reads_the_same(library):
    computed, found = read(library)
    assert computed > 1000
    assert found == expected(STIMULI)
    assert read(library) == (0, found)


@pytest.mark.parametrize("edit", ["of the file", "of the code"])
def test_an_edit_is_read(library, short, edit):
    before, found = read(library, short)
    if edit == "of the file":
        short.write_text(short.read_text().replace("0 hearts", "3 hearts", 1))
    else:
        module = library / "studies" / "trials.py"
        module.write_text(module.read_text() + "\nANOTHER = 1\n")
    again, after = read(library, short)
    assert again == before
    assert after == expected(short)
    assert (after == found) == (edit == "of the code")


def test_a_broken_file_costs_reading_again(library, short):
    first = read(library, short)
    (path,) = kept(library)
    written = path.read_bytes()
    for what, broken in (
        ("nothing", b""),
        ("cut", written[:-40]),
        ("another number", written.replace(b'"State_number": 0', b'"State_number": 1', 1)),
        ("no trials", written[:64]),
    ):
        path.write_bytes(broken)
        assert path.read_bytes() != written, what
        assert read(library, short) == first, what
        assert path.read_bytes() == written, what


def test_nothing_is_written_where_python_writes_nothing(library, short):
    read(library, short, "-B")
    assert kept(library) == []


def test_files_are_few_and_the_latest(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(trial_cache, "_read", {})
    trials = [(row, Trial({"a": row})) for row in range(LEAST)]
    for text in map(str, range(MOST + 3)):
        remembered(text, STUDY, lambda: trials, tmp_path)
    assert len(kept(tmp_path)) == MOST
    assert len(trial_cache._read) == MOST


@pytest.mark.parametrize("odd", [(1, 2), {1: 2}, [("a",)]])
def test_what_json_would_change_is_not_kept(tmp_path, monkeypatch, odd):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    trials = [(row, Trial({"a": row}, {"b": odd})) for row in range(LEAST)]
    assert remembered(repr(odd), STUDY, lambda: trials, tmp_path) == trials
    assert kept(tmp_path) == []


def test_another_declaration_reads_anew(tmp_path):
    other = bundled(ROOT, "study2")["study2"]
    stimuli = other.declaration.stimuli
    other.declaration = other.declaration.model_copy(
        update={"stimuli": stimuli.model_copy(update={"key": ["Participant_ID"]})}
    )
    asked = []
    for study in (STUDY, other, STUDY, other):
        remembered("a text", study, lambda: asked.append(1) or [], tmp_path)
    assert len(asked) == 2


def test_what_is_refused_is_refused_again(tmp_path):
    path = tmp_path / "study2.csv"
    path.write_text(STIMULI.read_text().replace("0 hearts", "9 hearts", 1))
    for _ in range(2):
        with pytest.raises(StimuliError, match="row 2: State is '9 hearts'"):
            numbered_trials(path, STUDY)


def test_a_caller_may_do_with_its_list_as_it_likes(tmp_path):
    numbered_trials(STIMULI, STUDY).clear()
    assert len(numbered_trials(STIMULI, STUDY)) > LEAST


def test_a_text_that_was_changed_is_no_entry(tmp_path):
    path = tmp_path / "a.json"
    understood.write(path, {"a": 1})
    if not sys.dont_write_bytecode:
        assert understood.read(path) == {"a": 1}
        path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    assert understood.read(path) is None
