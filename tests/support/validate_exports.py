"""Validate exports with their formats' own validators: `validate_exports.py FOLDER`.

Runs in the environment .venv-export. FOLDER has `inspect`, which inspect_ai reads, and
`every-eval-ever`, which that project's validator checks, samples and files beside each other among
it. Writes JSON: by log how many samples it has, its scores' means, and what inspect_ai did not take
over of what stands in the file, since its models ignore keys that they do not know; by record its
errors and warnings.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

warnings.simplefilter("error")
from every_eval_ever.validator.validate import _local_path_context  # noqa: E402
from every_eval_ever.validator.validation_core import validate_file  # noqa: E402
from inspect_ai.log import (  # noqa: E402
    list_eval_logs,
    read_eval_log,
    read_eval_log_sample_summaries,
)

#: inspect_ai writes times with microseconds, and shortens the texts of summaries.
WRITTEN_OTHERWISE = ("created", "started_at", "completed_at")
SHORTENED = ("answer", "explanation", "input")


def lost(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Where in `theirs` something of `ours` is missing or another."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key not in theirs:
                yield f"{path}/{key}"
            elif key not in WRITTEN_OTHERWISE:
                yield from lost(value, theirs[key], f"{path}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(one, other, f"{path}/{place}")
    elif ours != theirs and ours is not None:
        yield f"{path}: {ours!r} became {theirs!r}"


def logs(folder: Path) -> Iterator[dict[str, Any]]:
    """Each log as inspect_ai reads it."""
    for info in list_eval_logs(str(folder)):
        path = Path(info.name.removeprefix("file://"))
        log = read_eval_log(info)
        header = json.loads(read_eval_log(info, header_only=True).model_dump_json())
        shown = [json.loads(one.model_dump_json()) for one in read_eval_log_sample_summaries(info)]
        with ZipFile(path) as archive:
            missing = list(lost(json.loads(archive.read("header.json")), header))
            for sample in log.samples or []:
                mine = json.loads(archive.read(f"samples/{sample.id}_epoch_1.json"))
                missing += lost(mine, json.loads(sample.model_dump_json()), str(sample.id))
            for mine, theirs in zip(json.loads(archive.read("summaries.json")), shown, strict=True):
                found = lost(mine, theirs, f"summary of {mine['id']}")
                missing += [
                    one for one in found if one.split(": ")[0].split("/")[-1] not in SHORTENED
                ]
        scores = log.results.scores if log.results else []
        yield {
            "log": path.name,
            "status": log.status,
            "task": log.eval.task,
            "model": log.eval.model,
            "samples": len(log.samples or []),
            "scores": {score.name: score.metrics["mean"].value for score in scores},
            "lost": missing,
        }


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """What the validator of Every Eval Ever says of each file."""
    os.chdir(folder)
    for path in sorted(Path("data").rglob("*.json*")):
        place, files = _local_path_context(path)
        report = validate_file(
            path, repo_path=place, available_files=files, read_repo_file=files.read_text,
            run_semantic_checks=True,
        )  # fmt: skip
        yield {
            "file": str(path), "lines": report.line_count, "errors": report.errors,
            "warnings": report.warnings,
        }  # fmt: skip


if __name__ == "__main__":
    where = Path(sys.argv[1]).resolve()
    found = {
        "inspect": list(logs(where / "inspect")),
        "every_eval_ever": list(records(where / "every-eval-ever")),
    }
    json.dump(found, sys.stdout, indent=1, default=str)
