"""Digests: of values, of files, of the code that can change an output."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parent


def digest(value: Any) -> str:
    """SHA-256 of a JSON-like value, independent of the order of keys. 64 hex digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes. 64 hex digits. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def _imported(tree: ast.Module) -> set[str]:
    """The library's files that a module imports, wherever the import stands."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    package = LIBRARY.name
    paths = {
        name.removeprefix(f"{package}.").replace(".", "/")
        for name in names
        if name.startswith(f"{package}.")
    }
    return {f"{path}.py" for path in paths if (LIBRARY / f"{path}.py").is_file()}


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def script_digest(path: Path) -> str:
    """Digest of a script alone: of Python as Python understands it, else of the bytes.

    64 hex digits. Raises `OSError`, and `SyntaxError` for Python that is none.
    """
    if path.suffix == ".py":
        return digest(ast.dump(_without_docstrings(_parsed(path))))
    return file_digest(path)


def script_imports(path: Path) -> set[str]:
    """The library's modules that a script in Python imports, named as in `code_digest`."""
    return _imported(_parsed(path))


def code_digest(roots: Iterable[str], inert: Iterable[str] = ()) -> str:
    """Digest of library modules and all that they import, as Python understands them.

    Names are relative to the library, as in `studies/study1.py`. `inert` modules, which cannot
    change an output, are left out with what only they import; so are packages' `__init__`
    files, which only list what there is. Comments, docstrings and layout do not count: editing
    them makes no result stale.
    """
    parts: dict[str, str] = {}
    pending = set(roots)
    left_out = set(inert)
    while pending:
        name = pending.pop()
        tree = _parsed(LIBRARY / name)
        imported = _imported(tree)
        parts[name] = ast.dump(_without_docstrings(tree))
        pending |= imported - left_out - parts.keys()
    return digest(parts)
