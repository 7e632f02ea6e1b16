"""Digests change with what matters and with nothing else."""

import pytest

from grace import digests


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digests.digest({"a": 1, "b": [1, 2]}) == digests.digest({"b": [1, 2], "a": 1})
    assert digests.digest({"a": 1, "b": 2}) != digests.digest({"a": 2, "b": 1})


@pytest.fixture
def library(monkeypatch, tmp_path):
    """A library whose files a test writes; the digest is of `main.py`."""
    folder = tmp_path / "grace"
    (folder / "deep").mkdir(parents=True)
    monkeypatch.setattr(digests, "LIBRARY", folder)

    def code(inert=(), **files: str) -> str:
        for name, text in files.items():
            (folder / f"{name.replace('__', '/')}.py").write_text(text)
        return digests.code_digests(["main.py"], inert)

    return code


def test_comments_docstrings_and_layout_do_not_count(library):
    first = library(main='def f(x):\n    """Old."""\n    return x + 1\n')
    text = '"""Module."""\n\ndef f( x ):\n    """New."""\n    # why\n    return x+1\n'
    assert library(main=text) == first


def test_arithmetic_counts(library):
    first = library(main="def f(x):\n    return x + 1\n")
    assert library(main="def f(x):\n    return x + 2\n") != first


@pytest.mark.parametrize(
    "statement",
    [
        "from grace.deep.part import f",
        "from grace.deep import part",
        "import grace.deep.part",
        "def g():\n    from grace.deep.part import f",
    ],
)
def test_what_a_module_imports_counts_however_it_imports_it(library, statement):
    first = library(main=statement, deep__part="f = 1")
    assert library(deep__part="f = 2") != first


@pytest.mark.parametrize(
    "statement", ["from .part import f", "from . import part", "from ..deep import part"]
)
def test_an_import_that_says_how_far_up_counts(library, statement):
    first = library(main="import grace.deep.a", deep__a=statement, deep__part="f = 1")
    assert library(deep__part="f = 2") != first


def test_imports_of_imports_count_and_cycles_end(library):
    first = library(main="import grace.a", a="import grace.b", b="import grace.a\nx = 1")
    assert library(b="import grace.a\nx = 2") != first


def test_inert_modules_do_not_count(library):
    first = library(["a.py"], main="import grace.a", a="x = 1")
    assert library(["a.py"], a="x = 2") == first


def test_values_that_are_alike_count_as_different(library):
    found = {
        str(library(main=f"x = {value}")) for value in ("0", "0.0", "False", "''", "b''", "None")
    }
    assert len(found) == 6


def test_a_digest_of_code_is_the_same_in_every_version_of_python(tmp_path):
    # Its syntax trees differ between versions in fields that are empty here. Seen in 3.11 to 3.13.
    path = tmp_path / "code.py"
    path.write_text(
        "import os\n\n\n"
        "class A(dict):\n    async def f(self, *a, b: int = 0, **c) -> str:\n"
        "        match a:\n            case [x, *_] if x:\n                return f'{x!r:>{b}}'\n"
        "        return u'' or [y := 1, *(z for z in a)][-1] or (lambda: ...)\n"
    )
    assert (
        digests.source_digest(path)
        == "e22380e00d3a14d91ea7b6aff466058c66362da9ade7c942cbc012b051d91304"
    )
