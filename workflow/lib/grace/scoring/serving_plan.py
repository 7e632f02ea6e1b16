"""How a server that caches prefixes is asked for a trial's reads, and what that costs it.

A server such as vLLM computes a prompt from the first token that it does not find in its cache,
and the cache holds whole blocks only: what lies past the last full one is computed for every
request again. Two ways to ask are planned here, each in the order in which requests are sent:

- by nodes: one request for every context after which something is read. The last token of its
  prompt is the context's last, where the server reads any set of ids (vLLM: `logprob_token_ids`);
- by texts: one request for every option that is not the beginning of another. The server reads ids
  at many places of one prompt (vLLM: `prompt_logprob_token_ids`).

Requests come in stages, and those of a stage may be under way together. The first stage is one
request, which puts the story into the cache; the second does so for what else each query's prompt
holds. Both are reads that are wanted anyway, so that warming the cache costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from grace.scoring.forest import TokenQuery

BLOCK = 16
"""Tokens in a block of vLLM's cache on accelerators by default."""

Context = tuple[int, ...]


@dataclass(frozen=True)
class TextRead:
    """One request by texts: `rows[i]` are read after the first `start + i + 1` tokens.

    The last token of `text` is never looked at: nothing is read after a prompt's last token, so
    one more stands behind the option.
    """

    text: Context
    start: int
    rows: tuple[tuple[int, ...], ...]


def nodes(queries: Sequence[TokenQuery]) -> dict[Context, set[int]]:
    """The token ids to read after each context: children, and terminators at ends."""
    wanted: dict[Context, set[int]] = {}
    for query in queries:
        for continuation in query.continuations:
            context = query.prompt_token_ids
            for token in continuation:
                wanted.setdefault(context, set()).add(token)
                context = (*context, token)
            wanted.setdefault(context, set()).update(query.terminator_ids)
    return wanted


def node_stages(queries: Sequence[TokenQuery]) -> list[list[Context]]:
    """Every context of `nodes` once: the first prompt's end, the other prompts' ends, the rest."""
    first, *others = dict.fromkeys(query.prompt_token_ids for query in queries)
    ends = {first, *others}
    return [[first], others, [context for context in nodes(queries) if context not in ends]]


def text_stages(queries: Sequence[TokenQuery]) -> list[list[TextRead]]:
    """The longest texts: one, another one for each other prompt, the rest.

    A context that several texts begin with is read in the first of them. So the cache never holds
    a place that is still to be read, as long as no one else asks for these texts: such a place
    would not be computed, and not be read.
    """
    wanted = nodes(queries)
    longest = _longest(wanted)
    first_of: dict[Context, Context] = {}
    for query in queries:
        prompt = query.prompt_token_ids
        text = next(text for text in longest if text[: len(prompt)] == prompt)
        first_of.setdefault(prompt, text)
    first, *others = dict.fromkeys(first_of.values())
    ahead = {first, *others}
    end = queries[0].terminator_ids[0]
    unread = set(wanted)

    def reading(text: Context) -> TextRead:
        lengths = [n for n in range(1, len(text) + 1) if text[:n] in unread]
        start = lengths[0] - 1
        rows = tuple(
            tuple(sorted(wanted[text[:n]])) if text[:n] in unread else ()
            for n in range(start + 1, len(text) + 1)
        )
        unread.difference_update(text[:n] for n in lengths)
        return TextRead((*text, end), start, rows)

    stages = [[first], others, [text for text in longest if text not in ahead]]
    return [[reading(text) for text in stage] for stage in stages]


def _longest(contexts: Iterable[Context]) -> list[Context]:
    """The contexts that are not the beginning of another, in the order given."""
    order = sorted(contexts)
    begins = {one for one, after in pairwise(order) if after[: len(one)] == one}
    return [context for context in contexts if context not in begins]


class PrefixCache:
    """What a server's prefix cache holds, while nothing is evicted."""

    def __init__(self, block: int = BLOCK) -> None:
        self._block = block
        self._held: set[Context] = set()

    def forwards(self, prompt: Context) -> int:
        """Tokens computed for a prompt; at least the last one is. Its full blocks are kept."""
        ends = range(self._block, len(prompt) + 1, self._block)
        known = 0
        for end in ends:
            if end == len(prompt) or prompt[:end] not in self._held:
                break
            known = end
        self._held.update(prompt[:end] for end in ends if end > known)
        return len(prompt) - known


def forwards_by_nodes(queries: Sequence[TokenQuery], block: int = BLOCK) -> int:
    """Token-forwards of a trial that is asked by nodes, on an empty cache."""
    cache = PrefixCache(block)
    return sum(cache.forwards(context) for stage in node_stages(queries) for context in stage)


def forwards_by_texts(queries: Sequence[TokenQuery], block: int = BLOCK) -> int:
    """Token-forwards of a trial that is asked by texts, on an empty cache."""
    cache = PrefixCache(block)
    return sum(cache.forwards(read.text) for stage in text_stages(queries) for read in stage)
