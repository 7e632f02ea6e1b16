"""The tokens of answer options in the context of their prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grace.errors import EngineError

#: Token ids of several texts.
Tokenise = Callable[[Sequence[str]], Sequence[Sequence[int]]]
#: Options as they stand in the prompt, and in no other form.
AS_ASKED = ("{}",)


@dataclass(frozen=True)
class QueryPlan:
    """The token sequences of one query: each text's ids follow `prompt_token_ids`.

    `texts` holds every option in every surface form, the forms of an option together.
    """

    prompt_token_ids: tuple[int, ...]
    texts: tuple[str, ...]
    option_token_ids: tuple[tuple[int, ...], ...]


def common_prefix(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """How many tokens both begin with."""
    low, high = 0, min(len(first), len(second))
    while low < high:  # comparing slices is much faster than comparing tokens in a loop
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[low:middle] == second[low:middle] else (low, middle - 1)
    return low


def plan_query(
    tokenise: Tokenise,
    prompt_text: str,
    prompt_ids: Sequence[int],
    options: Sequence[str],
    forms: Sequence[str] = AS_ASKED,
) -> QueryPlan:
    """Tokenise prompt and option as one string, as the model would see them.

    `forms` are the surface forms of every option, `{}`. Where a merge crosses the boundary between
    prompt and option, the prompt is cut back to what all texts share, and the rest of it is scored
    as part of every text. No text is ever empty. Raises `EngineError` where two texts have the same
    tokens, which would be counted twice, or one has none.
    """
    prompt_ids = tuple(prompt_ids)
    texts = tuple(form.replace("{}", option) for option in options for form in forms)
    joined = [tuple(ids) for ids in tokenise([prompt_text + text for text in texts])]
    shared = min(common_prefix(prompt_ids, ids) for ids in joined)
    continuations = tuple(ids[shared:] for ids in joined)
    if shared == 0 or any(not ids for ids in continuations):
        raise EngineError("an answer option adds no token of its own to its prompt")
    known: dict[tuple[int, ...], str] = {}
    for text, ids in zip(texts, continuations, strict=True):
        if ids in known:
            raise EngineError(
                f"the options {known[ids]!r} and {text!r} have the same tokens for this model and"
                " would count twice; if they are forms of one option, leave one form out of"
                " `scoring.surface_forms`"
            )
        known[ids] = text
    return QueryPlan(prompt_ids[:shared], texts, continuations)
