"""Telling a reasoning trace from the answer after it."""

from __future__ import annotations


def split_reasoning(text: str, end_tag: str) -> tuple[str | None, str]:
    """The reasoning up to the first `end_tag`, and the answer after it.

    The opening tag, if it stands at the start, is left out: `<think>` for `</think>`. Without
    `end_tag` all of `text` is the answer, unless it starts with the opening tag: then the reasoning
    never ended and the answer is empty.
    """
    opening = end_tag.replace("/", "", 1)
    before, found, after = text.partition(end_tag)
    stripped = before.strip()
    opened = opening != end_tag and stripped.startswith(opening)
    if not found and not opened:
        return None, text
    return stripped.removeprefix(opening).strip(), after.strip()
