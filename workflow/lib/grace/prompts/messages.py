"""What a prompt is made of: the messages of a chat, or a bare context that no template touches."""

from __future__ import annotations

from collections.abc import Sequence

Message = dict[str, str]
#: The role of a text that is no turn of a chat: what follows it is measured, nothing is asked.
CONTEXT = "context"


def context(text: str) -> tuple[Message, ...]:
    """A bare context; an empty one is the beginning of a text."""
    return ({"role": CONTEXT, "content": text},)


def bare_context(messages: Sequence[Message]) -> str | None:
    """The text of a bare context; None for a chat."""
    if len(messages) == 1 and messages[0]["role"] == CONTEXT:
        return messages[0]["content"]
    return None
