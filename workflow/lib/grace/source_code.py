"""Digests of source code, whatever its modules are called and wherever they lie.

Python counts as Python understands it: comments, docstrings and layout do not count, nor does the
version of Python. An import of the library counts by the content of what is imported, so that a
module that is renamed or moved, with all imports of it and all uses of it as a module, is the same
code. Its name in a text (`"grace.module"`) counts as text.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from grace.digests import digest, file_digest
from grace.source_cache import SourceCache

LIBRARY = Path(__file__).parent
#: Where the library lies in a project.
LIBRARY_PATH = "workflow/lib/grace"
#: What stands in the place of a module's name. No identifier.
_MODULE = "<module>"


@dataclass(frozen=True)
class SourceFile:
    """A source file.

    `digest` is of its own text, in which names that are imported from the library count and names
    of its modules do not. `imports` are the library's files that importing it runs, and `uses` says
    in which of them each imported name, and each use of a module, ends. `empty` is a file of
    comments and docstrings alone.
    """

    digest: str
    imports: frozenset[str] = frozenset()
    uses: tuple[tuple[str, frozenset[str]], ...] = ()
    empty: bool = False

    def written(self) -> list[Any]:
        """As JSON holds it; `read` takes it back."""
        uses = [[name, sorted(files)] for name, files in self.uses]
        return [self.digest, sorted(self.imports), uses, self.empty]

    @classmethod
    def read(cls, written: Any) -> SourceFile | None:
        """What was written; None for anything else."""
        try:
            found, imports, uses, empty = written
            pairs = tuple((name, frozenset(files)) for name, files in uses)
            return cls(found, frozenset(imports), pairs, empty)
        except (TypeError, ValueError):
            return None


def read_source(path: Path, library: Path | None = None) -> SourceFile:
    """A source file of a project whose library is in `library`, by default the one that runs.

    All but Python counts by its bytes. Raises `OSError` and `SyntaxError`.
    """
    if path.suffix != ".py":
        return SourceFile(file_digest(path))
    library = library or LIBRARY
    folder = path.parent.relative_to(library).parts if path.is_relative_to(library) else None
    return _understood(path.read_text(encoding="utf-8"), folder, library)


@cache
def _understood(text: str, folder: tuple[str, ...] | None, library: Path) -> SourceFile:
    """Kept by the text: a run asks for the same modules for each of its rules.

    `folder` is the file's below the library, which relative imports start from.
    """
    if library != LIBRARY:
        return _understand(text, folder, library)
    cache = _source_cache(library)
    key = cache.key(text, folder)
    known = SourceFile.read(cache.get(key))
    if known is None:
        known = _understand(text, folder, library)
        cache.keep(key, known.written())
    return known


@cache
def _source_cache(library: Path) -> SourceCache:
    return SourceCache(library)


def _understand(text: str, folder: tuple[str, ...] | None, library: Path) -> SourceFile:
    tree = _without_docstrings(ast.parse(text))
    names = _Names(library, folder)
    names.find(tree)
    names.visit(tree)
    imported = sorted(names.imported)
    shape = _shape(tree)
    return SourceFile(
        digest([shape, [name for name, _ in imported]] if imported else shape),
        frozenset(names.files),
        (*((name, frozenset(files)) for name, files in imported), *names.uses),
        empty=not imported and all(isinstance(node, ast.Pass) for node in tree.body),
    )


def source_digest(path: Path) -> str:
    """Digest of a source file's own text. Raises `OSError` and `SyntaxError`."""
    return read_source(path).digest


def script_imports(path: Path) -> set[str]:
    """The library's modules that a script in Python imports, named as in `closure`."""
    return set(read_source(path).imports)


def closure(roots: Iterable[str], no_effect: Iterable[str] = ()) -> dict[str, SourceFile]:
    """Library modules and all that they import, by path from the project's root.

    Names are relative to the library, as in `studies/study1.py`. Modules of `no_effect`, which
    cannot change an output, are left out with what only they import. A package's `__init__` counts,
    but not all that it lists: only what is imported from it.
    """
    found: dict[str, SourceFile] = {}
    pending, left_out = set(roots), set(no_effect)
    while pending:
        name = pending.pop()
        found[name] = read_source(LIBRARY / name)
        if not name.endswith("__init__.py"):
            pending |= found[name].imports - left_out - found.keys()
    return {f"{LIBRARY_PATH}/{name}": found[name] for name in sorted(found)}


def joined_digest(sources: Mapping[str, SourceFile]) -> str:
    """One digest of files by path from the project's root, and of how they import each other.

    Paths do not count, nor do files without a statement, such as most packages' `__init__`.
    """
    counted = {path: source for path, source in sources.items() if not source.empty}
    own = {path.removeprefix(f"{LIBRARY_PATH}/"): one.digest for path, one in counted.items()}
    return digest(
        sorted(
            digest(
                [
                    one.digest,
                    [[name, sorted(own[file] for file in files & own.keys())]
                     for name, files in one.uses],
                ]
            )
            for one in counted.values()
        )
    )  # fmt: skip


class _Names(ast.NodeTransformer):
    """Takes the library's imports and names of its modules out of a tree, and keeps them."""

    def __init__(self, library: Path, folder: tuple[str, ...] | None) -> None:
        self._library = library
        self._folder = folder
        #: Local names that stand for modules of the library, as the parts of theirs.
        self._modules: dict[str, list[list[str]]] = {}
        self.files: set[str] = set()
        self.imported: list[tuple[str, list[str]]] = []
        self.uses: list[tuple[str, frozenset[str]]] = []

    def find(self, tree: ast.Module) -> None:
        """Note all imports, wherever they stand, before any use is looked at."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if (parts := _inside(alias.name)) is not None:
                        self.files |= self._behind(parts)
                        bound = parts if alias.asname else []
                        local = alias.asname or LIBRARY.name
                        self._modules.setdefault(local, []).append(bound)
            elif isinstance(node, ast.ImportFrom) and (base := self._base(node)) is not None:
                self.files |= self._behind(base)
                for alias in node.names:
                    files = self._behind([*base, alias.name])
                    self.files |= files
                    if self._is_module([*base, alias.name]):
                        local = alias.asname or alias.name
                        self._modules.setdefault(local, []).append([*base, alias.name])
                    else:
                        name = f"{alias.name} as {alias.asname or alias.name}"
                        self.imported.append((name, sorted(files | self._behind(base))))

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Import(self, node: ast.Import) -> ast.Import | None:
        node.names = [alias for alias in node.names if _inside(alias.name) is None]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return node if self._base(node) is None else None

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._use(node, [])

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        after: list[str] = []
        start: ast.expr = node
        while isinstance(start, ast.Attribute):
            after.insert(0, start.attr)
            start = start.value
        if isinstance(start, ast.Name) and start.id in self._modules:
            return self._use(start, after)
        return self.generic_visit(node)

    def _use(self, name: ast.Name, after: list[str]) -> ast.expr:
        """A name and the attributes after it, without those that say which module it is."""
        if name.id not in self._modules:
            return name
        files: set[str] = set()
        depths = []
        for parts in self._modules[name.id]:
            depth = max(
                (n for n in range(len(after) + 1) if self._is_module([*parts, *after[:n]])),
                default=0,
            )
            depths.append(depth)
            last = after[depth] if depth < len(after) else "*"
            files |= self._behind([*parts, *after[:depth], last])
            files |= self._behind([*parts, *after[:depth]])
        self.uses.append((_MODULE, frozenset(files)))
        found: ast.expr = ast.Name(_MODULE, name.ctx)
        for attribute in after[max(depths) :]:
            found = ast.Attribute(found, attribute, ast.Load())
        return found

    def _base(self, node: ast.ImportFrom) -> list[str] | None:
        return _base(node, self._folder)

    def _is_module(self, parts: list[str]) -> bool:
        path = self._library.joinpath(*parts)
        return (path / "__init__.py").is_file() or (
            bool(parts) and path.with_name(f"{path.name}.py").is_file()
        )

    def _behind(self, parts: list[str]) -> set[str]:
        """The files that an import of `grace.<parts>` runs; the last may be a name in a module.

        Importing a module runs its packages' `__init__` files, so these are among them; what one of
        them hands on is found where it comes from.
        """
        packages = ["/".join([*parts[:depth], "__init__.py"]) for depth in range(len(parts) + 1)]
        found = {"/".join(parts) + ".py", *packages}
        if parts:
            found |= _handed_on(self._library, parts)
        return {path for path in found if (self._library / path).is_file()}


def _inside(name: str) -> list[str] | None:
    """The parts of a module's name below the library; None for a module of others."""
    package, *parts = name.split(".")
    return parts if package == LIBRARY.name else None


def _base(node: ast.ImportFrom, folder: tuple[str, ...] | None) -> list[str] | None:
    """What names are imported from, below the library; None where that is not in it."""
    if node.level == 0:
        return _inside(node.module or "")
    if folder is None or node.level > len(folder) + 1:
        return None
    above = folder[: len(folder) + 1 - node.level]
    return [*above, *(node.module.split(".") if node.module else [])]


def _handed_on(library: Path, parts: list[str]) -> set[str]:
    """The modules from which the `__init__` of a name's package imports it, to hand it on."""
    package = library.joinpath(*parts[:-1], "__init__.py")
    if not package.is_file():
        return set()
    return {
        "/".join(base) + ".py"
        for node in _parsed(package.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and (base := _base(node, tuple(parts[:-1])))
        if any((alias.asname or alias.name) == parts[-1] for alias in node.names)
    }


@cache
def _parsed(text: str) -> ast.Module:
    """Kept by the text, and not to be edited."""
    return ast.parse(text)


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
