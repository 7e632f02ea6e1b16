"""One replication's answers to a study's experiment, as other tools' formats have samples.

A sample is a trial's answer in experiment 1, and one query of a trial in experiment 2. Prompts,
answers and reasoning come from the records; what was read or measured of them, and the flags, from
the table beside them, so that a number in an export is a number there.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grace.errors import ConfigError, RecordError
from grace.results.records import read_records
from grace.studies.asking import QueryForm
from grace.studies.people_models import PeopleModel
from grace.studies.study import Study
from grace.studies.trials import Trial
from grace.trial_browser.sources import reference_rows

Message = Mapping[str, Any]
Key = tuple[str, int]
#: The least difference of two shares that are not the same favourite; shares are read from text.
_TIE = 1e-12


@dataclass(frozen=True)
class Metric:
    """What a score is, and where its values may lie.

    Attributes:
        correct_means: What `SampleScore.correct` says; no answer of these studies is wrong.
    """

    name: str
    what: str
    kind: str
    unit: str
    lower_is_better: bool
    correct_means: str
    lowest: float = 0.0
    highest: float = 1.0


READ = Metric(
    "answer_read", "Share of answers in which everything asked for could be read",
    "completion_rate", "proportion", False, "everything asked for could be read",
)  # fmt: skip
OPTION_MASS = Metric(
    "option_mass", "Probability that the model gives to the options together, before they are"
    " normalised; mean over queries", "probability_mass", "proportion", False,
    "the options are likelier than all other text together",
)  # fmt: skip
JSD_PEOPLE = Metric(
    "jsd_people", "Jensen-Shannon divergence of the model's distribution from that of people's"
    " answers in the trial's condition; mean over trials, not corrected for the noise of people's"
    " answers", "jensen_shannon_divergence", "bits", True,
    "the model's most probable option is people's most frequent one",
)  # fmt: skip
FAVOURITE = Metric(
    "people_favourite", "Share of answers that are people's most frequent one in the trial's"
    " condition", "agreement", "proportion", False, "the answer is people's most frequent one",
)  # fmt: skip
METRICS = {one.name: one for one in (READ, OPTION_MASS, JSD_PEOPLE, FAVOURITE)}


@dataclass(frozen=True)
class SampleScore:
    """A sample's score: its value, the answer that it is of (all turns), and why, where it says."""

    value: float
    correct: bool
    answer: str = ""
    why: str = ""


@dataclass(frozen=True)
class Sample:
    """A prompt and what came of it.

    Attributes:
        id: `<variant>-<trial_index>`, in experiment 2 with `-<query>`.
        messages: The prompt; of a chat of several turns also all answers but the last.
        choices: The options in their order; empty where the answer was free.
        target: People's most frequent answers in the trial's condition; empty where unknown.
        response: The answer, of several turns the last; in experiment 2 the most probable option.
        scores: By the names of `METRICS`.
        metadata: The trial's own columns, and all else that is known.
        tokens: Of prompt and answer, where the engine counts them.
        seconds: From request to answer, where it was one.
        error: Why there is no answer; None where there is one.
    """

    id: str
    messages: Sequence[Message]
    response: str | None
    scores: Mapping[str, SampleScore]
    metadata: Mapping[str, Any]
    choices: Sequence[str] = ()
    target: Sequence[str] = ()
    reasoning: str | None = None
    stop_reason: str | None = None
    tokens: tuple[int, int] | None = None
    seconds: float | None = None
    completed: str | None = None
    error: str | None = None
    turns: int = field(default=1)


def people_of(study: Study, reference: Path) -> PeopleModel | None:
    """People's answers by trial, from the study's reference table; None where it has none."""
    if study.declaration.people is None:
        return None
    source = study.declaration.people.source
    rows = list(reference_rows(study, source, reference))
    return PeopleModel(study, source, rows) if rows else None


def generated(
    study: Study, table: Path, records: Path, people: PeopleModel | None = None
) -> Iterator[Sample]:
    """Experiment 1's samples, by variant and trial. Raises `RecordError`."""
    rows = _rows(table)
    for key, record in _by_key(records, rows):
        row, trial = rows[key], study.trial(record["trial"])
        people = _answering(people, trial)
        fields = {name: _cell(row[name]) for name in study.answer_columns() if name in row}
        answered = record["response"] is not None
        errors = row.get("extraction_errors") or ("" if answered else record["status"])
        scores = {
            READ.name: SampleScore(
                float(answered and not errors), answered and not errors,
                record["response"] or "", errors,
            )
        }  # fmt: skip
        target: Sequence[str] = ()
        choices: Sequence[str] = ()
        if people is not None and len(study.sampled_queries) == 1:
            form = next(one for one in study.query_forms if one.name in study.sampled_queries)
            options = study.options(form, trial)
            shares = people.distributions(trial).get(form.name)
            said = next((value for value in fields.values() if value in options), None)
            if shares:
                choices, target = options, favourites(shares)
                if said is not None:
                    right = said in target
                    scores[FAVOURITE.name] = SampleScore(float(right), right, str(said))
        turns = record.get("turns") or [record]
        usage = record.get("usage") or {}
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        tokens = [int(count) for count in counts if count is not None]
        ms = record.get("processing_time_ms")
        yield Sample(
            id=f"{key[0]}-{key[1]}",
            # Each turn's prompt holds those before it, with their answers.
            messages=list(turns[-1].get("messages") or ()),
            response=turns[-1]["response"],
            reasoning=turns[-1].get("reasoning"),
            scores=scores,
            metadata={
                **_about(record, row, trial), "answer": fields,
                "request_seed": record.get("request_seed"),
            },
            choices=choices,
            target=target,
            stop_reason=record.get("finish_reason"),
            tokens=(tokens[0], tokens[1]) if len(tokens) == 2 else None,
            seconds=None if ms is None else ms / 1000,
            completed=record.get("response_timestamp"),
            error=None if answered else str(record["status"]),
            turns=len(turns),
        )  # fmt: skip


def measured(
    study: Study, table: Path, records: Path, people: PeopleModel | None = None
) -> Iterator[Sample]:
    """Experiment 2's samples, by variant, trial and query. Raises `RecordError`."""
    rows = _rows(table)
    forms = {form.name: form for form in study.query_forms}
    one_query = len(forms) == 1
    for key, record in _by_key(records, rows):
        row, trial = rows[key], study.trial(record["trial"])
        people = _answering(people, trial)
        of_people = people.distributions(trial) if people is not None else {}
        about = _about(record, row, trial)
        for query in record["queries"]:
            name = query["name"]
            shares = _distribution(study, forms[name], trial, row)
            mass = _cell(row.get("option_mass" if one_query else f"{name}_option_mass", ""))
            yield Sample(
                id=f"{key[0]}-{key[1]}-{name}",
                messages=query.get("messages") or (),
                response=favourites(shares)[0] if shares else None,
                scores=_scores(shares, mass, of_people.get(name)),
                metadata={
                    **about, "query": name, "probabilities": shares,
                    "people": of_people.get(name),
                    "log_probabilities": {
                        option["text"]: option.get("logprob") for option in query["options"]
                    },
                },
                choices=study.options(forms[name], trial),
                target=favourites(of_people[name] or {}) if name in of_people else (),
                reasoning=None,
                stop_reason="stop",
                completed=record.get("response_timestamp") or record.get("run_timestamp"),
                error=None if shares else str(query.get("status", record["status"])),
            )  # fmt: skip


def favourites(shares: Mapping[str, float]) -> list[str]:
    """The options with the largest share; several where they have the same."""
    most = max(shares.values(), default=0.0)
    return [option for option, share in shares.items() if share > most - _TIE and most > 0]


def jsd(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Jensen-Shannon divergence of two distributions over the same options, in bits (0 to 1)."""

    def entropy(shares: Mapping[str, float]) -> float:
        total = sum(shares.values())
        return -sum(p / total * math.log2(p / total) for p in shares.values() if p > 0)

    totals = sum(one.values()), sum(other.values())
    mean = {name: (one[name] / totals[0] + other[name] / totals[1]) / 2 for name in one}
    return min(max(entropy(mean) - (entropy(one) + entropy(other)) / 2, 0.0), 1.0)


def _answering(people: PeopleModel | None, trial: Trial) -> PeopleModel | None:
    """People, where the declaration says what they answer to such trials."""
    if people is not None:
        try:
            people.check([trial])
        except ConfigError:
            return None
    return people


def _scores(
    shares: Mapping[str, float] | None, mass: Any, people: Mapping[str, float] | None
) -> dict[str, SampleScore]:
    if not shares:
        return {}
    mine = favourites(shares)
    found = {}
    if isinstance(mass, (int, float)):
        # A sum of probabilities may exceed 1 by rounding.
        found[OPTION_MASS.name] = SampleScore(min(float(mass), 1.0), mass > 0.5, mine[0])
    if people and set(people) == set(shares):
        same = bool({*mine} & {*favourites(people)})
        found[JSD_PEOPLE.name] = SampleScore(jsd(shares, people), same, mine[0])
    return found


def _distribution(
    study: Study, form: QueryForm, trial: Trial, row: Mapping[str, str]
) -> dict[str, float] | None:
    """A query's normalised distribution as the table has it; None where it was not measured."""
    names = study.distributions.queries[form.name].options
    values = [_cell(row.get(name, "")) for name in names]
    options = study.options(form, trial)
    if len(values) != len(options) or not all(isinstance(v, (int, float)) for v in values):
        return None
    return dict(zip(options, map(float, values), strict=True))


def _about(record: Mapping[str, Any], row: Mapping[str, str], trial: Trial) -> dict[str, Any]:
    """What both experiments say of a trial."""
    flags = [flag for flag in (row.get("quality_flags") or "").split(";") if flag]
    return {
        "trial_index": record["trial_index"],
        "variant": record["variant"],
        "prompt_id": record.get("prompt_id"),
        "status": record["status"],
        "quality_flags": flags,
        "trial": trial.all(),
    }


def _rows(table: Path) -> dict[Key, dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return {
            (row["variant"], int(row["trial_index"])): row
            for row in csv.DictReader(file, strict=True)
        }


def _by_key(
    records: Path, rows: Mapping[Key, Mapping[str, str]]
) -> Iterator[tuple[Key, dict[str, Any]]]:
    """The records in the order of variants and trials."""
    found: dict[Key, dict[str, Any]] = {}
    for record in read_records(records):
        key = record["variant"], int(record["trial_index"])
        if key not in rows:
            raise RecordError(
                f"{records}: trial {key[1]} of variant {key[0]} is not in the table beside it."
                " Delete the table and run again."
            )
        record.pop("prompt_token_ids", None)
        for query in record.get("queries", ()):
            query.pop("prompt_token_ids", None)
            for option in query["options"]:
                option.pop("token_ids", None)
                option.pop("token_logprobs", None)
        found[key] = record
    yield from sorted(found.items())


def _cell(text: str | None) -> Any:
    """A table's cell: a number where it is one, None where it is empty."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        return text
    if not math.isfinite(value):
        return text
    return int(value) if text.lstrip("-").isdecimal() else value
