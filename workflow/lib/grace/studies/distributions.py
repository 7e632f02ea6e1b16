"""From a query's distribution to columns: probabilities, marginals, labels, summaries.

Nothing here is known to what asks a model: an edit rebuilds tables and asks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grace.scoring.distributions import entropy, mean_and_std
from grace.studies.asking import QueryForm, combinations, fixed_options
from grace.studies.declaration import Continuation, QueryPart, ScoreQuery, filled

Distribution = Mapping[str, float]


class QueryColumns:
    """The columns of one query."""

    def __init__(self, form: QueryForm) -> None:
        self.form = form
        entry = form.entry
        self._fixed = fixed = fixed_options(entry.options)
        #: How many options there are; the same in every trial.
        self.count = len(fixed or entry.options.columns or ())
        self._numbers = entry.values if isinstance(entry, ScoreQuery) else None
        self._combinations = combinations(entry.options.product) if entry.options.product else None
        #: Column of each option, in order.
        self.options = tuple(
            column_name(entry.columns, {**form.factors, **self._named(fixed, position)})
            for position in range(self.count)
        )
        #: Column of each option's log-probability; none but for continuations.
        self.logprobs: tuple[str, ...] = ()
        if isinstance(entry, Continuation) and entry.logprobs is not None:
            self.logprobs = tuple(
                column_name(entry.logprobs, self._named(fixed, position))
                for position in range(self.count)
            )
        #: By factor of a product: {level: column}.
        self.marginals = {
            factor: {
                level: column_name(named, {**form.factors, factor: level})
                for level in (entry.options.product or {}).get(factor, ())
            }
            for factor, named in entry.marginals.items()
        }
        self.summaries = self._summaries(entry)

    def _named(self, fixed: tuple[str, ...] | None, position: int) -> dict[str, Any]:
        names: dict[str, Any] = {"position": position + 1}
        if fixed is not None:
            names["option"] = fixed[position]
        if self._numbers is not None and position < len(self._numbers):
            names["value"] = f"{self._numbers[position]:g}"
        if self._combinations is not None:
            names |= self._combinations[position]
        return names

    def _summaries(self, entry: QueryPart) -> dict[tuple[str, str], str]:
        """Columns by (summary, what it is of)."""
        found = {}
        for name in ("mean", "std"):
            column = getattr(entry.summaries, name)
            if column is not None:
                found[name, "joint"] = column_name(column, self.form.factors)
        entropies = entry.summaries.entropy
        if isinstance(entropies, str):
            entropies = {"joint": entropies}
        for of, column in (entropies or {}).items():
            found["entropy", of] = column_name(column, self.form.factors)
        return found

    def distribution_columns(self) -> tuple[str, ...]:
        """Marginals, then the options' own."""
        marginals = [name for columns in self.marginals.values() for name in columns.values()]
        return (*marginals, *self.options)

    def values(self, distribution: Distribution) -> dict[str, float]:
        """Every column's value but for log-probabilities.

        Options that differ by trial are in the query's order.
        """
        probabilities = [distribution[option] for option in self._fixed or distribution]
        values = dict(zip(self.options, probabilities, strict=True))
        sums: dict[str, list[float]] = {"joint": probabilities}
        for factor, levels in (self.form.entry.options.product or {}).items():
            assert self._combinations is not None  # a product has them
            pairs = list(zip(self._combinations, probabilities, strict=True))
            sums[factor] = [
                sum(p for each, p in pairs if each[factor] == level) for level in levels
            ]
        for factor, columns in self.marginals.items():
            values |= dict(zip(columns.values(), sums[factor], strict=True))
        for (summary, of), column in self.summaries.items():
            if summary == "entropy":
                values[column] = entropy(sums[of])
            else:
                numbers: dict[float, float] = {}
                for value, p in zip(self._numbers or (), probabilities, strict=True):
                    numbers[value] = numbers.get(value, 0.0) + p
                mean, std = mean_and_std(numbers)
                values[column] = mean if summary == "mean" else std
        return values


class DistributionColumns:
    """The columns of all queries, in order: an entry's distributions, then its summaries."""

    def __init__(self, forms: tuple[QueryForm, ...]) -> None:
        self.queries = {form.name: QueryColumns(form) for form in forms}

    def names(self) -> tuple[str, ...]:
        """Names of the distribution and summary columns, in order."""
        entries: dict[int, list[QueryColumns]] = {}
        for query in self.queries.values():
            entries.setdefault(id(query.form.entry), []).append(query)
        return tuple(
            name
            for queries in entries.values()
            for names in (
                [name for query in queries for name in query.distribution_columns()],
                [name for query in queries for name in query.logprobs],
                [name for query in queries for name in query.summaries.values()],
            )
            for name in names
        )

    def values(
        self,
        distributions: Mapping[str, Distribution | None],
        logprobs: Mapping[str, Sequence[float | None]],
    ) -> dict[str, float | None]:
        """Every column's value; None where a measurement failed or nothing was asked.

        `logprobs` holds those of each query's options (natural log), in order.
        """
        values: dict[str, float | None] = dict.fromkeys(self.names())
        for name, query in self.queries.items():
            distribution = distributions.get(name)
            if distribution is not None:
                values |= query.values(distribution)
                if query.logprobs:
                    values |= dict(zip(query.logprobs, logprobs[name], strict=True))
        return values

    def conditional(self) -> set[str]:
        """Names of the distributions of queries that not every trial is asked."""
        return {name for name, query in self.queries.items() if query.form.entry.when is not None}

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Columns that each form one distribution, by the distribution's name."""
        found: dict[str, tuple[str, ...]] = {}
        for name, query in self.queries.items():
            for factor, columns in query.marginals.items():
                found[factor if factor not in found else f"{name}_{factor}"] = tuple(
                    columns.values()
                )
            found[name] = query.options
        return found


def column_name(form: str, values: Mapping[str, Any]) -> str:
    """A column's name; apostrophes are left out."""
    return filled(form, values).replace("'", "")
