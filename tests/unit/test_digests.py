"""Digests change with what matters and with nothing else."""

from grace import digests


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digests.digest({"a": 1, "b": [1, 2]}) == digests.digest({"b": [1, 2], "a": 1})
    assert digests.digest({"a": 1, "b": 2}) != digests.digest({"a": 2, "b": 1})


def code(monkeypatch, tmp_path, text: str) -> str:
    monkeypatch.setattr(digests, "LIBRARY", tmp_path)
    (tmp_path / "module.py").write_text(text)
    return digests.code_digest(["module.py"])


def test_comments_docstrings_and_layout_do_not_count(monkeypatch, tmp_path):
    first = code(monkeypatch, tmp_path, 'def f(x):\n    """Old."""\n    return x + 1\n')
    second = code(
        monkeypatch,
        tmp_path,
        '"""Module."""\n\ndef f( x ):\n    """New."""\n    # why\n    return x+1\n',
    )
    assert first == second


def test_arithmetic_counts(monkeypatch, tmp_path):
    first = code(monkeypatch, tmp_path, "def f(x):\n    return x + 1\n")
    assert first != code(monkeypatch, tmp_path, "def f(x):\n    return x + 2\n")
