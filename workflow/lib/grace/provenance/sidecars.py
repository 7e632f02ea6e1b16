"""A record of how each output was made, beside it: `.provenance/<file name>.json` in its folder.

A record holds digests of the output, of all that it was made from, of their records and of the code
that made it, so that the chain can be followed back and checked (`grace.provenance.verify`). It is
written after the outputs. Its form is in `grace.provenance.record`; the R scripts write the same in
`scripts/lib/provenance.R`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from grace.digests import file_digest
from grace.errors import RecordError
from grace.provenance.record import LONGEST, digest_of, parsed, record_text
from grace.results.records import replacing

FOLDER = ".provenance"


def sidecar(output: Path) -> Path:
    """Where the record of an output is."""
    return output.parent / FOLDER / f"{output.name}.json"


def read_sidecar(output: Path) -> dict[str, Any] | None:
    """The record of an output; None where there is none. Raises `RecordError` on a broken one."""
    path = sidecar(output)
    content = _content(path)
    if content is None:
        return None
    try:
        return parsed(content)
    except RecordError as error:
        raise RecordError(f"{path}: {error}.") from None


def record_digest(output: Path) -> str | None:
    """SHA-256 that stands for the record of an output; None where there is none."""
    content = _content(sidecar(output))
    return None if content is None else digest_of(content)


def _content(path: Path) -> bytes | None:
    """A record's bytes; None where there is no such file. Raises `RecordError`."""
    try:
        if path.is_symlink() or not path.is_file():
            if not path.is_symlink() and not path.exists():
                return None
            raise RecordError(f"{path}: no ordinary file, so no record that the workflow wrote.")
        if path.stat().st_size > LONGEST:
            raise RecordError(f"{path}: too long for a record.")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}).") from None


def input_digests(inputs: Iterable[str], results: str) -> dict[str, str]:
    """SHA-256 of each input of a job.

    Raises `RecordError` where one is not what the workflow wrote: cut off, edited, or swapped; or
    its record was edited.
    """
    digests = {name: file_digest(Path(name)) for name in inputs}
    for name, found in digests.items():
        try:
            record = read_sidecar(Path(name))
        except RecordError as error:
            raise RecordError(
                f"{error} Nothing is made from {name} therefore. Delete {name} and its record, and"
                " run again to have both rebuilt."
            ) from None
        if record is None:
            continue
        if _place(record["path"], record["results"]) != _place(name, results):
            raise RecordError(
                f"{name}: another file, {record['path']}, was put in its place. Delete it and run"
                " again to have it rebuilt."
            )
        if record["sha256"] != found:
            size = Path(name).stat().st_size
            raise RecordError(
                f"{name}: changed since the rule {record['rule']} wrote it, so nothing is made"
                f" from it. It has {size} bytes of {record['bytes']}. Delete the file and run"
                " again to have it rebuilt. To work with the changed file on purpose, delete"
                f" {sidecar(Path(name))}: what is made from it then counts as of unknown origin."
            )
    return digests


def input_records(inputs: Iterable[str]) -> dict[str, str]:
    """Digests of the records of those inputs that have one. Raises `RecordError`."""
    found = {name: record_digest(Path(name)) for name in inputs}
    return {name: digest for name, digest in found.items() if digest is not None}


def _place(path: str, results: str) -> str | None:
    """A file's place in its results folder; None for one that lies elsewhere."""
    place = PurePosixPath(path)
    return place.relative_to(results).as_posix() if place.is_relative_to(results) else None


def forget(outputs: Iterable[str]) -> None:
    """Remove the records of outputs that are about to be rebuilt."""
    for name in outputs:
        sidecar(Path(name)).unlink(missing_ok=True)


def write_sidecars(outputs: Iterable[str], results: str, facts: Mapping[str, Any]) -> None:
    """Record every output of a job in the folder `results`, with the facts that they share."""
    digests = {name: file_digest(Path(name)) for name in outputs}
    for name, found in digests.items():
        path = Path(name)
        own = {
            "results": results,
            "path": name,
            "sha256": found,
            "bytes": path.stat().st_size,
            "made_with": {other: digests[other] for other in digests if other != name},
        }
        with replacing(sidecar(path)) as file:
            file.write(record_text({**own, **facts}))
