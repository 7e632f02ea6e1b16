"""A record of how each output was made, beside it: `.provenance/<file name>.json` in its folder.

A record holds digests of the output, of all that it was made from and of the code that made it, so
that the chain can be followed back and checked (`grace.verify`). It is written after the outputs.
The R scripts write the same in `scripts/lib/provenance.R`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from grace.digests import file_digest
from grace.errors import RecordError
from grace.records import read_json, write_json

FOLDER = ".provenance"
#: The form of a record; a change that readers must know of raises it.
FORMAT = 1


def sidecar(output: Path) -> Path:
    """Where the record of an output is."""
    return output.parent / FOLDER / f"{output.name}.json"


def read_sidecar(output: Path) -> dict[str, Any] | None:
    """The record of an output; None where there is none. Raises `RecordError` on a broken one."""
    path = sidecar(output)
    try:
        record = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RecordError(f"{path}: not a record of how an output was made, of format {FORMAT}.")
    return record


def input_digests(inputs: Iterable[str], results: str) -> dict[str, str]:
    """SHA-256 of each input of a job.

    Raises `RecordError` where one is not what the workflow wrote: cut off, edited, or swapped.
    """
    digests = {name: file_digest(Path(name)) for name in inputs}
    for name, found in digests.items():
        record = read_sidecar(Path(name))
        if record is None:
            continue
        if _place(record["path"], record["results"]) != _place(name, results):
            raise RecordError(
                f"{name}: another file, {record['path']}, was put in its place. Delete it and run"
                " again to have it made anew."
            )
        if record["sha256"] != found:
            size = Path(name).stat().st_size
            raise RecordError(
                f"{name}: changed since the rule {record['rule']} wrote it, so nothing is made"
                f" from it. It has {size} bytes of {record['bytes']}. Delete the file and run"
                " again to have it made anew. To work with the changed file on purpose, delete"
                f" {sidecar(Path(name))}: what is made from it then counts as of unknown origin."
            )
    return digests


def _place(path: str, results: str) -> str:
    return PurePosixPath(path).relative_to(PurePosixPath(results)).as_posix()


def forget(outputs: Iterable[str]) -> None:
    """Remove the records of outputs that are about to be made anew."""
    for name in outputs:
        sidecar(Path(name)).unlink(missing_ok=True)


def write_sidecars(outputs: Iterable[str], results: str, facts: Mapping[str, Any]) -> None:
    """Record every output of a job in the folder `results`, with the facts that they share."""
    names = list(outputs)
    for name in names:
        path = Path(name)
        own = {
            "format": FORMAT,
            "results": results,
            "path": name,
            "sha256": file_digest(path),
            "bytes": path.stat().st_size,
        }
        write_json(sidecar(path), {**own, **facts, "made_with": [o for o in names if o != name]})
