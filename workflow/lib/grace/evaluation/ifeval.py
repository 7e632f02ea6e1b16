"""Evaluations in the form that lm-evaluation-harness's task `ifeval` scores, with its own checkers.

A row is a document of that task (key, prompt, instruction_id_list, kwargs) with the `response`.
Types of which IFEval has no counterpart are left out. IFEval takes "it's" for two words and a part
of a word for a keyword, allows no mark behind a last word, knows straight quotation marks alone,
guesses the language where letters are to be small or large, and knows neither refusals nor further
tasks: its verdicts are a second opinion, not the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from grace.posttraining.declared_checks import DeclaredCheck, number_of

_LENGTHS = {
    "word-count": ("length_constraints:number_words", "num_words"),
    "sentence-count": ("length_constraints:number_sentences", "num_sentences"),
}
#: Without arguments of their own.
_PLAIN = {
    "lower-case": "change_case:english_lowercase",
    "upper-case": "change_case:english_capital",
    "quoted": "startend:quotation",
}
#: What of lm-evaluation-harness scores a row.
SCORER = "lm_eval.tasks.ifeval.utils"


def counterpart(declared: DeclaredCheck, values: Mapping[str, str]) -> list[tuple[str, Any]] | None:
    """IFEval's instructions with their arguments that ask for the same; None where it has none.

    Exactly so many is at least so many and fewer than one more.
    """
    given = declared.filled(values)
    if declared.rule in _LENGTHS:
        name, argument = _LENGTHS[declared.rule]
        number = number_of(given["number"])
        return [
            (name, {argument: number, "relation": "at least"}),
            (name, {argument: number + 1, "relation": "less than"}),
        ]
    if declared.rule in _PLAIN:
        return [(_PLAIN[declared.rule], {})]
    match declared.rule:
        case "contains":
            return [("keywords:existence", {"keywords": [given["text"]]})]
        case "lacks":
            return [("keywords:forbidden_words", {"forbidden_words": [given["text"]]})]
        case "ends":
            return [("startend:end_checker", {"end_phrase": given["text"]})]
    return None


def documents(
    items: Iterable[Mapping[str, Any]], checks: Mapping[str, DeclaredCheck | None]
) -> Iterator[dict[str, Any]]:
    """A row for each item that was answered and has a counterpart; its key is the item's place."""
    for place, item in enumerate(items):
        declared = checks.get(item["type"])
        asked = counterpart(declared, item["values"]) if declared is not None else None
        if asked is not None and item["strict"] is not None:
            yield {
                "key": place,
                "prompt": item["instruction"],
                "instruction_id_list": [name for name, _ in asked],
                "kwargs": [arguments for _, arguments in asked],
                "response": item["answer"],
            }


def scores(rows: Iterable[Mapping[str, Any]]) -> dict[str, float] | str:
    """The shares of rows that IFEval's checkers find right, strict and loose; or why none are.

    They are there where lm-evaluation-harness and what its task needs are installed.
    """
    try:
        scorer = import_module(SCORER)
        found = [scorer.process_results(row, [row["response"]]) for row in rows]
    except (ImportError, LookupError, OSError) as error:  # not installed, or nltk's data is not
        return f"not scored here: {str(error).strip().splitlines()[0]}"
    if not found:
        return "not scored: no item has a counterpart in IFEval"
    return {
        name: sum(one[f"prompt_level_{name}_acc"] for one in found) / len(found)
        for name in ("strict", "loose")
    }
