"""What is understood of sources is kept between processes, and never out of date."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grace import understood
from grace.source_cache import MOST, NAME, SourceCache
from grace.source_code import LIBRARY

TELL = """
import json, sys
from grace import source_code

asked = []
understand = source_code._understand
source_code._understand = lambda *of: asked.append(1) or understand(*of)
found = source_code.closure(sys.argv[1:])
print(json.dumps([len(asked), {name: one.written() for name, one in found.items()}]))
"""


@pytest.fixture
def library(tmp_path) -> Path:
    folder = tmp_path / "grace"
    shutil.copytree(LIBRARY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def kept(library: Path) -> Path:
    return library / "__pycache__" / NAME


def closure(library: Path, *flags: str):
    """How many files a new process had to understand, and what it found."""
    roots = ("experiments/generation.py", "results/tables.py")
    done = subprocess.run(
        [sys.executable, *flags, "-c", TELL, *roots],
        cwd=library.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_a_second_process_understands_nothing_anew_and_finds_the_same(library):
    first, found = closure(library)
    assert first == len(found) > 30
    assert closure(library) == [0, found]


def test_an_edit_is_understood_and_only_it(library):
    _, before = closure(library)
    module = library / "results" / "tables.py"
    module.write_text(module.read_text() + "\nANOTHER = 1\n")
    asked, after = closure(library)
    assert asked == 1
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"workflow/lib/grace/results/tables.py"}


@pytest.mark.parametrize("edit", ["a module more", "a package's names"])
def test_what_a_module_means_may_depend_on_others(library, edit):
    _, before = closure(library)
    if edit == "a module more":
        (library / "another.py").write_text("")
    else:
        names = library / "results" / "__init__.py"
        names.write_text(names.read_text() + "\nfrom grace.results.tables import *\n")
    assert closure(library)[0] == len(before)


def test_a_broken_file_costs_reading_again(library):
    first, found = closure(library)
    for broken in (b"", b"\xff", b"[1]", b"{", b'{"a": '):
        kept(library).write_bytes(broken)
        assert closure(library) == [first, found], broken
    assert closure(library) == [0, found]


def test_an_entry_that_is_none_costs_reading_again(library):
    first, found = closure(library)
    for wrong in (None, 3, [], ["a"], ["a", ["b"], [["c"]], True], {"a": 1}):
        understood.write(kept(library), dict.fromkeys(understood.read(kept(library)), wrong))
        assert closure(library) == [first, found], wrong


def test_nothing_is_written_where_python_writes_nothing(library):
    closure(library, "-B")
    assert not kept(library).exists()


def test_a_file_of_many_edits_begins_anew(library):
    _, found = closure(library)
    understood.write(kept(library), {str(number): [] for number in range(MOST)})
    closure(library)
    assert len(understood.read(kept(library))) == len(found)


def test_a_place_that_cannot_be_written_is_no_fault(library):
    (library / "__pycache__").write_text("a file, where the folder would be")
    assert closure(library) == closure(library)


def test_what_an_entry_follows_from_is_in_its_name(library):
    cache = SourceCache(library)
    assert cache.key("text", None) != cache.key("text", ["results"]) != cache.key("other", None)
    assert cache.key("text", None) == SourceCache(library).key("text", None)
