"""The review sheet: answers for a person to check, and what the filled-in sheet says."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grace.errors import RecordError
from grace.results.records import read_records, replacing
from grace.results.review import ReviewSource, page, sample, sheet_rows, write_sheet
from grace.results.review_agreement import agreement, current_rows, write_agreements
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study

FOLDER = "review"
Runs = Sequence[tuple[str, int]]


def sheets(
    results: Path, runs: Runs, studies: dict[str, dict[str, str]], answers: int, seed: int
) -> str:
    """Write <results>/review/<study>.csv and .html; what was written. Raises `RecordError`."""
    sources = {
        (name, model): _source(results, study, model, runs)
        for name, study in ((name, study_of_job(job)) for name, job in studies.items())
        for model in dict.fromkeys(model for model, _ in runs)
    }
    chosen = sample({key: len(each.rows) for key, each in sources.items()}, answers, seed)
    lines = []
    for name in studies:
        own = {key: each for key, each in sources.items() if key[0] == name}
        rows = [row for key, each in own.items() for row in sheet_rows(each, chosen[key])]
        if not rows:
            continue
        path = results / FOLDER / f"{name}.csv"
        write_sheet(path, rows)
        study = next(iter(own.values())).study
        with replacing(path.with_suffix(".html")) as file:
            file.write(page(study, rows, path.name))
        lines.append(f"wrote {path}, {len(rows)} answers, and {path.with_suffix('.html')}")
    return "\n".join([*lines, "Fill in the CSV files, then: snakemake review_agreement"])


def agreements(results: Path, runs: Runs, studies: dict[str, dict[str, str]]) -> str:
    """Write <results>/review/agreement.csv; the same as text. Raises `RecordError`."""
    lines, found = [], []
    for name, job in studies.items():
        path = results / FOLDER / f"{name}.csv"
        if not path.exists():
            continue
        study = study_of_job(job)
        models = dict.fromkeys(model for model, _ in runs)
        rows = [row for model in models for row in _structured(results, study, model, runs)]
        compared, problems = agreement(study, path, current_rows(name, rows))
        lines += [f"{path}: {problem}" for problem in problems]
        lines += [one.said() for one in compared]
        found += compared
    if not any(one.checked for one in found):
        raise RecordError(
            "\n".join(
                [
                    *lines,
                    f"{results / FOLDER}: no row has anything in `checked`. Write the sheets with"
                    " `snakemake review_sheet`, and fill them in.",
                ]
            )
        )
    write_agreements(results / FOLDER / "agreement.csv", found)
    return "\n".join(lines)


def _structured(results: Path, study: Study, model: str, runs: Runs) -> list[dict[str, str]]:
    rows = []
    for replication in (number for name, number in runs if name == model):
        path = results / model / f"replication-{replication}" / f"{study.name}_structured.csv"
        if not path.exists():
            raise RecordError(f"{path} is missing: run the workflow first.")
        with path.open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    return rows


def _source(results: Path, study: Study, model: str, runs: Runs) -> ReviewSource:
    prompts = {}
    rows = _structured(results, study, model, runs)
    for replication in (number for name, number in runs if name == model):
        records = results / model / f"replication-{replication}" / f"{study.name}_exp1.json"
        for record in read_records(records):
            prompts[record["variant"], str(record["trial_index"])] = _chat(record)
    return ReviewSource(study, rows, prompts)


def _chat(record: dict[str, Any]) -> str:
    """A record's prompt as text; of several messages each with its role."""
    messages = record["messages"] or []
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"{each['role']}:\n{each['content']}" for each in messages)


if __name__ == "__main__":
    from grace.runs.scripting import logged, show

    params = snakemake.params
    asked = (Path(params.results), list(params.runs), dict(params.studies))
    with logged(snakemake.log[0]):
        answers = params.get("answers")  # of the sheet's rule alone
        text = agreements(*asked) if answers is None else sheets(*asked, answers, params.seed)
        show(text, snakemake.log[0])
