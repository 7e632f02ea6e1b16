"""A study's model of people, its own theory.py, and the table of what it predicts.

`reference_<study>.csv` holds people's answers and each theory's, cell by cell: the columns
`source`, those of the cell, those of the outcome, `n` and `total` where people are counted,
`probability`; behind them the parameters of theories that are fitted to people, with intervals.
Where a file says who answered, rows with a `participant` hold that person's own answers; people's
other rows are the sums of these.
"""

from __future__ import annotations

import ast
import csv
import importlib.util
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from grace.digests import file_digest
from grace.errors import ConfigError, GraceError
from grace.prompts.plain_text import shortened
from grace.settings.explain import nearest
from grace.source_code import source_digest
from grace.studies.analysis_parts import PARTICIPANT, People, Theory
from grace.studies.asking import combinations
from grace.studies.expressions import Expression, Patterns
from grace.studies.study import Study
from grace.studies.theory_fit import Estimate, Range, fit
from grace.studies.trials import Trial

FILE = "theory.py"
Row = dict[str, Any]
#: A cell's distribution for values of the parameters.
Predict = Callable[[Mapping[str, Any], Mapping[str, float]], list[float]]


def theory_file(study: Study) -> Path:
    """The study's theory.py, which is its user's own code."""
    return study.folder / FILE


def defined_functions(path: Path) -> list[str]:
    """Names of the functions that a file defines, without running it. Raises `ConfigError`."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `theory` names functions of it.") from None
    except (SyntaxError, ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as Python: {error}.") from None
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def load_theory(study: Study) -> ModuleType:
    """The study's theory.py as a module with a name of its own. Raises `ConfigError`."""
    path = theory_file(study)
    name = f"_grace_theory_of_{study.name}"
    defined_functions(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # anything that a user's file can do
        del sys.modules[name]
        raise ConfigError(f"{path}: cannot be loaded: {type(error).__name__}: {error}.") from error
    return module


def reference_depends_on(study: Study) -> dict[str, Any]:
    """What the reference table depends on: the declaration's parts, files, theory.py."""
    declared = study.declaration
    paths = [path for theory in declared.theory for path in theory.files.values()]
    if declared.people:
        paths.append(declared.people.file)
    return {
        "people": declared.people and declared.people.model_dump(mode="json"),
        "theory": [theory.model_dump(mode="json") for theory in declared.theory],
        "files": {path: file_digest(study.beside(path)) for path in paths},
        "code": source_digest(theory_file(study)) if declared.theory else None,
    }


def reference_inputs(study: Study) -> list[Path]:
    """Files that the reference table is made from."""
    declared = study.declaration
    paths = [path for theory in declared.theory for path in theory.files.values()]
    if declared.people:
        paths.append(declared.people.file)
    return [study.beside(path) for path in dict.fromkeys(paths)]


def cells_of(theory: Theory, place: str) -> list[dict[str, Any]]:
    """The cells that a theory is asked about. Raises `ConfigError`."""
    cells = combinations(theory.cells)
    if theory.where is None:
        return cells
    where = Expression(theory.where, f"{place}.where")
    return [cell for cell in cells if where.value(cell, Patterns({}, place))]


def theory_rows(study: Study) -> Iterator[Row]:
    """What each theory predicts. Raises `ConfigError` where a function does not do what it must."""
    if not study.declaration.theory:
        return
    module = load_theory(study)
    for number, theory in enumerate(study.declaration.theory):
        place = f"{study.source}: theory.{number}"
        predict = predictor(study, theory, place, module)
        outcomes = combinations(theory.outcome)
        cells = cells_of(theory, place)
        fits = fitted(study, theory, predict, cells, place)
        for cell in cells:
            estimates = fits.get(_group(theory, cell), ())
            found = predict(cell, {one.parameter: one.mean for one in estimates})
            parameters = {
                f"{one.parameter}{suffix}": value
                for one in estimates
                for suffix, value in (("", one.mean), ("_low", one.low), ("_high", one.high))
            }
            for outcome, probability in zip(outcomes, found, strict=True):
                yield {
                    "source": theory.source, **cell, **outcome, "probability": probability,
                    **parameters,
                }  # fmt: skip


def predictor(
    study: Study, theory: Theory, place: str, module: ModuleType | None = None
) -> Predictor:
    """A theory's function, of the study's loaded module. Raises `ConfigError`."""
    function = getattr(module or load_theory(study), theory.function, None)
    if not callable(function):
        known = defined_functions(theory_file(study))
        raise ConfigError(
            f"{place}.function: {theory_file(study)} has no function '{theory.function}'."
            f"{nearest(theory.function, known)} It has {', '.join(known) or 'none'}."
        )
    return Predictor(study, theory, function)


class Predictor:
    """A theory's function, called for a cell and checked. Raises `ConfigError`."""

    def __init__(self, study: Study, theory: Theory, function: Callable[..., Any]) -> None:
        self._theory, self._function, self._path = theory, function, theory_file(study)
        self._named = {
            **theory.parameters, **{name: study.beside(path) for name, path in theory.files.items()}
        }  # fmt: skip
        self._outcomes = len(combinations(theory.outcome))

    def __call__(self, cell: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[float]:
        theory = self._theory
        arguments = [cell[name] for name in theory.arguments or theory.cells]
        named = {**self._named, **parameters}
        try:
            found = [float(p) for p in self._function(*arguments, **named)]
        except Exception as error:  # anything that a user's function can do
            raise ConfigError(
                f"{self._path}: {theory.function}({', '.join(map(repr, arguments))})"
                f" fails: {type(error).__name__}: {error}."
            ) from error
        _check_distribution(found, self._outcomes, theory, arguments, self._path)
        return found


def _group(theory: Theory, cell: Mapping[str, Any]) -> tuple[str, ...]:
    """Which fit a cell belongs to."""
    return tuple(str(cell[name]) for name in theory.fit.by) if theory.fit else ()


def fitted(
    study: Study, theory: Theory, predict: Predict, cells: Sequence[Mapping[str, Any]], place: str
) -> dict[tuple[str, ...], list[Estimate]]:
    """The estimates of each group of cells, from people's counts in them; none without `fit`.

    Raises `ConfigError` where people did not answer in a group, or cannot have answered so.
    """
    if theory.fit is None or "people" not in theory.fit.to:
        return {}
    outcomes = combinations(theory.outcome)
    names = [*theory.cells, *theory.outcome]
    counts = {
        tuple(str(row[name]) for name in names): int(row["n"])
        for row in people_rows(study)
        if all(name in row for name in names)
    }
    found = {}
    for group in dict.fromkeys(_group(theory, cell) for cell in cells):
        own = [cell for cell in cells if _group(theory, cell) == group]
        seen = [
            [counts.get(tuple(map(str, (*cell.values(), *each.values()))), 0) for each in outcomes]
            for cell in own
        ]
        if not any(map(sum, seen)):
            raise ConfigError(
                f"{place}.fit: people gave no answer in the cells of {', '.join(group) or 'it'}."
            )
        try:
            found[group] = fit(
                lambda values, own=own: [predict(cell, values) for cell in own],  # type: ignore[misc]
                seen,
                {name: Range(each.low, each.high) for name, each in theory.fit.parameters.items()},
            )
        except ValueError as error:
            raise ConfigError(f"{place}.fit: {error}.") from None
    return found


def _check_distribution(
    found: list[float], wanted: int, theory: Theory, arguments: list[Any], path: Path
) -> None:
    called = f"{path}: {theory.function}({', '.join(map(repr, arguments))})"
    if len(found) != wanted:
        raise ConfigError(
            f"{called} gives {len(found)} probabilities, but `outcome` has {wanted} combinations."
        )
    if not all(0 <= p <= 1 for p in found) or abs(sum(found) - 1) > 1e-6:
        raise ConfigError(
            f"{called} gives {found[:8]}, which is no distribution: it must sum to 1."
        )


def people_rows(study: Study) -> Iterator[Row]:
    """People's answers by cell; probability is n / total. Raises `GraceError`."""
    people = study.declaration.people
    if people is None:
        return
    path = study.beside(people.file)
    rows = list(_people_lines(study, people, path))
    if not rows:
        raise GraceError(
            f"{path}: holds no answers, only the names of columns. Add them, or leave `people` out"
            f" of {study.source}."
        )
    if people.kind == "cells":
        for number, row in enumerate(rows, start=2):
            n, total = _count(row, "n", path, number), _count(row, "total", path, number)
            if not 0 <= n <= total or not total:
                raise GraceError(f"{path}, row {number}: n is {n} and total {total}.")
            yield {"source": people.source, **row, "n": n, "total": total, "probability": n / total}
        return
    by_cell = Counter(tuple(row[name] for name in people.cells) for row in rows)
    names = (*people.cells, *people.outcome)
    counted = Counter(tuple(row[name] for name in names) for row in rows)
    outcomes = combinations(people.outcome)
    for cell, total in by_cell.items():
        for outcome in outcomes:
            n = counted[*cell, *map(str, outcome.values())]
            yield {
                "source": people.source, **dict(zip(people.cells, cell, strict=True)), **outcome,
                "n": n, "total": total, "probability": n / total,
            }  # fmt: skip


def participant_rows(study: Study) -> Iterator[Row]:
    """Each participant's own answers by cell: `n` of an outcome, of `total` in the cell.

    Only outcomes that somebody chose; none where the file does not say who did. Raises
    `GraceError`.
    """
    people = study.declaration.people
    if people is None or people.participant is None:
        return
    who = (PARTICIPANT, *people.cells)
    rows = list(_people_lines(study, people, study.beside(people.file)))
    totals = Counter(tuple(row[name] for name in who) for row in rows)
    names = (*who, *people.outcome)
    for answer, n in Counter(tuple(row[name] for name in names) for row in rows).items():
        row = dict(zip(names, answer, strict=True))
        total = totals[tuple(row[name] for name in who)]
        yield {"source": people.source, **row, "n": n, "total": total, "probability": n / total}


def _count(row: Mapping[str, Any], name: str, path: Path, number: int) -> int:
    text = str(row[name]).strip()
    if not text.isdecimal() or len(text) > 12:
        raise GraceError(f"{path}, row {number}: {name} is {shortened(text)}: must be a count.")
    return int(text)


def _people_lines(study: Study, people: People, path: Path) -> Iterator[dict[str, str]]:
    """The file's rows, its columns and values named as ours. Raises `GraceError`."""
    columns = dict(people.columns)
    wanted = [*people.cells, *people.outcome, *(["n", "total"] if people.kind == "cells" else [])]
    if people.participant is not None:
        columns[PARTICIPANT] = people.participant
        wanted.append(PARTICIPANT)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or ())
            for name in wanted:
                column = columns.get(name, name)
                if column not in header:
                    raise GraceError(
                        f"{path}, row 1: has no column '{column}', which `people` of {study.source}"
                        f" takes for '{name}'.{nearest(column, header)} It has"
                        f" {', '.join(header[:40])}."
                    )
            for number, line in enumerate(reader, start=2):
                row = {}
                for name in wanted:
                    column = columns.get(name, name)
                    text = str(line[column] or "").strip()
                    row[name] = str(people.values.get(name, {}).get(text, text))
                    if not row[name]:
                        raise GraceError(
                            f"{path}, row {number}, column {column}: is empty. Every row must hold"
                            f" its {name}; leave rows without an answer out of the file."
                        )
                    allowed = people.outcome.get(name)
                    if allowed is not None and row[name] not in map(str, allowed):
                        raise GraceError(
                            f"{path}, row {number}, column {column}: {name} is"
                            f" {shortened(row[name])}, which is none of"
                            f" {', '.join(map(str, allowed))}."
                        )
                yield row
    except FileNotFoundError:
        raise GraceError(f"{path}: no such file; `people` of {study.source} names it.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GraceError(f"{path}: not readable as CSV in UTF-8: {error}.") from None


def check_people(study: Study, trials: Sequence[Trial]) -> None:
    """Raise `GraceError` for people's cells of which there are no trials."""
    people = study.declaration.people
    if people is None:
        return
    path = study.beside(people.file)
    known = [name for name in people.cells if trials and name in trials[0].all()]
    there = {tuple(str(trial[name]) for name in known) for trial in trials}
    for number, row in enumerate(_people_lines(study, people, path), start=2):
        cell = tuple(str(row[name]) for name in known)
        if known and cell not in there:
            named = ", ".join(f"{name} {value}" for name, value in zip(known, cell, strict=True))
            columns = ", ".join(people.columns.get(name, name) for name in known)
            raise ConfigError(
                f"{path}, row {number}, column {columns}: people answered in the cell {named}, of"
                f" which {study.name} has no trial. Correct the file, or `people.values` of"
                f" {study.source}, which says what its values stand for."
            )
    # What the rows together must be.
    deque(people_rows(study), maxlen=0)


def fitted_columns(study: Study) -> list[str]:
    """Columns of parameters that people's answers give, with their intervals."""
    return [
        f"{name}{suffix}"
        for theory in study.declaration.theory
        for name in (theory.fit.parameters if theory.fit and "people" in theory.fit.to else ())
        for suffix in ("", "_low", "_high")
    ]


def reference_columns(study: Study) -> list[str]:
    """The table's columns: people's and the theories' own, each once."""
    declared, fits = study.declaration, dict.fromkeys(fitted_columns(study))
    if declared.analysis == "generic":
        own = [*declared.factors, "query", "outcome", "n", "total", "probability"]
        return [*_who(study), *own, *fits]
    sources: list[tuple[list[str], list[str]]] = []
    if declared.people:
        sources.append((list(declared.people.cells), list(declared.people.outcome)))
    sources += [(list(theory.cells), list(theory.outcome)) for theory in declared.theory]
    cells = dict.fromkeys(name for cell, _ in sources for name in cell)
    outcomes = dict.fromkeys(name for _, outcome in sources for name in outcome)
    counts = ["n", "total"] if declared.people else []
    return [*_who(study), *cells, *outcomes, *counts, "probability", *fits]


def _who(study: Study) -> list[str]:
    """The columns that say whose numbers a row holds."""
    people = study.declaration.people
    return ["source", *([PARTICIPANT] if people and people.participant else [])]


def _for_generic(study: Study, row: Row) -> Row:
    """A row as the generic analysis reads it: what was answered is one `outcome` of a `query`."""
    declared, fits = study.declaration, fitted_columns(study)
    fixed = {"source", PARTICIPANT, *declared.factors, "n", "total", "probability", *fits}
    outcomes = {name: value for name, value in row.items() if name not in fixed}
    (query,) = outcomes if len(outcomes) == 1 else ("",)
    queries = {*study.query_names, *(declared.labels.queries if declared.labels else [])}
    return {
        **{name: value for name, value in row.items() if name in fixed},
        "query": query if query in queries else "",
        "outcome": " ".join(map(str, outcomes.values())),
    }


def write_reference(study: Study, path: Path) -> None:
    """Write reference_<study>.csv: people first, all then each, then each theory.

    Raises `GraceError`.
    """
    rows = [*people_rows(study), *participant_rows(study), *theory_rows(study)]
    if study.declaration.analysis == "generic":
        rows = [_for_generic(study, row) for row in rows]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, reference_columns(study), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
