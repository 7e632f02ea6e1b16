"""A study's table under every way of scoring: each distinct prompt's columns once a method.

The columns are those of `<study>_probabilities.csv`, so that an analysis reads them as it reads
experiment 2's own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from grace.digests import digest
from grace.results.tables import ROW_KEY, analysis_ready, bound_columns
from grace.scoring.methods import METHODS, measures, scored
from grace.scoring.records import distribution
from grace.studies.study import Study

#: What identifies a row; `asked_id` is the same for trials that are copies of one another.
KEYS = ("model_key", "replication", "variant", "trial_index", "asked_id", "scoring_method")
#: What is the same for copies under one way of scoring.
_COPIES = ("model_key", "asked_id", "scoring_method")


def method_columns(study: Study) -> tuple[str, ...]:
    """Columns of `<study>_scoring_methods.csv`.

    `options_alike` is the largest number of options of one query that the method cannot tell apart.
    """
    return (*KEYS, *study.probability_columns(), "options_alike")


class Baselines(NamedTuple):
    """What a model says whatever a trial says: natural logs, in the order of a query's options.

    `design` has, by variant and query, each option's mean probability over the distinct prompts;
    `null` has, by `null_id`, that after the null context.
    """

    design: dict[tuple[str, str], list[float]]
    null: dict[str, list[float]]

    def of(self, method: str, variant: str, query: Mapping[str, Any]) -> list[float] | None:
        """What a way of scoring compares a query with; None where there is nothing."""
        if method == "pmi_null":
            return self.null.get(query.get("null_id", ""))
        return self.design.get((variant, query["name"]))


def baselines(records: Iterable[Mapping[str, Any]], study: Study) -> Baselines:
    """What experiment 2's records hold to compare with.

    Means only of closed queries with the same options in every trial that are asked after several
    prompts; null contexts where they were measured, and not at all in records of earlier versions.
    """
    fixed = {
        form.name
        for form in study.query_forms
        if form.name in study.closed_queries and form.entry.options.columns is None
    }
    sums: dict[tuple[str, str], list[float]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    seen: set[str] = set()
    null: dict[str, list[float]] = {}
    for record in records:
        for query in record.get("null_contexts", ()):
            if query["status"] == "ok":
                null[query["null_id"]] = measures(query)
        for query in record["queries"]:
            found = distribution(query) if query["name"] in fixed else None
            prompt = digest([record["variant"], query["name"], query["messages"]])
            if found is None or prompt in seen:
                continue
            seen.add(prompt)
            key = (record["variant"], query["name"])
            before = sums.setdefault(key, [0.0] * len(found))
            sums[key] = [total + p for total, p in zip(before, found.values(), strict=True)]
            counts[key] += 1
    design = {
        key: [math.log(total / counts[key]) if total > 0 else -math.inf for total in totals]
        for key, totals in sums.items()
        if counts[key] > 1
    }
    return Baselines(design, null)


def method_rows(
    records: Iterable[Mapping[str, Any]],
    study: Study,
    expected: Baselines,
) -> Iterator[dict[str, Any]]:
    """One row a way of scoring and distinct trial of experiment 2's records.

    Trials with the same prompts, factors and other columns beside those of their key are copies:
    the first one stands for all. Columns that a method does not give are None. `expected` is what
    `baselines` gives.
    """
    seen: set[str] = set()
    for record in records:
        asked = _asked_id(record, study)
        if asked in seen:
            continue
        seen.add(asked)
        # Only labels depend on the trial, and computing it takes time.
        trial = study.trial(record["trial"]) if study.labels else None
        for method in METHODS:
            found = {
                query["name"]: scored(
                    query, method, expected.of(method, record["variant"], query)
                )
                for query in record["queries"]
            }
            values = study.probabilities(
                {name: one and one.probabilities for name, one in found.items()},
                {name: one.scores for name, one in found.items() if one is not None},
                trial,
            )
            alike = [one.alike for one in found.values() if one is not None]
            yield {
                **{name: record[name] for name in KEYS if name in record},
                "asked_id": asked,
                "scoring_method": method,
                **values,
                "options_alike": max(alike) if alike else None,
            }


def _asked_id(record: Mapping[str, Any], study: Study) -> str:
    """The same for trials that differ in nothing that is asked or analysed."""
    declared = study.declaration
    kept = {*declared.factors, declared.item}
    own = {
        name: value
        for name, value in record["trial"].items()
        if name not in study.key_columns or name in kept
    }
    return digest([record["variant"], record["prompt_id"], own])[:16]


def methods_ready(
    study: Study, methods: Iterable[pd.DataFrame], probabilities: Iterable[pd.DataFrame]
) -> pd.DataFrame:
    """The analysis-ready table of a study under every way of scoring, models one after the other.

    Its columns are those of `analysis_ready`, experiment 2's as the `scoring_method` gives them, without
    experiment 1's and without distributions as sampled. The tables run over the same models and
    replications. Distributions of several replications are copies: of each prompt and method the
    first replication that measured it stands here.
    """
    known: set[tuple[str, ...]] = set()
    parts: list[pd.DataFrame] = []
    values = list(study.probability_columns())
    as_sampled = [*study.sampled_columns().values(), *bound_columns(study).values()]
    for scores, measured in zip(methods, probabilities, strict=True):
        new = scores[scores[values].notna().any(axis=1)]
        keys = list(zip(*(new[name].astype(str) for name in _COPIES), strict=True))
        unseen = [key not in known for key in keys]
        new = new[pd.Series(unseen, index=new.index, dtype=bool)]
        known |= set(keys)
        for method, rows in new.groupby("scoring_method", sort=False):
            place = rows[[*ROW_KEY, "options_alike"]]
            part = place.merge(measured, on=list(ROW_KEY), how="left", validate="1:1")
            part[values] = rows[values].to_numpy()
            part[as_sampled] = None
            ready = analysis_ready(study, None, part)
            alike = ready[list(ROW_KEY)].merge(place, on=list(ROW_KEY), how="left")
            added = pd.DataFrame(
                {"scoring_method": method, "options_alike": alike["options_alike"]}
            )
            parts.append(pd.concat([ready, added], axis=1))
    if parts:
        return pd.concat(parts, ignore_index=True)
    return pd.DataFrame(columns=["scoring_method", "options_alike"])
