"""Expressions, message texts and patterns of a declaration: what of Jinja2 and `re` they may use.

An expression names columns and values, compares, counts and cuts texts. It has no attributes (but
`patterns.<name>`), no calls, no loops: it can neither run code nor run on. A regular expression
stands under `patterns`; it may name another as {{ name }}, and what a row holds as
{{ column | filter }}, which is matched as plain text. `re` has no time limit, so texts have a
length limit, and `grace.studies.patience` ends a search that takes too long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from grace.errors import ConfigError
from grace.prompts.plain_text import shortened
from grace.studies.patience import patience

#: Characters of a text that is searched or made.
MOST_CHARACTERS = 10**6
#: Numbers that may be reckoned with, up and down.
MOST = 10**15

_TESTS = ("eq", "ge", "gt", "in", "le", "lt", "ne", "none")
_OPERATORS = {"+", "-", "*", "/", "//", "%"}
_NODES = (
    nodes.Name, nodes.Const, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or,
    nodes.Not, nodes.Filter, nodes.Test, nodes.List, nodes.Tuple, nodes.Concat, nodes.Add,
    nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos,
)  # fmt: skip
#: What stands for `patterns.<name>` once an expression is read.
_PATTERN = "_pattern_"
_BRACES = re.compile(r"\{\{(.+?)\}\}", re.DOTALL)
_GROUP = re.compile(r"\{(\w+)\}")
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
#: Names that mean something else in an expression.
RESERVED = frozenset(
    [
        "true",
        "false",
        "none",
        "True",
        "False",
        "None",
        "and",
        "or",
        "not",
        "in",
        "is",
        "if",
        "else",
        "patterns",
        "value",
        "option",
        "loop",
        "self",
        "super",
        "caller",
        "varargs",
        "kwargs",
        "range",
    ]
)


class _RefusedError(Exception):
    """An expression holds what the language leaves out, or fails; the text says what."""


def _pattern(value: Any, name: str) -> re.Pattern[str]:
    if not isinstance(value, re.Pattern):
        raise _RefusedError(f"the filter {name} takes a pattern, as in {name}(patterns.<name>)")
    return value


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    if len(text) > MOST_CHARACTERS:
        raise _RefusedError(f"a text of more than {MOST_CHARACTERS:,} characters")
    return text


def _matches(value: Any, pattern: Any) -> bool:
    """Whether the pattern is found anywhere in the text."""
    with patience(_pattern(pattern, "matches")):
        return pattern.search(_text(value)) is not None


def _findall(value: Any, pattern: Any) -> list[str]:
    """What the pattern finds, its first group where it has groups."""
    with patience(_pattern(pattern, "findall")):
        group = 1 if pattern.groups else 0
        return [match[group] for match in pattern.finditer(_text(value))]


def _extract(value: Any, pattern: Any, form: str) -> str:
    """The first match, written as `form` says: {name} stands for a group."""
    with patience(_pattern(pattern, "extract")):
        match = pattern.search(_text(value))
    if match is None:
        raise _RefusedError(
            f"{shortened(_text(value))} does not match {shortened(pattern.pattern)}"
        )
    groups = match.groupdict()
    unknown = sorted(set(_GROUP.findall(form)) - groups.keys())
    if unknown:
        raise _RefusedError(f"the pattern has no group {unknown[0]}, only {', '.join(groups)}")
    return _text(_GROUP.sub(lambda found: groups[found[1]] or "", form))


def _sub(value: Any, pattern: Any, text: str) -> str:
    """Every match replaced by the text, which is taken as it stands."""
    with patience(_pattern(pattern, "sub")):
        return _text(pattern.sub(lambda _: text, _text(value)))


def _without(values: Iterable[Any], unwanted: Iterable[Any]) -> list[Any]:
    """The values that, as text, are none of the unwanted ones."""
    left_out = {str(value) for value in unwanted}
    return [value for value in values if str(value) not in left_out]


def _first(values: Any) -> Any:
    """The first value of a list."""
    for value in values:
        return value
    raise _RefusedError("the filter first needs a list with something in it")


def _integer(value: Any) -> int:
    """A whole number."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise _RefusedError(f"{shortened(str(value))} is no whole number") from None


def _number(value: Any) -> float:
    """A number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise _RefusedError(f"{shortened(str(value))} is no number") from None


FILTERS: dict[str, Any] = {
    "abs": abs,
    "extract": _extract,
    "findall": _findall,
    "first": _first,
    "float": _number,
    "format_number": lambda value: f"{value:g}",
    "head": lambda value, most: _text(value)[:most],
    "int": _integer,
    "join": lambda values, between="": _text(between.join(map(str, values))),
    "length": len,
    "lower": lambda value: _text(value).lower(),
    "matches": _matches,
    "quoted": lambda value: shortened(_text(value)),
    "round": lambda value, digits=0: round(value, digits),
    "rstrip": lambda value, characters=None: _text(value).rstrip(characters),
    "strip": lambda value, characters=None: _text(value).strip(characters),
    "sub": _sub,
    "upper": lambda value: _text(value).upper(),
    "without": _without,
}
_ALLOWED = (
    "Expressions may hold names of columns, texts, numbers, lists, comparisons, and, or, not, if …"
    f" else, + - * / // % for numbers, ~ for texts, patterns.<name>, and the filters"
    f" {', '.join(FILTERS)}"
)


class _PatternNames(NodeTransformer):
    """`patterns.<name>` as a name of its own."""

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        return nodes.Name(_PATTERN + node.attr, "load", lineno=node.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(_OPERATORS | {"**"})

    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=False, optimized=False)
        self.filters = dict(FILTERS)
        self.tests = {name: self.tests[name] for name in _TESTS}
        self.globals = {}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        for value in (left, right):
            if type(value) not in (int, float) or not abs(value) <= MOST:
                raise _RefusedError(
                    f"'{operator}' is for numbers, up to {MOST:,}; texts are put together with ~"
                )
        return super().call_binop(context, operator, left, right)

    def expression(self, source: str) -> nodes.Expr:
        """The tree of one expression, checked. Raises `_RefusedError`."""
        try:
            parser = Parser(self, source, state="variable")
            tree = parser.parse_expression()
            if not parser.stream.eos:
                raise _RefusedError(f"'{parser.stream.current.value}' is too much")
        except jinja2.TemplateSyntaxError as error:
            raise _RefusedError(str(error.message).rstrip(".")) from None
        _check(tree)
        transformed = _PatternNames().visit(tree)
        assert isinstance(transformed, nodes.Expr)
        return transformed

    def compiled(self, tree: nodes.Expr) -> jinja2.Template:
        """A template that leaves the expression's value in `result`."""
        body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), tree, lineno=1)]
        template = nodes.Template(body, lineno=1)
        template.set_environment(self)
        return self.from_string(template)


def _check(node: nodes.Node) -> None:
    def refuse(what: str) -> None:
        raise _RefusedError(f"{what} is not allowed. {_ALLOWED}")

    match node:
        case nodes.Getattr(node=nodes.Name(name="patterns")):
            return
        case nodes.Getattr(attr=attribute):
            refuse(f"the attribute .{attribute}")
        case nodes.Getitem():
            refuse("taking a part with [ ]")
        case nodes.Call():
            refuse("a call")
        case nodes.Name(name=name) if name.startswith("_") or name == "patterns":
            refuse(f"the name {name}")
        case nodes.Filter(name=name) if name not in FILTERS:
            refuse(f"the filter {name}")
        case nodes.Test(name=name) if name not in _TESTS:
            refuse(f"the test {name}")
        case nodes.Keyword() | nodes.Pair():
            pass
        case _ if not isinstance(node, _NODES):
            refuse(f"'{type(node).__name__.lower()}'")
    for child in node.iter_child_nodes():
        _check(child)


_ENVIRONMENT = _Environment()


class Expression:
    """One expression. Raises `ConfigError`, beginning with `place`, for one that is not allowed."""

    def __init__(self, source: str, place: str) -> None:
        self.source, self.place = source, place
        try:
            tree = _ENVIRONMENT.expression(source)
            self._template = _ENVIRONMENT.compiled(tree)
        except _RefusedError as error:
            raise ConfigError(f"{place}: {shortened(source)}: {error}.") from None
        except (RecursionError, MemoryError, SyntaxError, ValueError):
            raise ConfigError(
                f"{place}: {shortened(source)}: is nested too deeply or too long; simplify it."
            ) from None
        found = {node.name for node in tree.find_all(nodes.Name)}
        if isinstance(tree, nodes.Name):
            found.add(tree.name)
        #: Names of columns and other values that it uses.
        self.names = {name for name in found if not name.startswith(_PATTERN)}
        #: Names of patterns that it uses.
        self.patterns = {name.removeprefix(_PATTERN) for name in found - self.names}

    def value(self, values: Mapping[str, Any], patterns: Patterns) -> Any:
        """What it gives for a row. Raises `ConfigError` where it fails."""
        known = {_PATTERN + name: patterns.compiled(name, values) for name in self.patterns}
        context = self._template.new_context({**values, **known})
        try:
            for _ in self._template.root_render_func(context):
                pass
            result = context.vars["result"]
            if isinstance(result, jinja2.Undefined):
                result._fail_with_undefined_error()
        except _RefusedError as error:
            raise ConfigError(f"{self.place}: {shortened(self.source)}: {error}.") from None
        except ConfigError:
            raise
        except Exception as error:  # whatever an expression does is its own fault
            what = "divides by zero" if isinstance(error, ZeroDivisionError) else str(error)
            what = what.split("\n")[0].rstrip(". ")[:300]
            raise ConfigError(f"{self.place}: {shortened(self.source)}: {what}.") from None
        return result


class TextTemplate:
    """A text with {{ expressions }} in it, as messages are."""

    def __init__(self, source: str, place: str) -> None:
        self.source = source
        parts = _BRACES.split(source)
        self._parts: list[str | Expression] = [
            Expression(part.strip(), place) if number % 2 else part
            for number, part in enumerate(parts)
        ]
        self.expressions = [part for part in self._parts if isinstance(part, Expression)]

    def render(self, values: Mapping[str, Any], patterns: Patterns) -> str:
        """The text for a row. Raises `ConfigError` where an expression fails."""
        return "".join(
            part if isinstance(part, str) else str(part.value(values, patterns))
            for part in self._parts
        )


def _joined(parts: Iterable[str | Expression]) -> list[str | Expression]:
    """Neighbouring texts as one: patterns are put together for every row."""
    found: list[str | Expression] = []
    for part in parts:
        if found and isinstance(part, str) and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


@lru_cache(4096)
def _compiled(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


class Patterns:
    """Named regular expressions. Raises `ConfigError` for one that is none."""

    def __init__(self, sources: Mapping[str, str], place: str) -> None:
        self.sources, self._place = dict(sources), place
        self._split: dict[str, list[str | Expression]] = {}
        for name in self.sources:
            self._parts(name, ())
        for name, parts in self._split.items():
            if not any(isinstance(part, Expression) for part in parts):
                self.compiled(name, {})

    def _parts(self, name: str, above: tuple[str, ...]) -> list[str | Expression]:
        if name in above:
            circle = " → ".join((*above[above.index(name) :], name))
            raise ConfigError(f"{self._place}.{name}: the pattern holds itself ({circle}).")
        if name not in self._split:
            source = self.sources[name]
            self._split[name] = self._read(source, f"{self._place}.{name}", (*above, name))
        return self._split[name]

    def _read(self, source: str, place: str, above: tuple[str, ...]) -> list[str | Expression]:
        parts: list[str | Expression] = []
        for number, part in enumerate(_BRACES.split(source)):
            named = part.strip()
            if number % 2 == 0:
                parts.append(part)
            elif named in self.sources:
                parts += ["(?:", *self._parts(named, above), ")"]
            else:
                expression = Expression(named, place)
                for used in sorted(expression.patterns):
                    self.check_known(used, place)
                    self._parts(used, above)
                parts.append(expression)
        return _joined(parts)

    def check_known(self, name: str, place: str) -> None:
        """Raises `ConfigError` for a pattern that is not there."""
        if name not in self.sources:
            known = ", ".join(sorted(self.sources)) or "none"
            raise ConfigError(f"{place}: there is no pattern '{name}'. Patterns here: {known}.")

    def expressions(self, name: str) -> list[Expression]:
        """The expressions over a row in a pattern and in those that it names."""
        return [part for part in self._split[name] if isinstance(part, Expression)]

    def resolved(self, name: str) -> str:
        """A pattern with those that it names, its expressions in braces."""
        return "".join(
            part if isinstance(part, str) else f"{{{{ {part.source} }}}}"
            for part in self._split[name]
        )

    def inline(self, source: str, place: str) -> re.Pattern[str]:
        """A pattern that has no name; one of a row's values cannot stand in it."""
        parts = self._read(source, place, ())
        for part in parts:
            if isinstance(part, Expression):
                self.check_known(part.source, place)
        return self._compile("".join(map(str, parts)), place)

    def compiled(self, name: str, values: Mapping[str, Any]) -> re.Pattern[str]:
        """A pattern for a row. Raises `ConfigError`."""
        place = f"{self._place}.{name}"
        self.check_known(name, self._place)
        text = "".join(
            part if isinstance(part, str) else re.escape(str(part.value(values, self)))
            for part in self._split[name]
        )
        return self._compile(text, place)

    @staticmethod
    def _compile(text: str, place: str) -> re.Pattern[str]:
        try:
            return _compiled(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(
                f"{place}: {shortened(text)} is no regular expression: {error}."
            ) from None
