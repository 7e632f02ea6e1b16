"""One study's trials and answers as the trial browser's page holds them.

Columns are those of the tables beside the records, so that a number on the page is a number there.
Prompts, reasoning and traces come from the records.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from grace.errors import RecordError
from grace.results.records import read_records
from grace.studies.study import Study
from grace.studies.trials import Trial
from grace.trial_browser.blocks import PackedColumn, TextBlocks, number, packed
from grace.trial_browser.sources import source_distributions

Key = tuple[str, int]
RUN = ("model_key", "replication", "variant", "trial_index")
FLAGS = "quality_flags"
#: What both experiments' tables have under one name; the page says whose it is.
_OF_BOTH = (
    "experiment_seed", "request_seed", "finish_reason", "status", "reported_model",
    "system_fingerprint", FLAGS,
)  # fmt: skip
#: Names and identifiers that may look like numbers.
_TEXT = frozenset(
    ("model_key", "model_name", "variant", "prompt_id", "answer_id", "model_response")
) | {f"{experiment}_{name}" for experiment in ("exp1", "exp2") for name in _OF_BOTH[3:]}
#: Columns that every row has at hand, beside the fields that were read of its answer.
_AT_HAND = (*RUN, "model_response", FLAGS)


class ReplicationFiles(NamedTuple):
    """A replication's table and records of one experiment."""

    table: Path
    records: Path


class StudyFiles(NamedTuple):
    """A study's files over models and replications, and its table of people and theories."""

    exp1: Sequence[ReplicationFiles]
    exp2: Sequence[ReplicationFiles]
    reference: Path


class StudyData(NamedTuple):
    """What the page holds of a study: `about`, which is read first, and blocks by name."""

    about: dict[str, Any]
    blocks: dict[str, str]


def study_data(study: Study, files: StudyFiles) -> StudyData:
    """A study's part of the page. Raises `RecordError` where table and records differ."""
    return _Reader(study).read(files)


class _Reader:
    """Reads a study's files, one model and replication after the other."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._rows = 0
        self._columns: dict[str, PackedColumn] = {}
        self._said = _said(study)
        self._trials: dict[int, Trial] = {}
        self._inputs = {*study.input_columns(), *study.derived_names}
        self._derived: dict[int, dict[str, Any]] = {}
        self._texts = TextBlocks(f"{study.name}/texts")
        #: Numbers of texts: a row's prompt, reasoning, turns, traces, and each query's prompt.
        self._references: dict[str, PackedColumn] = {}

    def read(self, files: StudyFiles) -> StudyData:
        for answers, measured in _paired(files):
            self._replication(answers, measured)
        self._texts.close()
        trials, blocks = self._trial_columns()
        name = self._study.name
        sources, distributions = source_distributions(self._study, self._trials, files.reference)
        blocks |= {f"{name}/{key}": packed(value) for key, value in distributions.items()}
        columns, more = self._row_columns()
        blocks |= more
        for kind, column in self._references.items():
            blocks[f"{name}/reference:{kind}"] = packed(column.encoded(self._rows))
        about = {
            "name": name,
            "title": self._study.title,
            "summary": self._study.declaration.summary,
            "rows": self._rows,
            "trials": len(self._trials),
            "experiments": [kind for kind in ("exp1", "exp2") if getattr(files, kind)],
            "trialColumns": trials,
            "columns": columns,
            "shown": self._shown(),
            "queries": [self._query(query) for query in self._study.query_names],
            "sources": sources,
            "texts": self._texts.starts,
        }
        return StudyData(about, {**blocks, **self._texts.blocks})

    def _replication(
        self, answers: ReplicationFiles | None, measured: ReplicationFiles | None
    ) -> None:
        tables = [
            _Table(files.table, kind)
            for kind, files in (("exp1", answers), ("exp2", measured))
            if files
        ]
        keys = sorted({key for table in tables for key in table.rows})
        rows = {key: self._rows + place for place, key in enumerate(keys)}
        for table in tables:
            self._add(table, rows)
        flags = self._column(FLAGS)
        for key, row in rows.items():
            flags.add(";".join(flag for table in tables for flag in table.flags(key)), row)
        self._rows += len(rows)
        if answers:
            self._answers(answers.records, rows)
        if measured:
            self._measured(measured.records, rows)

    def _add(self, table: _Table, rows: Mapping[Key, int]) -> None:
        """A table's cells, but for the trials' own, of which derived ones are kept by trial."""
        derived = {
            name: table.names.index(name)
            for name in self._study.derived_names
            if name in table.names
        }
        # Tables are in the order asked.
        empty = [""] * len(table.names)
        cells_of = [table.rows.get(key, empty) for key in rows]
        for place, name in enumerate(table.names):
            if name not in self._inputs and name != FLAGS:
                column = self._column(table.shown(name))
                column.add_all([cells[place] for cells in cells_of], self._rows)
        for key, cells in table.rows.items():
            if derived and key[1] not in self._trials:
                known = self._derived.setdefault(key[1], {})
                known |= {name: _value(cells[place]) for name, place in derived.items()}

    def _column(self, name: str) -> PackedColumn:
        if name not in self._columns:
            measured = name not in self._said
            self._columns[name] = PackedColumn(rounded=measured, is_text=name in _TEXT)
        return self._columns[name]

    def _trial(self, index: int, cells: Mapping[str, Any]) -> Trial:
        """A record's trial. What is derived of it stands in the tables, where they show all."""
        derived = self._derived.get(index, {})
        if self._study.labels is None and derived.keys() == {*self._study.derived_names}:
            return Trial(cells, derived)
        return self._study.trial(cells)

    def _answers(self, records: Path, rows: Mapping[Key, int]) -> None:
        for row, record in self._records(records, rows):
            self._refer("prompt", _chat(record.get("messages")), row)
            if record.get("reasoning"):
                self._refer("reasoning", record["reasoning"], row)
            if record.get("turns"):
                turns = [
                    {
                        "name": turn["name"],
                        "prompt": _chat(turn["messages"]),
                        "response": turn["response"],
                        "reasoning": turn.get("reasoning"),
                    }
                    for turn in record["turns"]
                ]
                self._refer("turns", turns, row)

    def _measured(self, records: Path, rows: Mapping[Key, int]) -> None:
        #: Traces stand with the first trial of several that have the same prompt.
        traces: dict[str, list[dict[str, Any]]] = {}
        waiting: list[tuple[int, list[tuple[str, str]]]] = []
        for row, record in self._records(records, rows):
            for trace in record.get("traces", ()):
                traces.setdefault(trace["trace_id"], []).append(
                    {name: trace[name] for name in ("trace", "text", "end", "tokens")}
                )
            thought = []
            for query in record["queries"]:
                self._refer(f"query:{query['name']}", _chat(query.get("messages")), row)
                if "trace_id" in query:
                    thought.append((query["name"], query["trace_id"]))
            if thought:
                waiting.append((row, thought))
        for row, thought in waiting:
            found = [
                {"query": query, **trace} for query, one in thought for trace in traces.get(one, ())
            ]
            if found:
                self._refer("traces", found, row)

    def _records(self, path: Path, rows: Mapping[Key, int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The records by row, in the rows' order. Raises `RecordError`."""
        found: dict[int, dict[str, Any]] = {}
        for record in read_records(path):
            index = int(record["trial_index"])
            row = rows.get((record["variant"], index))
            if row is None:
                raise RecordError(
                    f"{path}: trial {index} of variant {record['variant']} is not in the table"
                    " beside it. Delete the table and run again."
                )
            if index not in self._trials:
                self._trials[index] = self._trial(index, record["trial"])
            found[row] = {
                name: record[name]
                for name in ("messages", "reasoning", "turns", "queries", "traces")
                if name in record
            }
            # Token ids and log-probabilities would fill the memory.
            for query in found[row].get("queries", ()):
                for name in ("options", "prompt_token_ids"):
                    query.pop(name, None)
        yield from sorted(found.items())

    def _refer(self, kind: str, value: Any, row: int) -> None:
        if value:
            column = self._references.setdefault(kind, PackedColumn())
            column.add(str(self._texts.number(value)), row)

    def _trial_columns(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """The trials' own columns, described and packed; rows name a trial by its place there."""
        columns = {
            "trial_index": PackedColumn(),
            **{
                name: PackedColumn(is_text=name in self._study.key_columns)
                for name in (*self._study.input_columns(), *self._study.derived_names)
            },
        }
        for place, (index, trial) in enumerate(sorted(self._trials.items())):
            for name, value in {"trial_index": index, **trial.all()}.items():
                if name in columns:
                    columns[name].add("" if value is None else str(value), place)
        count = len(self._trials)
        packed_columns = {name: column.encoded(count) for name, column in columns.items()}
        about = [
            {"name": name, "number": column.is_number, "key": name in self._study.key_columns}
            for name, column in columns.items()
        ]
        return about, {f"{self._study.name}/trials": packed(packed_columns)}

    def _row_columns(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """All other columns, each in a block of its own; empty ones are left out.

        `said` are those that tell what was answered, in which a search looks.
        """
        about: list[dict[str, Any]] = []
        blocks: dict[str, str] = {}
        for name, column in self._columns.items():
            if column.is_empty and name != FLAGS:
                continue
            blocks[f"{self._study.name}/column:{name}"] = packed(column.encoded(self._rows))
            about.append({"name": name, "number": column.is_number, "said": name in self._said})
        return about, blocks

    def _shown(self) -> list[str]:
        """The columns that the table shows at first: whose, of which trial, and what was read."""
        study = self._study
        filled = {name for name, column in self._columns.items() if not column.is_empty}
        derived = [name for name in study.derived_names if name in study.raw_input_columns]
        inputs = study.declaration.stimuli.columns.items()
        levelled = [name for name, column in inputs if column.levels]
        told = study.declaration.factors or [*derived, *levelled]
        fields = study.answers.fields if study.answers else ()
        wanted = ["trial_index", *RUN[:3], *told, "model_response", *fields]
        if not study.answers or "model_response" not in filled:
            own = (q for q in study.query_names if q not in study.auxiliary_queries)
            wanted += [
                name for query in own
                for name in (study.distributions.queries[query].summaries.values()
                             or study.distributions.queries[query].options)
            ]  # fmt: skip
        known = {*filled, *study.input_columns(), *study.derived_names}
        return [*(name for name in dict.fromkeys(wanted) if name in known), FLAGS]

    def _query(self, name: str) -> dict[str, Any]:
        """How the page finds a query's distribution in columns, and what its options are."""
        study = self._study
        query = study.distributions.queries[name]
        trial = next(iter(self._trials.values()), None)
        columns = query.form.entry.options.columns
        options = (
            list(study.options(query.form, trial)) if trial is not None and not columns else None
        )
        return {
            "name": name,
            "columns": list(query.options),
            "options": options,
            "optionColumns": list(columns) if columns else None,
            "auxiliary": name in study.auxiliary_queries,
        }


def _said(study: Study) -> frozenset[str]:
    """The columns that every row has at hand, and the fields that were read of its answer."""
    fields = study.answer_columns() if study.answers else ()
    return frozenset((*_AT_HAND, *fields))


def _paired(
    files: StudyFiles,
) -> Iterator[tuple[ReplicationFiles | None, ReplicationFiles | None]]:
    """Both experiments of each model and replication; they are in the same order."""
    for place in range(max(len(files.exp1), len(files.exp2))):
        yield (
            files.exp1[place] if files.exp1 else None,
            files.exp2[place] if files.exp2 else None,
        )


class _Table:
    """A replication's table: `names` of its columns, and the cells of its rows."""

    def __init__(self, path: Path, experiment: str) -> None:
        self._experiment = experiment
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, strict=True)
            self.names = next(lines)
            variant, index = (self.names.index(name) for name in ("variant", "trial_index"))
            self.rows: dict[Key, list[str]] = {
                (cells[variant], int(cells[index])): cells for cells in lines
            }
        self._flags = self.names.index(FLAGS)

    def shown(self, name: str) -> str:
        """A column's name on the page."""
        return f"{self._experiment}_{name}" if name in _OF_BOTH else name

    def flags(self, key: Key) -> list[str]:
        """The flags of a row, with the experiment's name."""
        text = self.rows[key][self._flags] if key in self.rows else ""
        return [f"{self._experiment}_{flag}" for flag in text.split(";") if flag]


def _value(cell: str) -> Any:
    """A cell as the study computed it."""
    found = number(cell)
    return found if found is not None and str(found) == cell else cell or None


def _chat(messages: Iterable[Mapping[str, Any]] | None) -> list[list[str]]:
    """A prompt's messages, each with its role."""
    return [
        [
            str(message["role"]),
            message["content"]
            if isinstance(message["content"], str)
            else json.dumps(message["content"]),
        ]
        for message in messages or ()
    ]
