"""Tables of people and models of people, in the form of a language model's.

They are asked nothing: their rows are a language model's, trial by trial, with their own answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from grace import seeds
from grace.digests import digest
from grace.results.tables import (
    OF_ANSWER,
    REPORTED,
    RESPONSE_COLUMNS,
    bound_columns,
    mass_columns,
    probability_columns,
    structured_columns,
)
from grace.studies.people_models import PeopleModel
from grace.studies.study import Study
from grace.studies.trials import Trial

Row = dict[str, Any]
#: Structured answers and distributions of one model and replication; None if it was not asked.
TablePair = tuple[pd.DataFrame | None, pd.DataFrame | None]
#: What `model_name` says of them.
NAMES = {True: "people's own answers", False: "model of people"}


def people_tables(
    pairs: Sequence[TablePair], study: Study, people: Mapping[str, str], trials: Sequence[Trial]
) -> Iterator[TablePair]:
    """The tables of people and models of people, by name and replication, from language models'.

    `people` are sources of the study by name. Where a source answers neither experiment that was
    run, there are none.
    """
    like: dict[int, TablePair] = {}
    for pair in pairs:
        table = next(one for one in pair if one is not None)
        like.setdefault(int(table["replication"].iloc[0]), pair)
    for name, source in people.items():
        model = PeopleModel(study, source)
        for answers, measured in like.values():
            said = None if answers is None else as_structured(model, name, answers, trials)
            scored = None if measured is None else as_probabilities(model, name, measured, trials)
            if said is not None or scored is not None:
                yield said, scored


def as_structured(
    model: PeopleModel, name: str, like: pd.DataFrame, trials: Sequence[Trial]
) -> pd.DataFrame | None:
    """Experiment 1: an answer to each trial of `like`, drawn with a seed of its own.

    None where the study asks there for more than one choice among options, or reads no field of
    such an answer.
    """
    study, rows = model.study, []
    for row in _rows(like):
        trial = trials[int(row["trial_index"])]
        seed = seeds.request_seed(
            int(row["experiment_seed"]), int(row["trial_index"]), str(row["variant"])
        )
        answer = model.says(trial, seed, named=name)
        if answer is None:
            return None
        read = study.parse(answer, {**trial.row()})
        if read.row()["extraction_errors"] is not None:
            return None
        rows.append(
            {
                **row,
                **dict.fromkeys((*RESPONSE_COLUMNS, *REPORTED, *OF_ANSWER, "finish_reason")),
                **read.row(),
                **_who(model, name),
                "model_response": answer,
                "answer_id": digest([name, answer])[:16],
                "request_seed": seed,
                "status": "ok",
                "quality_flags": "",
            }
        )
    return pd.DataFrame(rows, columns=list(structured_columns(study)))


def as_probabilities(
    model: PeopleModel, name: str, like: pd.DataFrame, trials: Sequence[Trial]
) -> pd.DataFrame:
    """Experiment 2: the distribution of each trial's cell; `like` has the trials.

    Their distributions know no temperature: as sampled, they are the same.
    """
    study, rows = model.study, []
    for row in _rows(like):
        trial = trials[int(row["trial_index"])]
        found = model.distributions(trial)
        there = any(one is not None for one in found.values())
        rows.append(
            {
                **row,
                **dict.fromkeys(REPORTED),
                **dict.fromkeys(mass_columns(study)),
                **study.probabilities(found, {}, trial),
                **study.sampled_probabilities(found, trial),
                **{
                    column: 0.0 if found.get(query) is not None else None
                    for query, column in bound_columns(study).items()
                },
                **_who(model, name),
                "status": "ok" if there else "error: nothing is known of this cell",
                "quality_flags": "" if there else "request_failed",
            }
        )
    return pd.DataFrame(rows, columns=list(probability_columns(study)))


def _rows(table: pd.DataFrame) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _who(model: PeopleModel, name: str) -> Row:
    return {"model_key": name, "model_name": f"{NAMES[model.is_people]} ({model.source})"}
