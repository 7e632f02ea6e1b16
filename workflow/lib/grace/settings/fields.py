"""Single values that a user writes: folders, names, addresses, and how large a number may be.

A function takes a value and gives it back, or raises `ValueError` with what is allowed.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from grace.settings.explain import NAME
from grace.settings.yaml_reader import character

MAX_COMPONENT = 200
"""Bytes of one folder's name; file systems take 255, and what is below needs some."""
MAX_PATH = 1000
"""Bytes of a path; systems take 4,096 with all that is below."""
MAX_REPLICATIONS = 1000
"""With more, experiments of different replications would start from the same seed: see `seeds`."""
MAX_FORM = 200
"""Characters of one way of writing an option."""
MAX_SECONDS = 10_000_000
"""Of a wait: four months; clocks and locks overflow further on."""

#: What stands in the folder of results beside the models' folders.
RESULTS_OWN = {
    "README.md", "analysis", "benchmarks", "grace-crate.zip", "logs", "manifests", "report.html",
    "review", "training", "trials.html",
}  # fmt: skip
#: Marks of punctuation in folders' names that no shell and no pattern of file names reads.
_FOLDER_MARKS = " ._-+,=@:()"
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_ADDRESS_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_SCHEME = re.compile(r"https?://")


def text(value: str, most: int = MAX_PATH) -> str:
    """A text that is not blank, without control characters, new lines and white space around it."""
    if not value:
        raise ValueError("must not be empty")
    if not value.strip():
        raise ValueError("must not be blank")
    if len(value) > most:
        raise ValueError(f"must have at most {most} characters")
    for char in value:
        if unicodedata.category(char) in ("Cc", "Cf", "Cn", "Cs", "Zl", "Zp"):
            raise ValueError(f"must not hold {character(char)}, a new line or an invisible sign")
    if value != value.strip():
        raise ValueError("must not begin or end in white space")
    return value


def plain_path(value: str) -> str:
    """A path without what changes nothing about it: '.' and '/' that are not needed."""
    # Two at its beginning may mean something of their own to a system.
    return str(PurePosixPath(re.sub("^/+", "/", value)))


def folder(value: str) -> str:
    """A path that means the same to every program, in its one plain way of writing.

    What does no harm is left out: './' before it, '/' behind it and twice in it.
    """
    value = plain_path(text(value))
    parts = value.removeprefix("/").split("/")
    if ".." in parts or value in ("/", "."):
        raise ValueError(
            "must be the path of a folder below this one, or an absolute one, without '..'"
        )
    for part in parts:
        if part.startswith(("-", " ")) or part.endswith(" "):
            raise ValueError("must not hold a folder whose name begins with '-' or ends in a space")
        if len(part.encode()) > MAX_COMPONENT:
            raise ValueError(f"must not hold a name of more than {MAX_COMPONENT} bytes")
    wrong = {c for c in value if c not in f"/{_FOLDER_MARKS}" and not _is_letter(c)}
    if wrong:
        raise ValueError(
            f"must not hold {' '.join(sorted(wrong))}; letters, digits, spaces and"
            f" {' '.join(_FOLDER_MARKS.strip())} are allowed"
        )
    if len(value.encode()) > MAX_PATH:
        raise ValueError(f"must have at most {MAX_PATH} bytes")
    return value


def _is_letter(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char).startswith("M")


def model_key(value: str) -> str:
    """The name of a model, whose results go to a folder called so."""
    if value in RESULTS_OWN:
        raise ValueError("is that of a folder or file which every run makes. Choose another")
    return value


def source(value: str) -> str:
    """A hub id, a folder, or a name that a remote server knows a model by.

    A folder may begin with './' or end in '/', which `Project` leaves out if it is there.
    """
    text(value)
    parts = value.removeprefix("./").removeprefix("/").removesuffix("/").split("/")
    if {"", ".", ".."} & set(parts) or value.startswith(("-", "~")) or "\\" in value:
        raise ValueError(
            "must be an id of the hub, such as google/gemma-2-2b-it, or a folder, without '..',"
            " '~', backslashes and needless '.' and '/' in it, not beginning with '-'"
        )
    return value


def revision(value: str) -> str:
    """A commit, tag or branch."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", value) or ".." in value:
        raise ValueError("must be a commit, tag or branch of the hub, such as main")
    return value


def csv_path(value: str) -> str:
    """Path of a stimuli file, which rules name as an input."""
    text(value)
    if set(value) & set("{}<>*?[]"):
        raise ValueError("must be the path of one CSV file, without { } < > * ? [ ]")
    return value


def study_entry(value: str) -> str:
    """A bundled study's name, or the folder of a study."""
    text(value)
    if set(value) & set("{}<>*?[]"):
        raise ValueError("must be a study's name or folder, without { } < > * ? [ ]")
    return value


def variable(value: str) -> str:
    """The name of an environment variable that holds a key."""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", value):
        raise ValueError(
            "must name an environment variable, in capitals, such as OPENAI_API_KEY, and not be the"
            " key itself"
        )
    return value


def base_url(value: str) -> str:
    """The address of an API without anything secret; a '/' at its end is left out."""
    if not _SCHEME.match(value):
        raise ValueError("must start with http:// or https://")
    if re.search(r"[@?#]", value):
        raise ValueError(
            "must hold no user, password, query or fragment, as it is written into results."
            " Put the key into an environment variable and name that in `api_key_env`"
        )
    try:
        parts = urlsplit(value)
        # `urlsplit` leaves out what it does not like.
        sound = parts.geturl() == value and _is_host(parts) and _is_path(parts.path)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError(
            "must be an address such as https://llm.example.org/v1 or http://127.0.0.1:8000/v1:"
            " a host, a port from 1 to 65535 if there is one, no spaces, no new lines"
        )
    return value.rstrip("/")


def hosts_of(*urls: str | None) -> tuple[str, ...]:
    """The hosts of addresses, those that are None left out."""
    return tuple(sorted({urlsplit(url).hostname or "" for url in urls if url is not None}))


def _is_path(path: str) -> bool:
    return _ADDRESS_PATH.fullmatch(path) is not None and ".." not in path.split("/")


def _is_host(parts: SplitResult) -> bool:
    """Whether there is a host, and a port from 1 if there is a colon. May raise `ValueError`."""
    host = parts.hostname
    if not host or parts.netloc.endswith(":") or parts.port == 0:
        return False
    if parts.netloc.startswith("["):
        return ipaddress.ip_address(host).version == 6
    if re.fullmatch(r"[0-9.]+", host):
        return ipaddress.ip_address(host).version == 4
    names = host.removesuffix(".").split(".")
    return len(host) <= 253 and all(map(_HOST.fullmatch, names))


def surface_forms(forms: list[str]) -> list[str]:
    """Ways of writing an option, `{}`; no two the same."""
    for form in forms:
        if form.count("{}") != 1:
            raise ValueError(
                f"every form must hold {{}}, the option, exactly once, as in ' {{}}'; {form!r}"
                " does not"
            )
        if len(form) > MAX_FORM:
            raise ValueError(f"must not hold a form of more than {MAX_FORM} characters")
    if len(set(forms)) < len(forms):
        raise ValueError("names a form more than once, which would count it twice")
    return forms


def answer_lead(value: str) -> str:
    """White space that stands before an answer; it may be empty."""
    if len(value) > MAX_FORM or value.strip(" \n"):
        raise ValueError(f"must be spaces and line breaks alone, at most {MAX_FORM} of them")
    return value


def number_or_list(value: object) -> object:
    """Whole numbers, which may stand as text; `true` is none."""
    parts = value if isinstance(value, list) else [value]
    if not all(
        (isinstance(part, int) and not isinstance(part, bool))
        or (isinstance(part, str) and part.isascii() and part.isdecimal())
        for part in parts
    ):
        raise ValueError("must be a number such as 3, or a list of indices such as [0, 1]")
    return value


def replications(value: int | list[int]) -> int | list[int]:
    """How many replications, or which."""
    if isinstance(value, int):
        if value < 1:
            raise ValueError("must be 1 or more, or a list of indices such as [0, 1]")
        if value > MAX_REPLICATIONS:
            raise ValueError(
                f"must be {MAX_REPLICATIONS} or less, or a list of indices below that: further"
                " replications would start from the seeds of others"
            )
    elif not value or min(value) < 0 or len(set(value)) < len(value):
        raise ValueError("as a list must hold distinct indices from 0, at least one")
    elif max(value) >= MAX_REPLICATIONS:
        raise ValueError(
            f"as a list must hold indices from 0 to {MAX_REPLICATIONS - 1}: further replications"
            " would start from the seeds of others"
        )
    return value


Name = Annotated[str, Field(pattern=NAME, max_length=100)]
"""Of a model, a variant or a tag: a folder, a file and a column may be called so."""
ModelKey = Annotated[Name, AfterValidator(model_key)]
Folder = Annotated[str, AfterValidator(folder)]
Text = Annotated[str, AfterValidator(lambda value: text(value))]
AnswerLead = Annotated[str, AfterValidator(answer_lead)]
Variable = Annotated[str, AfterValidator(variable)]
Source = Annotated[str, AfterValidator(source)]
Revision = Annotated[str, AfterValidator(revision)]
StudyEntry = Annotated[str, AfterValidator(study_entry)]
CsvPath = Annotated[str, AfterValidator(csv_path)]
BaseUrl = Annotated[str, AfterValidator(base_url)]

SurfaceForms = Annotated[list[str], AfterValidator(surface_forms)]
Replications = Annotated[
    int | list[int], BeforeValidator(number_or_list), AfterValidator(replications)
]
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]
Devices = Annotated[int, Field(ge=1, le=1024)]
"""GPUs or cores of one machine."""
Length = Annotated[int, Field(ge=64, le=1_000_000_000)]
"""Tokens that a model holds."""
Billions = Annotated[float, Field(gt=0, le=100_000)]
Gib = Annotated[float, Field(gt=0, le=100_000)]
Kib = Annotated[float, Field(gt=0, le=1_000_000)]
