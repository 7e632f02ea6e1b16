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


def code_digest(modules: Iterable[str]) -> str:
    """Digest of library modules as Python understands them.

    Names are relative to the library, as in `studies/study1.py`. Comments, docstrings and layout
    do not count: editing them makes no result stale.
    """
    parts = {}
    for name in modules:
        tree = ast.parse((LIBRARY / name).read_text(encoding="utf-8"))
        parts[name] = ast.dump(_without_docstrings(tree))
    return digest(parts)
