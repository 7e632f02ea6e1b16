"""The language of prompt templates: the part of Jinja2 that cannot run code and always ends.

A template may hold text, values in double braces, `if`, `for`, `set` and `include`, with a few
filters and tests. All else is refused when the file is read: attributes, calls, macros,
inheritance. Jinja2's own sandbox stands behind that. A render takes a bounded number of steps, an
iteration or an included file each, and gives a bounded text.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from grace.errors import ConfigError
from grace.foreign_text import NotUtf8Error, decoded
from grace.prompts.plain_text import is_blank, known_control_token, unusable_character

#: Bytes of a template's file; iterations and included files of a render; characters of a text.
MOST_BYTES, MOST_STEPS, MOST_CHARACTERS = 64 * 2**10, 1_000, 10**6
#: Files that include each other, one within the other.
MOST_LEVELS = 20
#: Values of a list, those of the lists in it included.
MOST_VALUES = 1_000
#: What stands for a text that says nothing (Zhao et al. 2021, Calibrate before use, ICML).
NO_CONTENT = "N/A"
#: Numbers that may be reckoned with, up and down.
MOST = 10**9

FILTERS = (
    "capitalize", "default", "first", "join", "last", "length", "lower", "replace", "title",
    "trim", "upper",
)  # fmt: skip
TESTS = ("defined", "undefined", "eq", "even", "ge", "gt", "in", "le", "lt", "ne", "number", "odd")
LOOP = ("first", "index", "index0", "last", "length", "revindex", "revindex0")
_OPERATORS = {"+", "-", "*", "/", "//", "%"}
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If,
    nodes.CondExpr, nodes.For, nodes.Include, nodes.Assign, nodes.Compare, nodes.Operand,
    nodes.And, nodes.Or, nodes.Not, nodes.Filter, nodes.Test, nodes.List, nodes.Tuple,
    nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos,
)  # fmt: skip
_RESERVED = {"caller", "kwargs", "loop", "range", "self", "super", "varargs"}
_ALLOWED = (
    "Templates may hold text, {{ values }}, if, for, set and include;"
    f" the filters {', '.join(FILTERS)}; range(n) and loop.{', loop.'.join(LOOP)}"
)
_NAME = re.compile(r"[\w-][\w. -]*(?:/[\w-][\w. -]*)*")


class _Refused(jinja2.TemplateSyntaxError):
    """A template holds what the language leaves out."""


def _printable(value: Any) -> Any:
    if type(value) not in (str, int, float) and not isinstance(value, jinja2.Undefined):
        raise jinja2.TemplateRuntimeError(
            f"prints {str(value)[:40]!r}, which is neither a text nor a number"
        )
    return value


def _joined(values: Iterable[Any], between: str = "") -> str:
    pieces = [str(value) for value in values]
    _bounded(sum(map(len, pieces)) + len(pieces) * len(between))
    return between.join(pieces)


def _replaced(text: Any, old: str, new: str) -> str:
    text = str(text)
    _bounded(len(text) + text.count(old) * max(0, len(new) - len(old)))
    replaced: str = text.replace(old, new)
    return replaced


def _bounded(size: float) -> None:
    if size > MOST_CHARACTERS:
        raise jinja2.TemplateRuntimeError(
            f"gives a text of more than {MOST_CHARACTERS:,} characters"
        )


def _contents(value: Any) -> tuple[int, int]:
    """How many values and characters a value consists of; lists that it holds are bounded."""
    if isinstance(value, list | tuple):
        counts = [_contents(one) for one in value]
        return 1 + sum(values for values, _ in counts), sum(size for _, size in counts)
    return 1, len(value) if isinstance(value, str) else 0


def _filtered(node: nodes.Node, name: str, environment: jinja2.Environment) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=environment)


def _names(node: nodes.Node | None, context: str) -> set[str]:
    """The names that are read ("load") or given ("store") in a node and below it."""
    if node is None:
        return set()
    found = [*node.find_all(nodes.Name), *([node] if isinstance(node, nodes.Name) else [])]
    return {one.name for one in found if one.ctx == context}


class _Blanks(NodeTransformer):
    """Lets a template print `NO_CONTENT` where it prints what follows from some names."""

    def __init__(self, held: frozenset[str]) -> None:
        self._held = held

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        node.nodes = [self._blank(printed) for printed in node.nodes]
        return node

    def _blank(self, node: nodes.Expr) -> nodes.Expr:
        if isinstance(node, nodes.CondExpr):  # what decides is no part of the text
            node.expr1 = self._blank(node.expr1)
            node.expr2 = node.expr2 and self._blank(node.expr2)
        elif _names(node, "load") & self._held:
            return nodes.Const(NO_CONTENT, lineno=node.lineno)
        return node


class _BoundLists(NodeTransformer):
    """Lets every list that a template makes go through the filter `bounded`."""

    def __init__(self, environment: jinja2.Environment) -> None:
        self._environment = environment

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "bounded", self._environment)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "bounded", self._environment) if node.ctx == "load" else node


class _Environment(ImmutableSandboxedEnvironment):
    """Reads and runs the templates of one folder; counts the steps of the render at hand.

    What follows from the names `blank` is printed as `NO_CONTENT`.
    """

    intercepted_binops = frozenset(_OPERATORS | {"**"})

    def __init__(self, loader: jinja2.BaseLoader, blank: frozenset[str] = frozenset()) -> None:
        super().__init__(
            loader=loader,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            auto_reload=False,
            optimized=False,  # nothing is computed while a template is only read
            finalize=_printable,
        )
        own = {"join": _joined, "replace": _replaced}
        self.filters = {name: own.get(name, self.filters[name]) for name in FILTERS}
        self.filters |= {"counted": self._counted, "bounded": self._bounded_list}
        self.tests = {name: self.tests[name] for name in TESTS}
        self.globals = {"range": self._range}
        self.steps = 0
        self._blank = blank

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise jinja2.TemplateRuntimeError(
                f"takes more than {MOST_STEPS:,} steps; shorten its loops or its includes"
            )

    @staticmethod
    def _range(*bounds: int) -> range:
        numbers = range(*bounds)
        if not all(abs(bound) <= MOST for bound in bounds) or len(numbers) > MOST_STEPS:
            raise jinja2.TemplateRuntimeError(f"range() of more than {MOST_STEPS:,} numbers")
        return numbers

    def _counted(self, values: Iterable[Any]) -> list[Any]:
        counted = []
        for value in values:
            self._step()
            counted.append(value)
        return counted

    def _bounded_list(self, values: Any) -> Any:
        """A list that was just made: lists of lists double with every line that makes one."""
        self._step()
        count, size = _contents(values)
        if count > MOST_VALUES:
            raise jinja2.TemplateRuntimeError(f"makes a list of more than {MOST_VALUES:,} values")
        _bounded(size)
        return values

    def get_template(self, *arguments: Any, **options: Any) -> jinja2.Template:
        self._step()
        return super().get_template(*arguments, **options)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        for value in (left, right):
            if type(value) not in (int, float) or not abs(value) <= MOST:
                raise jinja2.TemplateRuntimeError(
                    f"'{operator}' is for numbers, up to {MOST:,}; put texts beside each other"
                    " as {{ one }}{{ other }}"
                )
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.iter_child_nodes():
            self._check(node, name)
        _BoundLists(self).visit(tree)
        for loop in tree.find_all(nodes.For):
            loop.iter = _filtered(loop.iter, "counted", self)
        if self._blank:
            _Blanks(self._blank).visit(tree)
        return tree

    def _check(self, node: nodes.Node, name: str | None) -> None:
        """Refuse what the language leaves out, all along the tree below a node."""

        def refuse(what: str) -> None:
            text = f"{what} is not allowed in a prompt template. {_ALLOWED}"
            raise _Refused(text, node.lineno or 1, name)

        below: Iterable[nodes.Node] = node.iter_child_nodes()
        match node:
            case nodes.Getattr(node=nodes.Name(name="loop"), attr=attribute) if attribute in LOOP:
                below = ()
            case nodes.Getattr(attr=attribute):
                refuse(f"the attribute .{attribute}")
            case nodes.Call(
                node=nodes.Name(name="range"), kwargs=[], dyn_args=None, dyn_kwargs=None
            ):
                below = node.args
            case nodes.Call():
                refuse("a call other than range(n)")
            case nodes.Name(name=known) if known in _RESERVED or known.startswith("_"):
                refuse(f"the name {known}")
            case nodes.Filter(name=known) if known not in FILTERS or node.node is None:
                refuse(f"the filter {known}")
            case nodes.Test(name=known) if known not in TESTS:
                refuse(f"the test {known}")
            case nodes.For(recursive=True):
                refuse("a recursive loop")
            case nodes.Include(ignore_missing=True):
                refuse("'ignore missing'")
            case nodes.Include(template=target):
                if not (isinstance(target, nodes.Const) and isinstance(target.value, str)):
                    refuse("an include of anything but one file's name in quotation marks")
            case _ if isinstance(node, nodes.Keyword | nodes.Pair):
                pass
            case _ if not isinstance(node, _NODES):
                refuse(f"'{type(node).__name__.lower()}'")
        for child in below:
            self._check(child, name)


class _Folder(jinja2.BaseLoader):
    """Files of a variant's folder, or else of those that it extends.

    Raises `ConfigError` for one that is no template.
    """

    def __init__(self, folder: Path, *bases: Path) -> None:
        self._folder, self._bases = folder, bases

    def path(self, name: str) -> Path:
        """Where a template is; its own folder's where it is in none."""
        own = self._folder / name
        found = (folder / name for folder in self._bases if not own.exists())
        return next((path for path in found if path.is_file()), own)

    def get_source(self, environment: jinja2.Environment, template: str) -> Any:
        return self.text(template), str(self.path(template)), None

    def text(self, name: str, needed_by: str = "") -> str:
        if not _NAME.fullmatch(name) or ".." in name.split("/"):
            raise ConfigError(
                f"{self._folder / needed_by}: includes {name[:80]!r}. A template may include files"
                ' of its own folder only, such as "_story.j2".'
            )
        path = self.path(name)
        if not path.is_file():
            what = "is no file" if path.exists() else "is missing"
            needed = f"{needed_by} includes it" if needed_by else "every variant needs it"
            raise ConfigError(f"{self._folder}: the template {name} {what}; {needed}.")
        homes = (folder for folder in self._bases if path.is_relative_to(folder))
        home = next(homes, self._folder).resolve()
        if not path.resolve().is_relative_to(home.parent):
            raise ConfigError(
                f"{path}: leads out of {home.parent}. Put the file itself there, not a link to it."
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
        if len(data) > MOST_BYTES:
            raise ConfigError(
                f"{path}: {len(data):,} bytes are too many for a template, which may have"
                f" {MOST_BYTES:,}. Put what differs between trials into the stimuli."
            )
        try:
            text = decoded(data).replace("\r\n", "\n").replace("\r", "\n")
        except NotUtf8Error as error:
            raise ConfigError(f"{path}, {error}. Save the file as UTF-8.") from None
        for number, line_text in enumerate(text.split("\n"), start=1):
            character, token = unusable_character(line_text), known_control_token(line_text)
            if character is not None:
                raise ConfigError(f"{path}, line {number}: holds {character}. Delete it.")
            if token is not None:
                raise ConfigError(
                    f"{path}, line {number}: holds {token}, a control token of language models. A"
                    " template is the text of one message; the model's own chat template puts"
                    " control tokens around it. Delete it."
                )
        return text


class Templates:
    """The templates of one folder, and of those that it extends, for what it lacks.

    They print `NO_CONTENT` in place of what follows from the names `blank`. Methods raise
    `ConfigError`, in one line, for a broken one.
    """

    def __init__(self, folder: Path, *bases: Path, blank: frozenset[str] = frozenset()) -> None:
        self._folders = (folder, *bases)
        self._loader = _Folder(folder, *bases)
        self._environment = _Environment(self._loader, blank)
        self._read: set[str] = set()

    def path(self, name: str) -> Path:
        """Where a template is."""
        return self._loader.path(name)

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        """Texts of the named templates and of all that they include, by name."""
        found: dict[str, str] = {}
        for name in names:
            self._collect(name, (), found)
        return found

    def without(self, name: str, values: frozenset[str]) -> tuple[Templates, frozenset[str]]:
        """A template that prints `NO_CONTENT` for every one of the `values` by name.

        And for all that it sets, or runs through, that follows from them. Values that decide which
        part of it is printed, or how often, still do. Gives the names that it still reads, too.
        """
        trees = [self._environment.parse(text) for text in self.sources([name]).values()]
        given: list[tuple[set[str], set[str]]] = []
        for tree in trees:
            for loop in tree.find_all(nodes.For):
                given.append((_names(loop.target, "store"), _names(loop.iter, "load")))
            for line in tree.find_all(nodes.Assign):
                given.append((_names(line.target, "store"), _names(line.node, "load")))
        held = set(values)
        while more := {name for names, of in given if of & held for name in names} - held:
            held |= more
        blank = Templates(*self._folders, blank=frozenset(held))
        texts = blank.sources([name]).values()
        left = [_names(blank._environment.parse(text), "load") for text in texts]
        return blank, frozenset().union(*left)

    def _collect(self, name: str, above: tuple[str, ...], found: dict[str, str]) -> None:
        if name in above:
            circle = " → ".join((*above[above.index(name) :], name))
            raise ConfigError(
                f"{self.path(name)}: includes itself ({circle}). Take one of these includes out."
            )
        if len(above) > MOST_LEVELS:
            raise ConfigError(
                f"{self.path(above[0])}: includes within includes, more than {MOST_LEVELS}"
                " levels of them. Put some of these files into one."
            )
        if name in found:
            return
        text = self._loader.text(name, above[-1] if above else "")
        try:
            tree = self._environment.parse(text)
        except Exception as error:  # whatever a template does is its own fault
            raise self._explained(name, error, ()) from None
        for include in tree.find_all(nodes.Include):
            assert isinstance(include.template, nodes.Const)  # the language has no others
            self._collect(include.template.value, (*above, name), found)
        found[name] = text

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """The text that a template gives, without white space around it; never an empty one."""
        if name not in self._read:
            self.sources([name])
            self._read.add(name)
        try:
            text = self._ran(self._environment.get_template(name), values).strip()
        except ConfigError:
            raise
        except Exception as error:  # whatever a template does is its own fault
            raise self._explained(name, error, values) from None
        if is_blank(text):
            raise ConfigError(
                f"{self.path(name)}: gives an empty message. A model cannot be asked nothing:"
                " write the question into the template."
            )
        # Expressions make characters of their own, such as '\\u202e'.
        character = unusable_character(text)
        if character is not None:
            raise ConfigError(
                f"{self.path(name)}: gives a message that holds {character}. Take away what"
                " makes it, here or in the stimuli."
            )
        # Pieces that are harmless by themselves may make one together.
        token = known_control_token(text)
        if token is not None:
            raise ConfigError(
                f"{self.path(name)}: gives a message that holds {token[:80]}, a control token"
                " of language models. Take away what makes it, here or in the stimuli."
            )
        return text

    def fill(self, source: str, values: Mapping[str, Any]) -> str:
        """The text that a template without a file of its own gives, white space around it and all.

        Raises `ValueError`, in one line, for a broken one.
        """
        try:
            return self._ran(self._environment.from_string(source), values)
        except ConfigError:
            raise
        except Exception as error:  # whatever a template does is its own fault
            raise ValueError(_words(error, values)) from None

    def _ran(self, template: jinja2.Template, values: Mapping[str, Any]) -> str:
        self._environment.steps = 0
        pieces: list[str] = []
        size = 0
        for piece in template.generate(values):
            size += len(piece)
            _bounded(size)
            pieces.append(piece)
        return "".join(pieces)

    def _explained(self, name: str, error: Exception, values: Iterable[str]) -> ConfigError:
        """One line for whatever a template raised: file, line, what, what to do."""
        path, line = self.path(name), None
        if isinstance(error, jinja2.TemplateSyntaxError):
            line = error.lineno
        else:  # the innermost template that was running
            for frame in traceback.extract_tb(error.__traceback__):
                if any(map(Path(frame.filename).is_relative_to, self._folders)):
                    path, line = Path(frame.filename), frame.lineno
        where = f", line {line}" if line is not None else ""
        return ConfigError(f"{path}{where}: {_words(error, values)}")


def _words(error: Exception, values: Iterable[str]) -> str:
    """What a template that saw these values raised, in one line."""
    what = str(error).split("\n")[0].rstrip(". ")[:400] or type(error).__name__
    if isinstance(error, RecursionError | MemoryError | SyntaxError):
        what = "is nested too deeply or too long; simplify it"
    elif isinstance(error, ZeroDivisionError):
        what = "divides by zero"
    elif "int_max_str_digits" in what:
        what = "holds a number with too many digits"
    hint = ""
    if isinstance(error, jinja2.UndefinedError):
        hint = f" Values a template may use: {', '.join(sorted(values))}."
    return f"{what}.{hint}"
