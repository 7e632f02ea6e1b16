"""What each column of a study's analysis-ready table holds, in words, from its declaration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from grace.results.tables import bound_columns, mass_columns
from grace.studies.answers import TURN
from grace.studies.asking import combinations, fixed_options, is_auxiliary
from grace.studies.declaration import filled
from grace.studies.distributions import QueryColumns
from grace.studies.study import Study

PROBABILITY = "probability, 0 to 1"
BITS = "bits"
AS_SAMPLED = "As experiment 1 samples (temperature, top-p)"
NOT_DESCRIBED = "Not described."


class Entry(NamedTuple):
    """A row of the codebook. `values` are those that the column may hold, where that is declared;
    `source` is what the column comes from.
    """

    column: str
    meaning: str
    unit: str
    values: str
    source: str


COLUMNS = Entry._fields

#: Columns that every study has: meaning, unit, values, source.
_SHARED = {
    "model_key": ("The model's key.", "", "", "config/models.yaml"),
    "model_name": (
        "The entry's `name`: hub id, folder, or what a server calls the model.", "", "",
        "config/models.yaml",
    ),
    "replication": ("Number of the replication, from 0.", "", "", "run"),
    "variant": ("Prompt variant.", "", "", "config"),
    "trial_index": ("Number of the trial in the stimuli file, from 0.", "", "", "stimuli"),
    "model_response": ("The model's answer, as written.", "", "", "experiment 1"),
    "response_timestamp": ("When the answer was complete, UTC.", "ISO 8601", "", "experiment 1"),
    "processing_time_ms": ("How long the answer took.", "milliseconds", "", "experiment 1"),
    "prompt_id": ("Digest of the messages that were sent.", "", "", "experiment 1"),
    "answer_id": ("Digest of the answer and of the reasoning before it.", "", "", "experiment 1"),
    "reasoning_characters": (
        "Length of the reasoning before the answer; empty without any.", "characters", "",
        "experiment 1",
    ),
    "replaced_characters": (
        "Characters of the answer that no file can hold, replaced by U+FFFD.", "characters", "",
        "experiment 1",
    ),
    "extraction_confidence": (
        "How sure the reading of the answer is: 1 for the form asked for, 0 where a field was not"
        " found.",
        "", "0 to 1", "reading of the answer",
    ),
    "extraction_errors": (
        "What could not be read of the answer; empty where all was.", "", "",
        "reading of the answer",
    ),
    "quality_flags": (
        "What is wrong with the row, each with exp1_ or exp2_ before it, separated by semicolons.",
        "", "", "tables",
    ),
    "variant_of": ("Variant that this one extends.", "", "", "config"),
    "system_message": ("Whether the prompt has a system message.", "", "yes; no", "config"),
    "option_order": ("Order in which the trial's options are listed.", "", "", "config"),
    "reasoning_closed": ("Whether the reasoning ended.", "", "yes; no", "experiment 1"),
    "reasoning_traces": ("Traces behind which the trial was scored.", "traces", "", "experiment 2"),
    "reasoning_budget": ("Most tokens of a trace.", "tokens", "", "experiment 2"),
    "reasoning_truncated": ("Traces that reached the budget.", "traces", "", "experiment 2"),
    "reasoning_unanswered": ("Traces without an answer after them.", "traces", "", "experiment 2"),
    "reasoning_tokens": ("Mean length of a trace.", "tokens", "", "experiment 2"),
    "reasoning_variance": (
        "Largest variance of an option's probability among a query's traces.", "", "",
        "experiment 2",
    ),
    "reasoning_standard_error": (
        "Largest standard error of a probability averaged over traces.", PROBABILITY, "",
        "experiment 2",
    ),
    "extraction_method": ("What read the answer.", "", "rules; model", "reading of the answer"),
    "extraction_agreement": (
        "Least share, over fields, of readings that give the value kept.", "share, 0 to 1", "",
        "reading of the answer",
    ),
    "extraction_rules": (
        "How the rules' reading stands to the model's.", "", "same; different; left open",
        "reading of the answer",
    ),
}  # fmt: skip
#: Columns that each experiment has, with `exp1_` or `exp2_` before them.
_PER_EXPERIMENT = {
    "experiment_seed": ("Seed of the experiment.", ""),
    "request_seed": ("Seed of the request.", ""),
    "finish_reason": ("Why the answer ended, as the engine says: stop, length.", ""),
    "status": ("ok, or why there is no answer.", ""),
    "reported_model": ("Model that the server says answered; empty without a server.", ""),
    "system_fingerprint": ("What the server says of its configuration.", ""),
}


def codebook(study: Study, columns: Iterable[str]) -> list[Entry]:
    """An entry for each of these columns of the study's analysis-ready table, in their order."""
    known = {entry.column: entry for entry in _entries(study)}
    return [known.get(column) or _further(column) for column in columns]


def _further(column: str) -> Entry:
    """A column that only some runs have; nothing in a run stops for one that nobody described."""
    if column.startswith(TURN):
        turn = column.removeprefix(TURN)
        return Entry(column, f"The model's answer in the turn '{turn}'.", "", "", "experiment 1")
    return Entry(column, NOT_DESCRIBED, "", "", "")


def _entries(study: Study) -> Iterator[Entry]:
    for name, shared in _SHARED.items():
        yield Entry(name, *shared)
    for number in (1, 2):
        for name, (meaning, unit) in _PER_EXPERIMENT.items():
            yield Entry(f"exp{number}_{name}", meaning, unit, "", f"experiment {number}")
    yield from _of_trials(study)
    yield from _of_answers(study)
    measured = {entry.column: entry for entry in _measured(study)}
    yield from measured.values()
    yield from _masses(study)
    for name, column in study.sampled_columns().items():
        entry = measured[name]
        yield entry._replace(
            column=column,
            meaning=f"{AS_SAMPLED}: {entry.meaning}",
        )
    yield from _responses(study)


def _of_trials(study: Study) -> Iterator[Entry]:
    stimuli = study.declaration.stimuli
    for name, column in stimuli.columns.items():
        values = _joined(column.levels) or _range(column.minimum, column.maximum)
        yield Entry(name, column.about or "A column of the stimuli.", "", values, "stimuli")
    for name, derived in stimuli.derived.items():
        how = f"= {derived.value}" if derived.value else f"class of {derived.of}"
        yield Entry(
            name, f"Computed from the trial: {how}.", "", _joined(derived.classes), "study.yaml"
        )


def _of_answers(study: Study) -> Iterator[Entry]:
    generate = study.declaration.generate
    if generate is None:
        return
    source = "reading of the answer"
    for reading in generate.read:
        for factors in combinations(reading.each):
            for name, field in reading.fields.items():
                values = _joined(field.levels) or _range(field.minimum, field.maximum)
                if field.levels_from:
                    values = f"what the trial has in {_joined(field.levels_from)}"
                elif reading.option_of:
                    values = f"an option of the trial's query {_joined(reading.option_of)}"
                what = f"What the answer says: {filled(reading.what, factors)}."
                yield Entry(filled(name, factors), what, "", values, source)
    for name in generate.derived:
        yield Entry(name, "Made of the answer's other fields.", "", "", source)
    if study.labels is not None and study.labels.field_column:
        yield Entry(
            study.labels.field_column, f"Label of the option that `{study.labels.field}` names.",
            "", "", source,
        )  # fmt: skip


def _measured(study: Study) -> Iterator[Entry]:
    for query in study.distributions.queries.values():
        yield from _of_query(query)
    for label, column in study.labels.columns.items() if study.labels else ():
        yield Entry(
            column, f"Probability of the options labelled '{label}', together.", PROBABILITY, "",
            "experiment 2",
        )  # fmt: skip


def _of_query(query: QueryColumns) -> Iterator[Entry]:
    form, source = query.form, "experiment 2"
    options = form.entry.options
    fixed = fixed_options(options)
    named = (
        [f"'{text}'" for text in fixed]
        if fixed
        else [f"what the trial has in {column}" for column in options.columns or ()]
    )
    beside = ", which is asked for a theory alone" if is_auxiliary(form) else ""
    for column, option in zip(query.options, named, strict=True):
        yield Entry(
            column,
            f"Probability of {option} among the options of the query '{form.name}'{beside}.",
            PROBABILITY, "", source,
        )  # fmt: skip
    for column, option in zip(query.logprobs, named, strict=bool(query.logprobs)):
        yield Entry(column, f"Log-probability of {option}.", "nats", "", source)
    for factor, columns in query.marginals.items():
        for level, column in columns.items():
            yield Entry(
                column, f"Probability of {factor} '{level}': the sum over the options with it.",
                PROBABILITY, "", source,
            )  # fmt: skip
    for (summary, of), column in query.summaries.items():
        whose = f"the query '{form.name}'" + ("" if of == "joint" else f", of its {of}")
        if summary == "entropy":
            yield Entry(column, f"Entropy of the distribution of {whose}.", BITS, "", source)
        else:
            word = {"mean": "Mean", "std": "Standard deviation"}[summary]
            yield Entry(
                column, f"{word} of the distribution of {whose} over the options' numbers.",
                "as the options' numbers", "", source,
            )  # fmt: skip


def _masses(study: Study) -> Iterator[Entry]:
    for column in mass_columns(study):
        meaning = (
            "Probability that the model gives to the query's options together, before they are"
            " made to sum to 1."
            if column.endswith("option_mass")
            else "1 less the option mass: what the model gives to all other texts."
        )
        yield Entry(column, meaning, PROBABILITY, "", "experiment 2")
    for name, column in bound_columns(study).items():
        yield Entry(
            column,
            f"How far a sampled probability of the query '{name}' may be off, at most.",
            PROBABILITY, "", "experiment 2",
        )  # fmt: skip


def _responses(study: Study) -> Iterator[Entry]:
    """`study.responses` numbers them from 1."""
    for number, response in enumerate(study.declaration.responses, start=1):
        meaning, unit = f"{response.name}: {{}}.", response.unit or ""
        values = _range(*response.range) if response.range else ""
        for name in (f"response_{number}_exp1", f"response_{number}_exp2"):
            if name in study.responses.expressions:
                text = meaning.format(study.responses.expressions[name].source)
                yield Entry(name, text, unit, values, f"experiment {name[-1]}")
                if name.endswith("2"):
                    column = name.replace("_exp2", "_sampled")
                    yield Entry(column, f"{AS_SAMPLED}: {text}", unit, values, "experiment 2")


def _joined(values: Iterable[object] | None) -> str:
    return "; ".join(map(str, values or ()))


def _range(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f"{minimum:g} to {maximum:g}"
    if minimum is not None:
        return f"at least {minimum:g}"
    return "" if maximum is None else f"at most {maximum:g}"
