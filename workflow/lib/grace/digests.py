"""Digests: of values, of files, of the code that can change an output."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

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


class _Name(NamedTuple):
    """A module, or a name in one, as an import says it: in full, or from so many folders up."""

    level: int
    words: str

    def full(self, path: Path) -> str:
        """As the module in a file means it."""
        if self.level == 0 or not path.is_relative_to(LIBRARY):
            return self.words
        folder = path.parents[self.level - 1].relative_to(LIBRARY.parent)
        return ".".join([*folder.parts, *([self.words] if self.words else [])])


class _Source(NamedTuple):
    """What a text in Python says: its digest, the modules and names that it imports, wherever the
    import stands, and the module that each name of its top level is imported from.
    """

    digest: str
    imports: frozenset[_Name]
    origins: Mapping[str, _Name]


def _drop_docstring(node: ast.AST) -> None:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:] or [ast.Pass()]


@cache
def _understood(text: str) -> _Source:
    """Kept by the text: a run asks for the same modules' digests for each of its rules."""
    tree = ast.parse(text)
    names: set[_Name] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {_Name(0, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = _Name(node.level, node.module or "")
            prefix = f"{node.module}." if node.module else ""
            names |= {origin, *(_Name(node.level, prefix + alias.name) for alias in node.names)}
        else:
            _drop_docstring(node)
    origins = {
        alias.asname or alias.name: _Name(node.level, node.module or "")
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return _Source(digest(_shape(tree)), frozenset(names), origins)


def _imported(path: Path, source: _Source) -> set[str]:
    """The library's files that the module in a file imports.

    Importing a module runs its packages' `__init__` files, so these are among them; what one of
    them hands on is found where it comes from.
    """
    found: set[str] = set()
    for name in source.imports:
        package, *parts = name.full(path).split(".")
        if package == LIBRARY.name:
            found |= _files_behind(parts)
    return found


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
    origin = _source(package).origins.get(name)
    if origin is None:
        return set()
    return {origin.full(package).partition(".")[2].replace(".", "/") + ".py"}


def _source(path: Path) -> _Source:
    return _understood(path.read_text(encoding="utf-8"))


def _shape(value: Any) -> Any:
    """A syntax tree as nested lists, without empty fields, which Python's versions differ in."""
    if isinstance(value, ast.JoinedStr):
        # Python 3.12 ends some nested formats with an empty piece of text.
        pieces = [v for v in value.values if not (isinstance(v, ast.Constant) and v.value == "")]
        value = ast.JoinedStr(pieces)
    if isinstance(value, ast.AST):
        shape: list[Any] = [type(value).__name__]
        for name in value._fields:
            field = getattr(value, name, None)
            if field is not None and field != []:
                shape.append([name, _shape(field)])
        return shape
    return [_shape(item) for item in value] if isinstance(value, list) else repr(value)


def source_digest(path: Path) -> str:
    """Digest of a source file: Python as Python understands it, all else by its bytes.

    In Python comments, docstrings and layout do not count, nor does Python's version. Raises
    `OSError` and `SyntaxError`.
    """
    if path.suffix == ".py":
        return _source(path).digest
    return file_digest(path)


def script_imports(path: Path) -> set[str]:
    """The library's modules that a script in Python imports, named as in `code_digests`."""
    return _imported(path, _source(path))


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
        source = _source(LIBRARY / name)
        parts[name] = source.digest
        if not name.endswith("__init__.py"):
            pending |= _imported(LIBRARY / name, source) - left_out - parts.keys()
    return {f"{LIBRARY_PATH}/{name}": parts[name] for name in sorted(parts)}
