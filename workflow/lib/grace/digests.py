"""Digests: of values, of files, of the code that can change an output."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parent
#: Where the library lies in a project.
LIBRARY_PATH = "workflow/lib/grace"


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


def _imported(path: Path, tree: ast.Module) -> set[str]:
    """The library's files that the module in a file imports, wherever the import stands.

    Importing a module runs its packages' `__init__` files, so these are among them; what one of
    them hands on is found where it comes from.
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = _module(path, node)
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    found: set[str] = set()
    for name in names:
        package, *parts = name.split(".")
        if package == LIBRARY.name:
            found |= _files_behind(parts)
    return found


def _module(path: Path, node: ast.ImportFrom) -> str:
    """What an import names, in full also where it says only how many folders up that is."""
    if node.level == 0 or not path.is_relative_to(LIBRARY):
        return node.module or ""
    folder = path.parents[node.level - 1].relative_to(LIBRARY.parent)
    return ".".join([*folder.parts, *([node.module] if node.module else [])])


def _files_behind(parts: list[str]) -> set[str]:
    """The files that an import of `grace.<parts>` runs; the last part may be a name in a module."""
    packages = ["/".join([*parts[:depth], "__init__.py"]) for depth in range(len(parts) + 1)]
    found = {"/".join(parts) + ".py", *packages}
    if parts:
        found |= _handed_on(LIBRARY.joinpath(*parts[:-1], "__init__.py"), parts[-1])
    return {path for path in found if (LIBRARY / path).is_file()}


def _handed_on(package: Path, name: str) -> set[str]:
    """The modules from which a package's `__init__` imports a name, to hand it on."""
    if not package.is_file():
        return set()
    return {
        _module(package, node).partition(".")[2].replace(".", "/") + ".py"
        for node in _parsed(package).body
        if isinstance(node, ast.ImportFrom)
        if any((alias.asname or alias.name) == name for alias in node.names)
    }


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _shape(value: Any) -> Any:
    """A syntax tree as nested lists, without empty fields, which Python's versions differ in."""
    if isinstance(value, ast.JoinedStr):
        # Python 3.12 ends some nested formats with an empty piece of text.
        pieces = [v for v in value.values if not (isinstance(v, ast.Constant) and v.value == "")]
        value = ast.JoinedStr(pieces)
    if isinstance(value, ast.AST):
        fields = ast.iter_fields(value)
        return [
            type(value).__name__,
            *([name, _shape(field)] for name, field in fields if field is not None and field != []),
        ]
    return [_shape(item) for item in value] if isinstance(value, list) else repr(value)


def _tree_digest(tree: ast.Module) -> str:
    return digest(_shape(_without_docstrings(tree)))


def source_digest(path: Path) -> str:
    """Digest of a source file: Python as Python understands it, all else by its bytes.

    In Python comments, docstrings and layout do not count, nor does Python's version. Raises
    `OSError` and `SyntaxError`.
    """
    if path.suffix == ".py":
        return _tree_digest(_parsed(path))
    return file_digest(path)


def script_imports(path: Path) -> set[str]:
    """The library's modules that a script in Python imports, named as in `code_digests`."""
    return _imported(path, _parsed(path))


def code_digests(roots: Iterable[str], inert: Iterable[str] = ()) -> dict[str, str]:
    """Digests of library modules and of all that they import, by path from the project's root.

    Names are relative to the library, as in `studies/study1.py`. `inert` modules, which cannot
    change an output, are left out with what only they import. A package's `__init__` counts, but
    not all that it lists: only what is imported from it. Comments, docstrings and layout do not
    count: editing them makes no result stale.
    """
    parts: dict[str, str] = {}
    pending = set(roots)
    left_out = set(inert)
    while pending:
        name = pending.pop()
        tree = _parsed(LIBRARY / name)
        parts[name] = _tree_digest(tree)
        if not name.endswith("__init__.py"):
            pending |= _imported(LIBRARY / name, tree) - left_out - parts.keys()
    return {f"{LIBRARY_PATH}/{name}": parts[name] for name in sorted(parts)}
