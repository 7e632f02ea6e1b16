"""`python -m grace.verify results`: is every result what the workflow made, by the code at hand?

Follows the records beside the results (`grace.sidecars`) back to the stimuli, prompts, models and
code, recomputes every digest, and gives each file a verdict with the first broken link of its
chain. "First" is the one that lies furthest upstream: what comes after it follows from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from grace import hub
from grace.contents import Contents
from grace.digests import file_digest, source_digest
from grace.errors import EngineError, GraceError, RecordError
from grace.sidecars import FOLDER, read_sidecar, sidecar

State = Literal["intact", "changed since", "made by other code", "of unknown origin"]
#: Folders of a results folder whose files are about a run, not made from it.
ASIDE = ("logs", "benchmarks")
#: What Snakemake itself writes where the README says so, and what git brings.
NOT_OURS = ("snakemake-report.html", "snakemake-report.zip", "README.md")


@dataclass(frozen=True)
class Link:
    """Where a chain breaks: a file, and what is wrong with it."""

    state: State
    file: Path
    why: str


class Chain:
    """Verdicts on results and on all that they were made from; each file is read once.

    `root` is the project whose code, stimuli, prompts and models count.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._links: dict[Path, Link | None] = {}
        self._digests: dict[Path, str | None] = {}
        self._sources: dict[str, str | None] = {}
        self._hub: dict[tuple[str, str], dict[str, str] | str] = {}

    def broken(self, file: Path) -> Link | None:
        """The first broken link of a result's chain, itself included; None where it is intact."""
        if file not in self._links:
            self._links[file] = None  # so that records that name each other in a circle end
            self._links[file] = self._first_broken(file)
        return self._links[file]

    def _first_broken(self, file: Path) -> Link | None:
        try:
            record = read_sidecar(file)
        except RecordError as error:
            return Link("of unknown origin", file, f"its record is broken: {error}")
        if record is None:
            return Link("of unknown origin", file, f"there is no record {sidecar(file)}")
        try:
            return next(self._breaks(file, record), None)
        except (KeyError, TypeError, AttributeError) as error:
            return Link("of unknown origin", file, f"its record lacks what it must hold: {error}")

    def _breaks(self, file: Path, record: dict[str, Any]) -> Iterator[Link]:
        """What is wrong with a file, from what lies furthest upstream to the file itself."""
        then = PurePosixPath(record["results"])
        place = PurePosixPath(record["path"]).relative_to(then)
        if file.absolute().parts[-len(place.parts) :] != place.parts:
            yield Link("changed since", file, f"its record is that of another file, {place}")
            return
        now = file.absolute().parents[len(place.parts) - 1]
        inputs: list[tuple[Path, str]] = []
        for name, expected in record["inputs"].items():
            if PurePosixPath(name).is_relative_to(then):
                path = _shown(now / PurePosixPath(name).relative_to(then))
                link = self.broken(path) if path.exists() else None
                if link is not None:
                    yield link
            else:
                path = self._root / name
            inputs.append((path, expected))
        inputs += [(self._root / name, found) for name, found in record.get("files", {}).items()]
        for path, expected in inputs:
            yield from self._differs(path, expected, f"when {place} was made from it")
        model = record.get("model", {})
        if model.get("files"):
            yield from self._differs_from_hub(model)
        for name, expected in record["code"].items():
            found = self._source(name)
            if found != expected:
                yield Link("made by other code", file, f"{name} {_digests(expected, found)}")
        whole = ""
        if file.exists() and file.stat().st_size != record["bytes"]:
            whole = f"; {file.stat().st_size} bytes of {record['bytes']}"
        yield from self._differs(file, record["sha256"], f"when it was made{whole}")

    def _differs(self, path: Path, expected: str, when: str) -> Iterator[Link]:
        if path not in self._digests:
            self._digests[path] = file_digest(path) if path.is_file() else None
        found = self._digests[path]
        if found is not None and expected.endswith("bytes"):
            # Written by Grace before issue 11: other contents of that size would not show.
            yield Link(
                "of unknown origin", path, f"its record knows it only by its size, {expected}"
            )
            return
        if found != expected:
            yield Link("changed since", path, f"{_digests(expected, found)} {when}")

    def _differs_from_hub(self, model: dict[str, Any]) -> Iterator[Link]:
        """What is wrong with a model's files in this machine's cache of the hub, if it has them."""
        key = (model["name"], model["revision"])
        if key not in self._hub:
            try:
                self._hub[key] = hub.files(*key, Contents())["files"] or {}
            except EngineError as error:
                self._hub[key] = str(error)
        found = self._hub[key]
        if isinstance(found, str):
            yield Link("changed since", Path(model["name"]), found)
            return
        for name, expected in model["files"].items():
            if found.get(name, expected) != expected:
                yield Link(
                    "changed since", Path(model["name"]) / name, _digests(expected, found[name])
                )

    def _source(self, name: str) -> str | None:
        if name not in self._sources:
            try:
                self._sources[name] = source_digest(self._root / name)
            except (OSError, SyntaxError):
                self._sources[name] = None
        return self._sources[name]


def _digests(expected: str, found: str | None) -> str:
    now = f"has the SHA-256 {found}" if found else "is missing or cannot be read"
    return f"{now}, and had {expected}"


def _shown(path: Path) -> Path:
    """A path from here where that is shorter."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def results_in(folder: Path) -> list[Path]:
    """The files of a results folder that verdicts are about, and those that only have records."""
    found = set()
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if parts[0] in ASIDE or path.name in NOT_OURS or path.is_dir():
            continue
        if path.parent.name == FOLDER and path.suffix == ".json" and path.name[0] != ".":
            found.add(path.parent.parent / path.stem)
        elif not any(part.startswith(".") for part in parts):
            found.add(path)
    return sorted(found)


def verify(files: Iterable[Path], root: Path) -> dict[Path, Link | None]:
    """The first broken link of each file's chain; None for what is intact."""
    chain = Chain(root)
    return {file: chain.broken(file) for file in files}


def summary(verdicts: Mapping[Path, Link | None], *, every: bool = False) -> str:
    """Each broken link with the results that it spoils; `every` gives every result a line."""
    lines = []
    if every:
        lines += [f"{file}: {link.state if link else 'intact'}" for file, link in verdicts.items()]
    spoilt: dict[tuple[State, str], list[tuple[Path, Link]]] = {}
    for file, link in verdicts.items():
        if link:
            spoilt.setdefault((link.state, link.why), []).append((file, link))
    for (state, why), found in spoilt.items():
        first = found[0][1].file
        own = "" if why.startswith(f"{first} ") else f"{first}: "
        lines.append(f"{state}: {own}{why}")
        others = [str(file) for file, _ in found if file != first]
        if others:
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            lines.append(f"    and so {', '.join(others[:3])}{more}")
    intact = sum(link is None for link in verdicts.values())
    return "\n".join([*lines, f"{intact} of {len(verdicts)} files are intact."])


def main(arguments: list[str] | None = None) -> int:
    """Print the verdicts; 1 unless everything is intact."""
    parser = argparse.ArgumentParser(
        prog="python -m grace.verify",
        description="Recompute the digests behind results, back to prompts, models and code.",
        epilog="Exit status: 0 where everything is intact, 1 where something is not.",
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, default=[Path("results")], metavar="RESULTS",
        help="results folders, or single files of them (default: results)",
    )  # fmt: skip
    parser.add_argument(
        "--root", type=Path, default=Path(),
        help="the project whose code and inputs count (default: this folder)",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="list intact files, too")
    given = parser.parse_args(arguments)
    try:
        files = list(dict.fromkeys(file for path in given.paths for file in _files(path)))
    except GraceError as error:
        print(error, file=sys.stderr)
        return 1
    verdicts = verify(files, given.root)
    single = any(path.is_file() for path in given.paths)
    print(summary(verdicts, every=given.all or single))
    return int(any(verdicts.values()))


def _files(path: Path) -> list[Path]:
    path = _shown(path.absolute())
    if not path.is_dir():
        return [path]  # a missing file has a verdict, too
    files = results_in(path)
    if not files:
        raise RecordError(f"{path}: no results here, so there is nothing to verify.")
    return files


if __name__ == "__main__":
    sys.exit(main())
