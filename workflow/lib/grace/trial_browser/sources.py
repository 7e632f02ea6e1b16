"""People and models of people beside language models: their distributions for each trial.

They come from the study's reference table, and stand where the study's queries ask what they answer
(`grace.studies.people_models`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grace.errors import ConfigError
from grace.studies.analysis_parts import PARTICIPANT
from grace.studies.asking import combinations
from grace.studies.people_models import PeopleModel, sources
from grace.studies.study import Study
from grace.studies.trials import Trial
from grace.trial_browser.blocks import DIGITS


def source_distributions(
    study: Study, trials: Mapping[int, Trial], reference: Path
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What sources there are, and by `source:<name>` their distributions.

    A source's distributions are `d`, the distinct ones, each by query the probabilities of its
    options in order, and `c`, the place of each trial's among them, in the order of trials. A
    source whose answers are about no query of a trial has none, and `why` says where they are.
    """
    about: list[dict[str, Any]] = []
    blocks: dict[str, Any] = {}
    for name in sources(study):
        model = PeopleModel(study, name, list(reference_rows(study, name, reference)))
        found = _of_trials(model, [trial for _, trial in sorted(trials.items())])
        why = None if found else f"none by trial and query; see analysis-ready/{reference.name}"
        about.append({"name": name, "people": model.is_people, "why": why})
        if found:
            blocks[f"source:{name}"] = found
    return about, blocks


def _of_trials(model: PeopleModel, trials: Sequence[Trial]) -> dict[str, Any] | None:
    try:
        model.check(trials)
    except ConfigError:
        return None
    distinct: dict[tuple[Any, ...], int] = {}
    codes = []
    for trial in trials:
        found = tuple(
            (query, tuple(float(f"{p:.{DIGITS}g}") for p in shares.values()))
            for query, shares in model.distributions(trial).items()
            if shares is not None
        )
        codes.append(distinct.setdefault(found, len(distinct)))
    return {"d": [dict(one) for one in distinct], "c": codes} if any(distinct) else None


def reference_rows(study: Study, source: str, reference: Path) -> Iterator[dict[str, Any]]:
    """A source's rows of the reference table, as the declaration names their columns."""
    declared = study.declaration
    own = [theory for theory in declared.theory if theory.source == source]
    outcome = own[0].outcome if own else declared.people.outcome if declared.people else {}
    # The generic analysis has one column for all that an outcome consists of.
    texts = {" ".join(map(str, one.values())): one for one in combinations(outcome)}
    with reference.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            if row["source"] != source or row.get(PARTICIPANT):
                continue
            if declared.analysis != "generic":
                yield row
            elif row["outcome"] in texts:
                yield {**row, **texts[row["outcome"]]}
