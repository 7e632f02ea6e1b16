"""Digests change with what matters and with nothing else."""

import pytest

from grace import digests, source_code


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digests.digest({"a": 1, "b": [1, 2]}) == digests.digest({"b": [1, 2], "a": 1})
    assert digests.digest({"a": 1, "b": 2}) != digests.digest({"a": 2, "b": 1})


@pytest.fixture
def library(monkeypatch, tmp_path):
    """A library whose files a test writes; the digest is of `main.py`."""
    folder = tmp_path / "grace"
    (folder / "deep").mkdir(parents=True)
    monkeypatch.setattr(source_code, "LIBRARY", folder)

    def code(no_effect=(), **files: str) -> str:
        for name, text in files.items():
            (folder / f"{name.replace('__', '/')}.py").write_text(text)
        return source_code.joined_digest(source_code.closure(["main.py"], no_effect))

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
        "from .deep.part import f",
        "from .deep import part",
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


def test_modules_without_effect_do_not_count(library):
    first = library(["a.py"], main="import grace.a", a="x = 1")
    assert library(["a.py"], a="x = 2") == first


def test_a_module_is_parsed_once_however_many_rules_ask_for_it(library, monkeypatch):
    library(main="import grace.a", a="x = 1")
    first = library()
    monkeypatch.setattr(source_code.ast, "parse", lambda text: pytest.fail("parsed again"))
    assert library() == first


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
        source_code.source_digest(path)
        == "e22380e00d3a14d91ea7b6aff466058c66362da9ade7c942cbc012b051d91304"
    )


@pytest.fixture
def named(monkeypatch, tmp_path):
    """A library of the files given, in a folder of its own; the digest is of what `main` runs."""
    counter = iter(range(100))

    def code(root: str = "main.py", /, **files: str) -> str:
        folder = tmp_path / str(next(counter)) / "grace"
        for name, text in files.items():
            path = folder / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            for package in path.relative_to(folder).parents:
                if not (folder / package / "__init__.py").exists():
                    (folder / package / "__init__.py").write_text('"""A room."""\n')
        monkeypatch.setattr(source_code, "LIBRARY", folder)
        return source_code.joined_digest(source_code.closure([root]))

    return code


F = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from grace.a import f\n\ny = f(1)", "from grace.deep.b import f\n\ny = f(1)"),
        ("from grace import a\n\ny = a.f(1)", "from grace.deep import b\n\ny = b.f(1)"),
        ("from . import a\n\ny = a.f(1)", "from .deep import b\n\ny = b.f(1)"),
        ("from grace import a\n\ny = a.f(1)", "from grace.deep import b as a\n\ny = a.f(1)"),
        ("import grace.a\n\ny = grace.a.f(1)", "import grace.deep.b\n\ny = grace.deep.b.f(1)"),
        ("import grace.a as z\n\ny = z.f(1)", "from grace.deep import b\n\ny = b.f(1)"),
        (
            "from grace import a, c\n\ny = a.f(c.d)",
            "from grace import c\nfrom grace.deep import b\n\ny = b.f(c.d)",
        ),
        (
            "def g():\n    from grace.a import f\n    return f",
            "def g():\n    from grace.deep.b import f\n    return f",
        ),
        (
            "import os\nfrom grace.a import f\nfrom grace.c import d",
            "import os\nfrom grace.c import d\nfrom grace.deep.b import f",
        ),
    ],
)
def test_a_module_of_another_name_in_another_room_is_the_same_code(named, before, after):
    c = "from grace.a import f\nd = f(2)"
    first = named(main=before, a=F, c=c)
    assert named(main=after, deep__b=F, c=c.replace("grace.a", "grace.deep.b")) == first
    assert named(main=after, deep__b=F.replace("1", "2"), c=c.replace(".a", ".deep.b")) != first
    assert named("made.py", made=before, a=F, c=c) == first


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from grace.a import f", "from grace.b import f"),
        ("from grace import a\ny = a.f(1)", "from grace import b\ny = b.f(1)"),
        ("from grace import a, b\ny = a.f(b.f(1))", "from grace import a, b\ny = b.f(a.f(1))"),
        ("import grace.a, grace.b\ny = grace.a.f", "import grace.a, grace.b\ny = grace.b.f"),
        ("from grace.a import f", "from grace.a import f as g"),
        ("from grace.a import f", "from grace.a import e as f"),
    ],
)
def test_the_same_name_of_another_module_is_other_code(named, before, after):
    # Both are imported either way, so that only where a name comes from is different.
    files = {"a": f"{F}e = 1", "b": F.replace("1", "2"), "c": "import grace.a, grace.b"}
    both = "import grace.c\n"
    assert named(main=both + before, **files) != named(main=both + after, **files)


def test_two_modules_that_change_places_are_other_code(named):
    main = "from grace.a import f\nfrom grace.b import g"
    a, b = "f = 1\ng = 2", "f = 3\ng = 4"
    assert named(main=main, a=a, b=b) != named(main=main, a=b, b=a)


def test_a_modules_name_in_a_text_counts(named):
    assert named(main='x = "grace.a"', a=F) != named(main='x = "grace.b"', b=F)
