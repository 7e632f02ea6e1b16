"""A small run of study 1 or 2 on disk, its tables made by the library, for the trial browser."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundled_studies import ROOT

from grace.digests import digest
from grace.results.records import write_records
from grace.results.tables import (
    probability_columns,
    probability_rows,
    raw_columns,
    raw_rows,
    structured_columns,
    structured_rows,
    write_rows,
)
from grace.studies.stimuli import read_trials
from grace.studies.study import Study
from grace.studies.theory import write_reference
from grace.trial_browser.page import page
from grace.trial_browser.study_data import ReplicationFiles, StudyData, StudyFiles, study_data

BLOCK = re.compile(r'<script type="application/octet-stream" data-block="([^"]+)">([^<]*)</script>')


@dataclass(frozen=True)
class Run:
    """Models that answer the first trials of a study.

    `answers` are given in turn; None is a request that failed. `reasoning` stands before each.
    """

    study: Study
    models: tuple[str, ...] = ("a", "b")
    replications: int = 2
    trials: int = 3
    answers: tuple[str | None, ...] = ("It was good", "It wasn't bad")
    reasoning: str | None = None
    experiments: tuple[str, ...] = ("exp1", "exp2")

    def write(self, folder: Path) -> StudyFiles:
        """Records and tables of the run, and the reference table."""
        found: dict[str, list[ReplicationFiles]] = {"exp1": [], "exp2": []}
        for model in self.models:
            for replication in range(self.replications):
                own = folder / model / f"replication-{replication}"
                own.mkdir(parents=True)
                for experiment in self.experiments:
                    found[experiment].append(self._replication(own, experiment))
        reference = folder / f"reference_{self.study.name}.csv"
        write_reference(self.study, reference)
        return StudyFiles(found["exp1"], found["exp2"], reference)

    def data(self, folder: Path) -> StudyData:
        """The run as the page holds it."""
        return study_data(self.study, self.write(folder))

    def _replication(self, own: Path, experiment: str) -> ReplicationFiles:
        study = self.study
        trials = read_trials(study.stimuli_file, study)[: self.trials]
        # The order of records is that of the asking, not of the trials.
        records = [
            {**self._header(own, experiment, index), "trial": trial.row(), **body}
            for index, trial in reversed(list(enumerate(trials)))
            for body in [getattr(self, f"_{experiment}")(own, index, trial)]
        ]
        path = own / f"{study.name}_{experiment}.json"
        write_records(path, records)
        if experiment == "exp2":
            table = own / f"{study.name}_probabilities.csv"
            write_rows(table, probability_rows(records, study, 0.5), probability_columns(study))
            return ReplicationFiles(table, path)
        raw = [
            {name: "" if value is None else str(value) for name, value in row.items()}
            for row in raw_rows(records, study)
        ]
        assert set(raw[0]) == set(raw_columns(study))
        table = own / f"{study.name}_structured.csv"
        write_rows(table, structured_rows(raw, study, 1.0), structured_columns(study))
        return ReplicationFiles(table, path)

    def _header(self, own: Path, experiment: str, index: int) -> dict[str, Any]:
        return {
            "model_key": own.parent.name, "model_name": f"models/{own.parent.name}",
            "experiment_name": f"{self.study.name}_{experiment}", "variant": "seed",
            "replication": int(own.name.split("-")[1]), "experiment_seed": 2**40 + 1,
            "trial_index": index, "prompt_id": "1e5", "status": "ok",
            "response_timestamp": "2026-11-22T17:00:00", "processing_time_ms": 12.3456789,
        }  # fmt: skip

    def _exp1(self, own: Path, index: int, trial: Any) -> dict[str, Any]:
        answer = self.answers[(index + len(own.parent.name)) % len(self.answers)]
        return {
            "messages": [{"role": "user", "content": f"Prompt {index}: {trial.values}"}],
            "response": answer, "reasoning": self.reasoning, "request_seed": 2**40 + index,
            "finish_reason": "stop", "status": "ok" if answer is not None else "error: no server",
        }  # fmt: skip

    def _exp2(self, own: Path, index: int, trial: Any) -> dict[str, Any]:
        queries = []
        for place, form in enumerate(self.study.forms_asked(trial)):
            options = self.study.options(form, trial)
            shares = [
                place + i + index + len(own.name) / 7 + 0.123456789 for i in range(len(options))
            ]
            total = sum(shares) * 1.01
            queries.append(
                {
                    "name": form.name, "status": "ok", "terminated": False,
                    "option_mass": 1 / 1.01, "residual": 1 - 1 / 1.01,
                    "options": [
                        {"text": text, "logprob": math.log(share / total), "token_ids": [1],
                         "logprob_terminated": None}
                        for text, share in zip(options, shares, strict=True)
                    ],
                    "messages": [{"role": "user", "content": f"{form.name} of {index}"}],
                    "trace_id": digest([form.name, index])[:16],
                }
            )  # fmt: skip
        traces = [
            {"trace_id": query["trace_id"], "trace": 0, "text": f"thought of {query['name']}",
             "end": "closed", "tokens": 4}
            for query in queries
        ]  # fmt: skip
        return {"queries": queries, "traces": traces}


def written(path: Path, studies: Iterable[StudyData], origins: dict[str, str] | None = None) -> str:
    """Write a page of studies; its text."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(page(ROOT / "scripts", studies, origins or {}, ["a", "b"]))
    return path.read_text(encoding="utf-8")


def unpacked(block: str) -> Any:
    """What a block of a page holds."""
    return json.loads(gzip.decompress(base64.b64decode(block)))


def blocks_of(text: str) -> dict[str, Any]:
    """What the page holds, by block."""
    return {name: unpacked(data) for name, data in BLOCK.findall(text)}


def cells(column: dict[str, list[Any]]) -> list[Any]:
    """A column's values, row by row."""
    return column["v"] if "v" in column else [column["d"][code] for code in column["c"]]


def columns(data: StudyData) -> dict[str, list[Any]]:
    """All columns of a study's rows."""
    return {
        one["name"]: cells(unpacked(data.blocks[f"{data.about['name']}/column:{one['name']}"]))
        for one in data.about["columns"]
    }


def text_of(data: StudyData, kind: str, row: int) -> Any:
    """A row's text of a kind, such as `prompt`."""
    number = cells(unpacked(data.blocks[f"{data.about['name']}/reference:{kind}"]))[row]
    starts = data.about["texts"]
    block = max(place for place, start in enumerate(starts) if start <= number)
    texts = unpacked(data.blocks[f"{data.about['name']}/texts/{block}"])
    return texts[number - starts[block]]
