"""The chain of records behind results, followed back to stimuli, prompts, models and code.

Each result has one verdict, the first broken link of its chain: the one that lies furthest
upstream, since what comes after it follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from grace.contents import Contents
from grace.digests import file_digest
from grace.errors import EngineError, RecordError
from grace.models import hub
from grace.places import located
from grace.provenance.journal_check import Answers, comparable, differences
from grace.provenance.record import FORMAT
from grace.provenance.sidecars import FOLDER, read_sidecar, record_digest, sidecar
from grace.source_code import LIBRARY_PATH, SourceFile, joined_digest, read_source

#: Whether an archive need not hold a file of a record, by its name there.
LeftOut = Callable[[str, Mapping[str, Any]], bool]
LinkState = Literal["intact", "changed since", "made by other code", "of unknown origin"]
#: Folders of a results folder whose files are about a run, or filled in by people.
NOT_RESULTS = ("logs", "benchmarks", "review", "export")
#: What Snakemake itself writes where the README says so, and what git brings.
NOT_OURS = ("snakemake-report.html", "snakemake-report.zip", "README.md")

#: Code that has one of these modules writes records of the present format.
WRITERS = (
    "workflow/lib/grace/provenance/record.py",
    "workflow/lib/grace/provenance_record.py",
)


@dataclass(frozen=True)
class Link:
    """Where a chain breaks: a file, and what is wrong with it."""

    state: LinkState
    file: Path
    why: str


class Chain:
    """Verdicts on results and on all that they were made from; each file is read once.

    `root` is the project whose code, stimuli, prompts and models count. `answers`, if there is a
    journal, is what records of answers are compared with. Of an archived run `left_out` says
    which files an archive need not hold; nothing outside of it is looked at.
    """

    def __init__(
        self, root: Path, answers: Answers | None = None, left_out: LeftOut | None = None
    ) -> None:
        #: Files of answers that were not compared with the journal.
        self.not_compared: list[Path] = []
        self._root = root
        self._answers = answers
        #: The journal that answers are compared with; None where there is none.
        self.journal: Path | None = answers.folder if answers is not None else None
        self._left_out = left_out
        self._links: dict[Path, Link | None] = {}
        self._records: dict[Path, dict[str, Any] | RecordError | None] = {}
        self._digests: dict[Path, str | None] = {}
        self._sources: dict[str, SourceFile | None] = {}
        self._hub: dict[tuple[str, str | None], dict[str, str] | str] = {}

    def record(self, file: Path) -> dict[str, Any] | None:
        """A result's record; None where there is none. Raises `RecordError` on a broken one."""
        if file not in self._records:
            try:
                self._records[file] = read_sidecar(file)
            except RecordError as error:
                self._records[file] = error
        found = self._records[file]
        if isinstance(found, RecordError):
            raise found
        return found

    def behind(self, file: Path) -> set[Path]:
        """A result, all results that it was made from, and what was made with those.

        Those whose records are whole.
        """
        found: set[Path] = set()
        pending = [file]
        while pending:
            path = pending.pop()
            if path in found:
                continue
            try:
                record = self.record(path)
            except RecordError:
                continue
            if record is None:
                continue
            found.add(path)
            place = _place(record)
            now = path.absolute().parents[len(place.parts) - 1]
            for name in [*record["inputs"], *record["made_with"]]:
                if PurePosixPath(name).is_relative_to(record["results"]):
                    pending.append(
                        from_here(now / PurePosixPath(name).relative_to(record["results"]))
                    )
        return found

    def format(self, file: Path) -> int:
        """The format of a result's record; 0 where there is no whole one."""
        try:
            record = self.record(file)
        except RecordError:
            return 0
        return int(record["format"]) if record else 0

    def broken(self, file: Path) -> Link | None:
        """The first broken link of a result's chain, itself included; None where it is intact."""
        if file not in self._links:
            self._links[file] = None  # so that records that name each other in a circle end
            self._links[file] = self._first_broken(file)
        return self._links[file]

    def _first_broken(self, file: Path) -> Link | None:
        try:
            record = self.record(file)
        except RecordError as error:
            return Link("of unknown origin", file, f"its record is broken: {error}")
        if record is None:
            return Link("of unknown origin", file, f"there is no record {sidecar(file)}")
        try:
            return next(self._breaks(file, record), None)
        except RecursionError:
            return Link("of unknown origin", file, "its chain is longer than any of the workflow's")

    def _breaks(self, file: Path, record: dict[str, Any]) -> Iterator[Link]:
        """What is wrong with a file, from what lies furthest upstream to the file itself."""
        then = PurePosixPath(record["results"])
        place = _place(record)
        if file.absolute().parts[-len(place.parts) :] != place.parts:
            yield Link("changed since", file, f"its record is that of another file, {place}")
            return
        now = file.absolute().parents[len(place.parts) - 1]
        inputs: list[tuple[Path, str]] = []
        results: list[tuple[str, Path]] = []
        for name, expected in record["inputs"].items():
            if self._left_out and _leads_out(name):
                yield Link(
                    "of unknown origin", file, f"its record names {name}, outside of the run"
                )
                return
            if PurePosixPath(name).is_relative_to(then):
                path = from_here(now / PurePosixPath(name).relative_to(then))
                # What a person fills in beside the results, a review sheet, has no record.
                own = PurePosixPath(name).relative_to(then).parts[0] in NOT_RESULTS
                there = not own and (path.exists() or path.is_symlink())
                link = self.broken(path) if there else None
                if link is not None:
                    yield link
                results.append((name, path))
            else:
                path = self._located(name)
            inputs.append((path, expected))
        files = record.get("files") or {}
        out = [one for one in files if _leads_out(one) and not self._may_be_missing(one, record)]
        if self._left_out and out:
            yield Link("of unknown origin", file, f"its record names {out[0]}, not of the run")
            return
        inputs += [
            (self._located(name), found)
            for name, found in files.items()
            if not self._may_be_missing(name, record)
        ]
        for path, expected in inputs:
            yield from self._differs(path, expected, f"when {place} was made from it")
        model = record.get("model") or {}
        if model.get("files"):
            yield from self._differs_from_hub(model)
        for name, path in results:
            yield from self._other_record(file, record, name, path)
        yield from self._other_code(file, record)
        if record["format"] < FORMAT and any((self._root / writer).is_file() for writer in WRITERS):
            yield Link(
                "of unknown origin", file, f"its record has the older format {record['format']}, in"
                " which edits of a record do not show, but names the code at hand, which writes"
                f" format {FORMAT}: it was lowered. Delete {file} to have it rebuilt",
            )  # fmt: skip
        if file.is_symlink():
            yield Link("changed since", file, "a link now, in the place of the file that was made")
        whole = ""
        if file.exists() and file.stat().st_size != record["bytes"]:
            whole = f"; {file.stat().st_size} bytes of {record['bytes']}"
        yield from self._differs(file, record["sha256"], f"when it was made{whole}")
        yield from self._other_siblings(file, record, then, now)
        yield from self._other_answers(file, record, then)

    def _other_code(self, file: Path, record: dict[str, Any]) -> Iterator[Link]:
        """Code counts by content: of a file that is gone, one of another name may hold it."""
        found: dict[str, SourceFile] = {}
        for name, expected in record["code"].items():
            here = None if self._left_out and _leads_out(name) else self._source(name)
            if here is None and expected in self._by_digest:
                name, here = self._by_digest[expected]
            if here is None or here.digest != expected:
                digests = _digests(expected, here.digest if here else None)
                yield Link("made by other code", file, f"{name} {digests}")
                return
            found[name] = here
        joined = joined_digest(found)
        if (expected := record.get("code_digest", joined)) != joined:
            why = (
                f"the code, in what its files import from each other, {_digests(expected, joined)}"
            )
            yield Link("made by other code", file, why)

    def _may_be_missing(self, name: str, record: dict[str, Any]) -> bool:
        if self._left_out is None:
            return False
        missing = _leads_out(name) or not (self._root / name).exists()
        return missing and self._left_out(name, record)

    def _other_record(
        self, file: Path, record: dict[str, Any], name: str, path: Path
    ) -> Iterator[Link]:
        """An input's record is not the one that this file was made with."""
        if record["format"] < FORMAT:
            other = self.record(path) if path.exists() else None
            if other is not None and other["format"] == FORMAT:
                yield Link(
                    "changed since", file, f"its record has the older format {record['format']},"
                    f" and that of {path} has {FORMAT}: one was put in the place of another, or"
                    f" {path} was made again since. Delete {file} to have it rebuilt",
                )  # fmt: skip
            return
        expected = record["input_records"].get(name)
        found = record_digest(path) if path.exists() else expected
        if found != expected:
            yield Link(
                "changed since", sidecar(path), f"{_digests(expected, found)} when {file.name} was"
                f" made from {path.name}: edited, or {path.name} was made again since, the same to"
                f" the byte. If so, delete {file} to have it rebuilt",
            )  # fmt: skip

    def _other_siblings(
        self, file: Path, record: dict[str, Any], then: PurePosixPath, now: Path
    ) -> Iterator[Link]:
        """Records that one job wrote say the same, but for their own files."""
        for name in record["made_with"]:
            if not PurePosixPath(name).is_relative_to(then):
                yield Link("changed since", file, f"its record names {name}, outside of {then}")
                continue
            path = from_here(now / PurePosixPath(name).relative_to(then))
            try:
                other = self.record(path)
            except RecordError as error:
                yield Link("of unknown origin", path, f"its record is broken: {error}")
                continue
            if other is None:
                if not path.exists():
                    yield Link(
                        "changed since", path, f"missing, and one job made it and {file.name}"
                    )
                continue
            if _facts(other) != _facts(record):
                differ = sorted(
                    key
                    for key in _facts(other).keys() | _facts(record).keys()
                    if _facts(other).get(key) != _facts(record).get(key)
                )
                yield Link(
                    "changed since", sidecar(file), f"and {sidecar(path)}, which one job wrote,"
                    f" differ in {', '.join(differ)}",
                )  # fmt: skip
            elif record["format"] == FORMAT and record["made_with"][name] != other["sha256"]:
                yield Link(
                    "changed since", sidecar(path),
                    f"{_digests(record['made_with'][name], other['sha256'])} for {path.name} when"
                    f" {file.name} was made with it",
                )  # fmt: skip

    def _other_answers(
        self, file: Path, record: dict[str, Any], then: PurePosixPath
    ) -> Iterator[Link]:
        """Answers that are not those of the journal."""
        provenance = file.parent / "provenance" / file.name
        named = (PurePosixPath(record["path"]).parent / "provenance" / file.name).as_posix()
        if named not in record["made_with"] or not provenance.is_file():
            return
        if self._answers is None or not comparable(provenance, self._answers):
            self.not_compared.append(file)
            return
        for wrong in differences(file, provenance, self._answers):
            yield Link("changed since", file, wrong)

    def _differs(self, path: Path, expected: str, when: str) -> Iterator[Link]:
        if path not in self._digests:
            self._digests[path] = file_digest(path) if path.is_file() else None
        found = self._digests[path]
        if found is not None and expected.endswith("bytes"):
            # Records of format 1 had no digest of a large file: other contents would not show.
            yield Link(
                "of unknown origin", path, f"its record knows it only by its size, {expected}"
            )
            return
        if found != expected:
            yield Link("changed since", path, f"{_digests(expected, found)} {when}")

    def _differs_from_hub(self, model: dict[str, Any]) -> Iterator[Link]:
        """What is wrong with a model's files in this machine's cache of the hub, if it has them."""
        key = (model["name"], model.get("revision"))
        if key not in self._hub:
            try:
                self._hub[key] = hub.files(*key, Contents())["files"] or {}
            except (EngineError, OSError, ValueError) as error:
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

    def _located(self, name: str) -> Path:
        """A file that results were made from; in an archive, which is whole, its own alone."""
        return self._root / name if self._left_out else located(name, self._root)

    def _source(self, name: str) -> SourceFile | None:
        if name not in self._sources:
            try:
                path = self._root / name
                self._sources[name] = read_source(path, self._root / LIBRARY_PATH)
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
                self._sources[name] = None
        return self._sources[name]

    @cached_property
    def _by_digest(self) -> dict[str, tuple[str, SourceFile]]:
        """All files that may be behind a result, by digest; read where one is not in its place."""
        paths = [*(self._root / "scripts").rglob("*.*"), *(self._root / LIBRARY_PATH).rglob("*.py")]
        names = [path.relative_to(self._root).as_posix() for path in sorted(paths)]
        found = [(name, self._source(name)) for name in names]
        return {source.digest: (name, source) for name, source in found if source is not None}


#: What a record says of its own file alone.
_OWN = ("digest", "path", "sha256", "bytes", "made_with")


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in _OWN}


def _leads_out(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts


def _place(record: Mapping[str, Any]) -> PurePosixPath:
    """Where a result lies in its results folder."""
    return PurePosixPath(record["path"]).relative_to(record["results"])


def _digests(expected: str | None, found: str | None) -> str:
    now = f"has the SHA-256 {found}" if found else "is missing or cannot be read"
    return f"{now}, and had {expected or 'none'}"


def from_here(path: Path) -> Path:
    """A path from here where that is shorter."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def results_in(folder: Path) -> list[Path]:
    """The files of a results folder that verdicts are about, and those that only have records."""
    found = set()
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        aside = parts[0] in NOT_RESULTS or (len(parts) == 1 and path.name in NOT_OURS)
        if aside or (path.is_dir() and not path.is_symlink()):
            continue
        if path.parent.name == FOLDER and path.name[0] != ".":
            record = path.suffix == ".json"
            found.add(path.parent.parent / path.stem if record else path)
        elif path.name == FOLDER or not any(part.startswith(".") for part in parts):
            found.add(path)
    return sorted(found)
