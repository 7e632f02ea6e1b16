"""People and models of people in the place of language models: `models: [human, rsa, gemma-2b]`.

What a study declares of people's answers (`people`) and of models of people (`theory`) gives, for a
trial, the distribution of its cell over the options of its queries. A source is named as the study
names it, with `-` or `_`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from grace.digests import digest
from grace.errors import ConfigError
from grace.studies.asking import QueryForm, combinations, is_auxiliary
from grace.studies.study import Study
from grace.studies.theory import Row, people_rows, theory_rows
from grace.studies.trials import Trial

Distribution = dict[str, float]


def plain(name: str) -> str:
    """A source's name as `models` may have it."""
    return name.replace("_", "-")


def sources(study: Study) -> list[str]:
    """The names of a study's people and models of people."""
    declared = study.declaration
    return [
        *([declared.people.source] if declared.people else []),
        *(theory.source for theory in declared.theory),
    ]


def sources_named(
    models: Iterable[str], known: Iterable[str], studies: Mapping[str, Study]
) -> dict[str, dict[str, str]]:
    """By name in `models` that is no language model's: its source in each study that has it.

    Names that no study has are left out.
    """
    found = {}
    for model in models:
        if model in known:
            continue
        of = {
            name: source
            for name, study in studies.items()
            for source in sources(study)
            if plain(source) == plain(model)
        }
        if of:
            found[model] = of
    return found


def listed_sources(studies: Mapping[str, Study]) -> str:
    """What people and models of people the studies have, in words; "" where they have none."""
    found: dict[str, list[str]] = {}
    for name, study in studies.items():
        for source in sources(study):
            found.setdefault(plain(source), []).append(name)
    return ", ".join(f"{source} ({', '.join(of)})" for source, of in found.items())


@dataclass(frozen=True)
class _Declared:
    """A source's cells and outcomes, and whether it is people."""

    cells: Sequence[str]
    outcome: Mapping[str, Sequence[object]]
    people: bool


class PeopleModel:
    """One source of a study, asked the study's queries. Raises `ConfigError` for no such source.

    `rows` are what it answers, where that was computed before; else it is computed here.
    """

    def __init__(self, study: Study, source: str, rows: Iterable[Row] | None = None) -> None:
        self.study, self.source = study, source
        self._rows = rows
        self.declared = self._declaration()
        #: Where the tables of trials call the columns of a cell otherwise.
        self._columns = {
            name: column
            for theory in study.declaration.theory
            if theory.fit and theory.fit.answers
            for name, column in theory.fit.answers.cells.items()
        }
        self._known: dict[tuple[str, ...], dict[tuple[str, ...], float]] | None = None
        #: Replications and experiments ask the same trials.
        self._asked: dict[int, tuple[Trial, dict[str, Distribution | None]]] = {}

    def _declaration(self) -> _Declared:
        declared = self.study.declaration
        people = declared.people
        if people and people.source == self.source:
            return _Declared(people.cells, people.outcome, True)
        for theory in declared.theory:
            if theory.source == self.source:
                return _Declared(list(theory.cells), theory.outcome, False)
        raise ConfigError(
            f"{self.study.source}: has no people and no model of people called '{self.source}'."
        )

    @property
    def is_people(self) -> bool:
        """Whether it is people's own answers."""
        return self.declared.people

    def check(self, trials: Sequence[Trial]) -> None:
        """Raise `ConfigError` where the declaration does not say what it answers to the trials."""
        study = self.study
        if not trials:
            return
        for name in self.declared.cells:
            if self._column(name, trials[0]) is None:
                raise ConfigError(
                    f"config: `models` names {plain(self.source)}, but the trials of {study.name}"
                    f" have no column '{name}', by which its answers are told apart. Say in"
                    f" `theory…fit.answers.cells` of {study.source} which column that is."
                )
        if not any(self._ways(form, trials[0]) for form in study.forms_asked(trials[0])):
            raise ConfigError(
                f"config: `models` names {plain(self.source)}, but what it answers in"
                f" {study.source} ({', '.join(self.declared.outcome)}) is no option of experiment"
                f" 2's queries ({', '.join(study.query_names)}). Leave it out of `models`."
            )

    def _column(self, name: str, trial: Trial) -> str | None:
        known = trial.all()
        return next((one for one in (name, self._columns.get(name)) if one in known), None)

    def _cells(self) -> dict[tuple[str, ...], dict[tuple[str, ...], float]]:
        """By cell the probability of each outcome, both as texts."""
        if self._known is None:
            self._known = {}
            rows = self._rows
            if rows is None:
                rows = people_rows(self.study) if self.is_people else theory_rows(self.study)
            for row in rows:
                if row["source"] != self.source:
                    continue
                cell = tuple(str(row[name]) for name in self.declared.cells)
                outcome = tuple(str(row[name]) for name in self.declared.outcome)
                self._known.setdefault(cell, {})[outcome] = float(row["probability"])
        return self._known

    def distributions(self, trial: Trial) -> dict[str, Distribution | None]:
        """By query that is asked of a trial its distribution over the options.

        None for queries that the source does not answer, and where it has nothing of the cell.
        """
        if id(trial) not in self._asked:
            self._asked[id(trial)] = trial, self._distributions(trial)
        return self._asked[id(trial)][1]

    def _distributions(self, trial: Trial) -> dict[str, Distribution | None]:
        cell = tuple(str(trial.all()[self._column(name, trial) or name])
                     for name in self.declared.cells)  # fmt: skip
        shares = self._cells().get(cell)
        found: dict[str, Distribution | None] = {}
        for form in self.study.forms_asked(trial):
            way = self._ways(form, trial)
            found[form.name] = way(shares) if way and shares else None
        return found

    def _ways(
        self, form: QueryForm, trial: Trial
    ) -> Callable[[Mapping[tuple[str, ...], float]], Distribution] | None:
        """How a query's distribution follows from the outcomes' shares; None where it does not."""
        names, study = list(self.declared.outcome), self.study
        if is_auxiliary(form):
            return None
        options = study.options(form, trial)
        product = form.entry.options.product
        if product is not None and set(product) == set(names):
            texts = [tuple(str(one[name]) for name in names) for one in combinations(product)]
            return lambda shares: {
                option: shares.get(text, 0.0) for option, text in zip(options, texts, strict=True)
            }
        values = getattr(form.entry, "values", None)
        if values and names and set(names) == set(form.factors):
            own = tuple(str(form.factors[name]) for name in names)
            return lambda shares: as_steps(shares.get(own, 0.0) * max(values), values, options)
        if len(names) != 1:
            return None
        labels = study.labels
        known = {str(value) for value in self.declared.outcome[names[0]]}
        if labels is not None and form.name in labels.queries and known == set(labels.columns):
            label_of = {option: labels.of(option, trial.all()) for option in options}
            counted = list(label_of.values())
            return lambda shares: {
                option: shares.get((label,), 0.0) / counted.count(label)
                for option, label in label_of.items()
            }
        if known == set(options):
            return lambda shares: {option: shares.get((option,), 0.0) for option in options}
        return None

    def says(self, trial: Trial, seed: int, *, named: str) -> str | None:
        """An answer of experiment 1, drawn from the distribution of the trial's one query.

        None where what is asked there is not one choice among options. The same for the same seed
        and `named`.
        """
        asked = self.distributions(trial)
        forms = self.study.forms_asked(trial)
        (form, *more) = (one for one in forms if not is_auxiliary(one))
        found = asked[form.name]
        if more or found is None or getattr(form.entry, "values", None):
            return None
        chance = random.Random(digest([named, seed]))
        return chance.choices(list(found), weights=list(found.values()))[0]


def as_steps(value: float, values: Sequence[float], options: Sequence[str]) -> Distribution:
    """A number on a scale of steps: all on the two around it, so that its mean is the number."""
    found = dict.fromkeys(options, 0.0)
    places = sorted(range(len(values)), key=lambda place: values[place])
    below = max((p for p in places if values[p] <= value + 1e-9), key=lambda p: values[p])
    above = [p for p in places if values[p] > values[below]]
    if not above or value <= values[below]:
        found[options[below]] = 1.0
        return found
    upper = above[0]
    share = (value - values[below]) / (values[upper] - values[below])
    found[options[below]], found[options[upper]] = 1 - share, share
    return found
