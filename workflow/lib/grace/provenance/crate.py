"""An archived run as a stranger sends it: unpacked with care, and checked before any of it runs.

Nothing here imports or runs what is in a crate. `manifest-sha256.txt` lists every file with its
SHA-256, as `sha256sum --check` reads it; the crate's metadata and the records say the same again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from grace.digests import file_digest
from grace.errors import ConfigError, GraceError
from grace.provenance.chain import Chain, results_in
from grace.provenance.record import FORMAT, unique_keys
from grace.provenance.sidecars import read_sidecar
from grace.provenance.verify import REPORT, summary
from grace.runs.leftovers import scratch_folder
from grace.settings.yaml_reader import read_yaml

METADATA = "ro-crate-metadata.json"
PREVIEW = "ro-crate-preview.html"
#: Every file of the crate but itself: SHA-256, two blanks, path.
MANIFEST = "manifest-sha256.txt"
#: The settings of the run.
RUN_CONFIG = "run-config.yaml"
#: What a zip file may unpack to: as much as this anyhow, in bytes, and beyond it so many times its
#: own size. Runs are JSON, and measured ones shrink to a tenth.
UNPACKED_ANYHOW = 2**30
UNPACKED_TIMES = 200
MOST_FILES = 500_000
#: Descriptions are read whole. In bytes.
LONGEST = 256 * 2**20
#: What running or verifying in an unpacked crate leaves there; never taken over.
BY_PRODUCTS = {"__pycache__", ".git", ".grace", ".snakemake", ".venv"}

#: What unpacking raises on bytes that are no zip's.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, OSError,
    OverflowError, RuntimeError, ValueError,
)  # fmt: skip
#: Model weights. Those of pico and pico-base belong to the project; others have their own terms
#: and homes.
WEIGHTS = {".bin", ".gguf", ".pt", ".pth", ".safetensors"}
OWN = ("resources/models/pico/", "resources/models/pico-base/")
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_CHUNK = 2**20


class CrateError(GraceError):
    """A crate cannot be run again."""


def foreign_weights(name: str) -> bool:
    """Whether a file holds weights of a model that is not the project's own."""
    return PurePosixPath(name).suffix in WEIGHTS and not name.startswith(OWN)


def left_out(name: str, record: Mapping[str, Any]) -> bool:
    """Whether a file that a record names need not be in an archive: it belongs to a model."""
    model = record.get("model") or {}
    folders = (model.get("name"), (model.get("adapter") or {}).get("name"))
    return foreign_weights(name) or any(
        folder is not None and PurePosixPath(name).is_relative_to(folder) for folder in folders
    )


def manifest_of(files: Mapping[str, Path]) -> str:
    """The manifest of files by their names in a crate. Raises `CrateError` for a name of lines."""
    for name in files:
        if not name.isprintable():
            raise CrateError(f"not archived: the file name {name!r} holds control characters.")
    return "".join(f"{file_digest(files[name])}  {name}\n" for name in sorted(files))


def digests_in(manifest: str) -> dict[str, str]:
    """SHA-256 of files by name. Raises `CrateError`."""
    found: dict[str, str] = {}
    for number, line in enumerate(manifest.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            raise CrateError(f"{MANIFEST}, line {number}: not a digest and a name, or a name twice")
        found[match[2]] = match[1]
    return found


@contextmanager
def opened(crate: Path) -> Iterator[Path]:
    """The crate's folder; a zip file is unpacked into one for a while. Raises `CrateError`."""
    if crate.is_dir():
        yield _checked(crate)
        return
    if not zipfile.is_zipfile(crate):
        raise CrateError(f"{crate}: neither a folder nor a whole zip file.")
    with scratch_folder() as folder:
        try:
            with zipfile.ZipFile(crate) as bundle:
                _unpack(bundle, crate, folder)
        except _DAMAGE as error:
            raise CrateError(f"{crate}: damaged ({error}). Fetch the archive again.") from None
        yield _checked(folder)


def _unpack(bundle: zipfile.ZipFile, crate: Path, folder: Path) -> None:
    """Write the files of a zip, which may say anything. Raises `CrateError`."""
    members = bundle.infolist()
    total = sum(member.file_size for member in members)
    if len(members) > MOST_FILES or total > max(
        UNPACKED_ANYHOW, UNPACKED_TIMES * crate.stat().st_size
    ):
        raise CrateError(
            f"{crate}: refused, because it unpacks to {len(members)} files of {total} bytes, far"
            " more than a run of its size."
        )
    free = shutil.disk_usage(folder).free
    if total > free:
        raise CrateError(f"{folder}: has {free} bytes free, and the archive takes {total}.")
    seen: set[str] = set()
    for member in members:
        wrong = _unsafe(member)
        if member.filename in seen:
            wrong = "is in it twice"
        if wrong:
            raise CrateError(
                f"{crate}: refused, because {member.filename!r} {wrong}. `snakemake archive` writes"
                " no such archive."
            )
        seen.add(member.filename)
    for member in members:
        target = folder / member.filename
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with bundle.open(member) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, _CHUNK)  # reads `file_size` bytes and no more


def _unsafe(member: zipfile.ZipInfo) -> str | None:
    """Why a member is not unpacked; None for an ordinary file or folder."""
    name = member.orig_filename
    parts = name.removesuffix("/").split("/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name):
        return "is an absolute path, or another system's"
    if any(part in ("", ".", "..") for part in parts):
        return "leads out of its folder"
    if not name.isprintable() or name != member.filename:
        return "holds control characters"
    if kind not in (0, stat.S_IFDIR if name.endswith("/") else stat.S_IFREG):
        return "is a link, a device or otherwise no ordinary file"
    if BY_PRODUCTS.intersection(parts):
        return "is what running leaves behind"
    if name.endswith("/") and member.file_size:
        return "is a folder with content"
    if member.flag_bits & 1 or member.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):
        return "is encrypted, or compressed in an unusual way"
    return None


def _checked(folder: Path) -> Path:
    for name in (METADATA, RUN_CONFIG, "Snakefile"):
        if not (folder / name).is_file():
            raise CrateError(
                f"no {name} in the crate; it must be one that `snakemake archive` wrote."
            )
    return folder


def files_in(folder: Path) -> list[str]:
    """Every file of a crate, by path; links and devices raise `CrateError`."""
    found = []
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in BY_PRODUCTS]
        for name in [*folders, *names]:
            path = Path(at, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise CrateError(
                    f"refused, because {path.relative_to(folder)} in the crate is a link, a device"
                    " or otherwise no ordinary file."
                )
            if stat.S_ISREG(mode):
                found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def run_config(crate: Path) -> dict[str, Any]:
    """The recorded settings. Raises `CrateError`."""
    try:
        config = read_yaml(crate / RUN_CONFIG)
    except ConfigError as error:
        raise CrateError(f"the crate's settings cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise CrateError(f"{RUN_CONFIG} in the crate is not a list of settings.")
    return config


def results_folder(crate: Path) -> str:
    """The folder of the crate's results, as the run's config names it. Raises `CrateError`."""
    name = run_config(crate).get("results")
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    inside = parts and ".." not in parts and not PurePosixPath(*parts).is_absolute()
    if not inside or not (crate / str(name)).is_dir():
        raise CrateError(f"the crate holds no folder '{name}' of results.")
    return PurePosixPath(*parts).as_posix()


def problems(crate: Path) -> list[str]:
    """All in a crate that is not what was archived, a line each. Raises `CrateError`."""
    files = files_in(crate)
    digests = {name: file_digest(crate / name) for name in files}
    described, wrong = _described(crate, digests)
    wrong += _differing(described, digests, {METADATA, PREVIEW, MANIFEST}, METADATA)
    results = results_folder(crate)
    if MANIFEST in digests:
        try:
            listed = digests_in(_text(crate / MANIFEST))
        except CrateError as error:
            wrong.append(str(error))
        else:
            wrong += _differing(listed, digests, {MANIFEST}, MANIFEST)
    elif any(_chained(file) for file in results_in(crate / results)):
        wrong.append(f"{MANIFEST} is missing, which every archive of such records has")
    if f"{results}/{REPORT}" not in digests:
        wrong.append(f"{results}/{REPORT} is missing, which every archive has")
    chain = Chain(crate, left_out=left_out)
    verdicts = {file: chain.broken(file) for file in results_in(crate / results)}
    if any(verdicts.values()):
        wrong.append(f"the results are not intact:\n{summary(verdicts)}")
    return list(dict.fromkeys(wrong))


def _chained(file: Path) -> bool:
    try:
        record = read_sidecar(file)
    except GraceError:
        return True
    return record is not None and record["format"] == FORMAT


def _described(crate: Path, files: Container[str]) -> tuple[dict[str, str], list[str]]:
    """SHA-256 of the files that the crate's metadata describes, and what is wrong with it."""
    try:
        graph = json.loads(_text(crate / METADATA), object_pairs_hook=unique_keys)["@graph"]
        entities = [(str(one["@id"]), one.get("sha256")) for one in graph]
        # An @id is part of a URL.
        entities = [(one if one in files else unquote(one), digest) for one, digest in entities]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return {}, [f"{METADATA}: no metadata of a crate ({error})"]
    counts = Counter(name for name, _ in entities)
    twice = sorted(name for name, count in counts.items() if count > 1)
    found = {name: str(digest) for name, digest in entities if digest is not None}
    return found, [f"{METADATA}: describes {name} twice" for name in twice]


def _differing(
    expected: Mapping[str, str], found: Mapping[str, str], besides: Iterable[str], source: str
) -> list[str]:
    """How a crate's files differ from a list of them."""
    besides = set(besides)
    lines = []
    for name in sorted((expected.keys() | found.keys()) - besides):
        if name not in found:
            lines.append(f"{name}: missing, though {source} lists it")
        elif name not in expected:
            lines.append(f"{name}: added, since {source} does not list it")
        elif expected[name] != found[name]:
            lines.append(
                f"{name}: changed: has the SHA-256 {found[name]}, and {source} says"
                f" {expected[name]}"
            )
    return lines


def _text(path: Path) -> str:
    """A description of a crate. Raises `CrateError`."""
    if path.stat().st_size > LONGEST:
        raise CrateError(f"{path.name} in the crate is too long.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CrateError(f"{path.name} in the crate is not UTF-8 ({error}).") from None
