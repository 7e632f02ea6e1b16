"""One name, one thing: in the library no name of a class or a type stands for two.

And one place for what tests share: tests/support.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

LIBRARY = Path(__file__).parents[2] / "workflow/lib/grace"


def classes_in(tree: ast.Module) -> set[str]:
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def types_in(tree: ast.Module) -> dict[str, str]:
    """Names like a class's that a module gives to something else, with what that is."""
    return {
        node.targets[0].id: ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if node.targets[0].id[0].isupper() and not node.targets[0].id.isupper()
    }


def test_no_class_name_stands_for_two_things():
    classes: dict[str, list[str]] = defaultdict(list)
    types: dict[str, list[str]] = defaultdict(list)
    for path in LIBRARY.rglob("*.py"):
        name, tree = path.relative_to(LIBRARY).as_posix(), ast.parse(path.read_text("utf-8"))
        for one in classes_in(tree):
            if not one.startswith("_"):
                classes[one].append(name)
        for one in types_in(tree):
            types[one].append(name)
    assert classes["Project"] == ["settings/project.py"]
    assert {name: where for name, where in classes.items() if len(where) > 1} == {}
    assert {name: types[name] for name in classes.keys() & types.keys()} == {}


def test_no_test_file_imports_another():
    """It would run what the other runs when it is imported, and move with what is tested there."""
    tests = Path(__file__).parents[1]
    importing = re.compile(r"^(from|import) test_", re.M)
    assert not [path for path in tests.rglob("*.py") if importing.search(path.read_text("utf-8"))]
