"""Bodies of HTTP answers: no larger than an answer to the request can be, and whole JSON.

A body is read as it comes and counted once it is decompressed, so that neither an endless one nor
a bomb takes more memory than an honest one may.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from grace.errors import RequestError
from grace.foreign_text import message

ACCEPTED_ENCODINGS = "gzip"
"""What to send as Accept-Encoding; an answer in another one is not read."""

_MIB = 2**20
_ENVELOPE = _MIB  # everything but what follows from the request
_LIST = 16 * _MIB  # a gateway's list of models has been seen to take about 1 MiB
_MOST = 64 * _MIB
_ERROR_TEXT = 2**16
_TOKEN = 1024  # a token's text, escaped, and in up to three fields
_PLACE = 512  # one token's log-probability, with its text and bytes
_ID = 16
_LONGEST_TOKEN = 256
"""Characters; the longest tokens of vocabularies in use have 128."""


class MalformedError(Exception):
    """A body that cannot be read, as of a gateway in trouble: the next one may be whole."""


def most_bytes(request: Mapping[str, Any] | None) -> int:
    """The most bytes that an honest answer to a request's body can take; None is a GET.

    Texts grow with `max_tokens`, log-probabilities with the number of places and how many are
    shown at each.
    """
    if request is None:
        return _LIST
    sampling = request.get("sampling_params") or request
    prompts = request.get("prompt") or [request.get("token_ids") or ()]
    if not isinstance(prompts, list) or not isinstance(prompts[0], Sequence):
        prompts = [prompts]
    generated = len(prompts) * int(sampling.get("max_tokens") or 0)
    sent = sum(map(len, prompts))
    shown = max(int(request.get(name) or 0) for name in ("top_logprobs", "logprobs"))
    shown += len(request.get("logprob_token_ids") or ())
    of_prompt = sum(map(len, sampling.get("prompt_logprob_token_ids") or ()))
    if request.get("prompt_logprobs") is not None:
        of_prompt += sent * (2 + int(request["prompt_logprobs"]))
    places = generated * (2 + shown) if shown else 0
    found = _ENVELOPE + generated * _TOKEN + (places + of_prompt) * _PLACE + sent * _ID
    return min(found, _MOST)


def most_characters(max_tokens: int) -> int:
    """The most characters that so many tokens can hold."""
    return max_tokens * _LONGEST_TOKEN


def check_length(text: str, max_tokens: int) -> None:
    """Raise `RequestError` where a text is longer than the tokens asked for can be."""
    most = most_characters(max_tokens)
    if len(text) > most:
        raise RequestError(
            f"the server's answer has {len(text):,} characters, but {max_tokens:,} tokens"
            f" (`max_tokens`) hold {most:,} at most: it does not keep to what it is asked"
        )


async def read_body(response: httpx.Response, most: int) -> bytes:
    """A streamed answer's body, decompressed.

    Raises `RequestError` where it is larger than `most` bytes, `MalformedError` where it cannot be
    decompressed. Of an answer that is no success only the beginning is read.
    """
    if not response.is_success:
        content, _ = await _read(response, _ERROR_TEXT)
        return content
    declared = response.headers.get("Content-Length", "")
    if declared.isascii() and declared.isdigit() and len(declared) < 20 and int(declared) > most:
        raise _oversized(f"{int(declared):,} bytes", most)
    content, whole = await _read(response, most)
    if not whole:
        raise _oversized(f"more than {most:,} bytes, decompressed", most)
    return content


def _oversized(found: str, most: int) -> RequestError:
    return RequestError(
        f"the server's answer is too large: {found}; an answer to this request takes {most:,} at"
        " most. It is not read on, nor asked for again"
    )


async def _read(response: httpx.Response, most: int) -> tuple[bytes, bool]:
    """The first `most` bytes, and whether those are all."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    content = bytearray()
    if encoding in ("", "identity"):
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > most:
                return bytes(content[:most]), False
        return bytes(content), True
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise MalformedError(f"the answer's encoding, {message(encoding, 40)!r}, was not asked for")
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either of gzip's and zlib's headers
    received = 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        while chunk and not unzip.eof:
            try:
                content += unzip.decompress(chunk, most + 1 - len(content))
            except zlib.error as error:
                raise MalformedError(f"the answer cannot be decompressed ({error})") from None
            chunk = unzip.unconsumed_tail
            if len(content) > most:
                return bytes(content[:most]), False
        if received > most:  # more of it than the whole may be, and nothing comes out
            return bytes(content), False
    if not unzip.eof and response.is_success:
        raise MalformedError("the answer's compressed text is cut off")
    return bytes(content), True


def parse(content: bytes) -> tuple[dict[str, Any], str]:
    """A body as a JSON object, and as text. Raises `MalformedError`.

    Bytes that are no UTF-8, as of an emoji that was cut, become lone surrogates, which
    `grace.foreign_text` replaces and counts where they are kept.
    """
    text = content.decode("utf-8-sig", "surrogateescape")
    try:
        answer = json.loads(text, object_pairs_hook=_distinct)
    except _RepeatedKeyError as error:
        raise MalformedError(f"the answer names {error} more than once in one object") from None
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise MalformedError("the answer is not a JSON object")
    return answer, text


class _RepeatedKeyError(Exception):
    """A JSON object says two things of one key; readers differ in which of them counts."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)  # there may be a million of them
        raise _RepeatedKeyError(message(repr(counts.most_common(1)[0][0]), 60))
    return found
