"""The tokens of answer options in the context of their prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grace.errors import EngineError

#: Token ids of several texts.
Tokenise = Callable[[Sequence[str]], Sequence[Sequence[int]]]


@dataclass(frozen=True)
class QueryPlan:
    """The token sequences of one query: each option's ids follow `prompt_token_ids`."""

    prompt_token_ids: tuple[int, ...]
    option_token_ids: tuple[tuple[int, ...], ...]


def common_prefix(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """How many tokens both begin with."""
    low, high = 0, min(len(first), len(second))
    while low < high:  # comparing slices is much faster than comparing tokens in a loop
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[low:middle] == second[low:middle] else (low, middle - 1)
    return low


def plan_query(
    tokenise: Tokenise, prompt_text: str, prompt_ids: Sequence[int], options: Sequence[str]
) -> QueryPlan:
    """Tokenise prompt and option as one string, as the model would see them.

    Where a merge crosses the boundary between them, the prompt is cut back to what all options
    share, and the rest of it is scored as part of every option. No option is ever empty. Raises
    `EngineError` where two options have the same tokens or one has none.
    """
    prompt_ids = tuple(prompt_ids)
    joined = [tuple(ids) for ids in tokenise([prompt_text + option for option in options])]
    shared = min(common_prefix(prompt_ids, ids) for ids in joined)
    continuations = tuple(ids[shared:] for ids in joined)
    if shared == 0 or any(not ids for ids in continuations):
        raise EngineError("an answer option adds no token of its own to its prompt")
    if len(set(continuations)) < len(continuations):
        raise EngineError(f"two of the options {', '.join(options)} have the same tokens")
    return QueryPlan(prompt_ids[:shared], continuations)
