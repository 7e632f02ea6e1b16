"""The form of a record of how an output was made, and the digest that guards it.

Format 2 opens with the SHA-256 of the file itself, computed with zeros in that place, so that every
byte of a record counts and two languages can write it. It names the digests of its inputs' records,
so that a record cannot be replaced without those of all that was made from it.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from grace.errors import RecordError

#: The form of a record; a change that readers must know of raises it.
FORMAT = 2
#: What stands in the place of a record's digest while it is computed.
NO_DIGEST = "0" * 64
#: Records hold settings and digests; no job writes one that is nearly so long. In bytes.
LONGEST = 64 * 2**20

_DIGEST = re.compile(rb'\{\s*"digest": "([0-9a-f]{64})"')

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: Of a model's files over 64 MiB records of format 1 hold the size instead.
FileStamp = Annotated[str, Field(pattern=r"^([0-9a-f]{64}|[0-9]+ bytes)$")]
NonEmpty = Annotated[str, Field(min_length=1)]
#: R's numbers have no kind; it writes NA where it does not know.
Count = Annotated[int, Field(ge=0, strict=False)]
#: In UTC, to the millisecond.
Time = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$", examples=["2026-11-20T…"])
]


class Machine(BaseModel):
    """Where a job ran; more may be known of it."""

    model_config = ConfigDict(extra="allow", strict=True)

    node: str | None
    pod: str | None
    platform: NonEmpty
    cpus: Count | Literal["NA"] | None


class Model(BaseModel):
    """What answered; more may be known of it. `files`: digests by the hub's names for them."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: NonEmpty
    revision: str | None = None
    files: dict[NonEmpty, str] | None = None


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    #: The results folder, as the run's config names it; `path` begins with it.
    results: NonEmpty
    path: NonEmpty
    sha256: Sha256
    bytes: Count
    rule: NonEmpty
    wildcards: dict[NonEmpty, str]
    started: Time
    completed: Time
    inputs: dict[NonEmpty, Sha256]
    code: Annotated[dict[NonEmpty, Sha256], Field(min_length=1)]
    settings: dict[str, Any]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")] | None
    dirty: bool | None
    hardware: Machine
    versions: Annotated[dict[NonEmpty, str | None], Field(min_length=1)]
    #: Of the answers of models only.
    model: Model | None = None
    tokenizer: dict[str, Any] | None = None
    engine: dict[str, Any] | None = None
    seeds: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _inside(self) -> Self:
        place = PurePosixPath(self.path)
        if not place.is_relative_to(self.results) or ".." in place.parts:
            raise ValueError(f"`path` is {self.path}, outside of `results`, {self.results}")
        return self


class ProvenanceRecord(_Record):
    """How an output was made: `.provenance/<file name>.json` beside it."""

    digest: Sha256
    format: Literal[2]
    #: Digests of the records of those inputs that have one.
    input_records: dict[NonEmpty, Sha256]
    #: What the same job made, too.
    made_with: dict[NonEmpty, Sha256]
    identity: dict[str, Any] | None = None
    #: Of `code` and of what its files import from each other; not of names and places. Python's.
    code_digest: Sha256 | None = None
    #: What became of control tokens in the text of questions.
    control_tokens: dict[NonEmpty, str] | None = None
    files: dict[NonEmpty, Sha256] | None = None

    @model_validator(mode="after")
    def _known_inputs(self) -> Self:
        unknown = self.input_records.keys() - self.inputs.keys()
        if unknown:
            raise ValueError(f"`input_records` names {', '.join(sorted(unknown))}, no input")
        return self


class OlderRecord(_Record):
    """The same in format 1, which neither guards itself nor names its inputs' records."""

    format: Literal[1]
    made_with: list[NonEmpty]
    files: dict[NonEmpty, FileStamp] | None = None


def record_text(facts: dict[str, Any]) -> str:
    """A record of format 2 as it stands in its file, with its digest.

    Raises pydantic's `ValidationError` for facts that are no record's.
    """
    whole = {"digest": NO_DIGEST, "format": FORMAT, **facts}
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    ProvenanceRecord.model_validate_json(text)
    return text.replace(NO_DIGEST, hashlib.sha256(text.encode()).hexdigest(), 1)


def digest_of(content: bytes) -> str:
    """SHA-256 of a record's file, its own digest taken for zeros. 64 hex digits."""
    found = _DIGEST.match(content)
    if found:
        content = content[: found.start(1)] + NO_DIGEST.encode() + content[found.end(1) :]
    return hashlib.sha256(content).hexdigest()


def parsed(content: bytes) -> dict[str, Any]:
    """A record from its file's bytes.

    Raises `RecordError` where it is not whole, lacks a key, has one too many or twice, or is not
    what its digest says.
    """
    try:
        record = json.loads(content, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not whole JSON ({error})") from None
    found = record.get("format") if isinstance(record, dict) else None
    if type(found) is not int or found not in (1, FORMAT):
        raise RecordError(f"not a record of how an output was made, of format 1 or {FORMAT}")
    model = ProvenanceRecord if found == FORMAT else OlderRecord
    if found == FORMAT and record.get("digest") != digest_of(content):
        raise RecordError("it was edited: it is not what its own digest says")
    try:
        model.model_validate_json(content)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        raise RecordError(f"{place}: {wrong['msg']}" if place else wrong["msg"]) from None
    return dict(record)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises `ValueError` where a key stands in it twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r} stands there twice")
        found[name] = value
    return found
