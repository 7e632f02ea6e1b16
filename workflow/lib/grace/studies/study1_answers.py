"""Study 1, knowledge attribution: how answers are read, and the columns of its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from grace.scoring.distributions import entropy, mean_and_std
from grace.studies.answers import StructuredAnswer, Study
from grace.studies.study1 import (
    PERCENT_OPTIONS,
    PERCENTAGES,
    STATES,
    Study1Design,
    Study1Trial,
)


class Study1Answer(StructuredAnswer):
    """Experiment 1's answer: a first guess, four bets in percent, a yes or no."""

    Prior_A: int | None = Field(None, ge=0, le=3)
    probability_0: float | None = Field(None, ge=0, le=100)
    probability_1: float | None = Field(None, ge=0, le=100)
    probability_2: float | None = Field(None, ge=0, le=100)
    probability_3: float | None = Field(None, ge=0, le=100)
    Knowledge_A: Literal["yes", "no"] | None = None


_FORM = re.compile(
    r"\s*Initial Answer: [0-3]\s*\n"
    r"Probabilities: 0: [\d.]+%, 1: [\d.]+%, 2: [\d.]+%, 3: [\d.]+%\s*\n"
    r"Knowledge: (?:yes|no)\.?\s*",
    re.IGNORECASE,
)
# Lookaheads keep a choice left open, such as the form's own "[0-3]" and "[yes/no]", from being
# taken for its first half.
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_OR = r"(?:[-–—/,&|~]|to\b|or\b|and\b|maybe\b|perhaps\b)"
_INITIAL = re.compile(
    rf"initial\s+answer\s*[:=]?\s*\[?\s*({_NUMBER})"
    rf"(?![0-9.]*[ \t]*(?:%|(?:{_OR}[ \t]*)+[0-9]+(?![0-9.]*\s*[:=])))",
    re.IGNORECASE,
)
_BET = re.compile(
    rf"(?<![\d.%])([0-3])\s*[:=]\s*\[?\s*({_NUMBER})\s*\]?\s*%"
    rf"(?![ \t]*\(?(?:[-–—/~]|to\b|or\b)[ \t]*[0-9]+(?![0-9.]*\s*[:=]))",
    re.IGNORECASE,
)
# Before a number and its percentage: "2 or 3: 70%" is no bet on 3, nor "Question 2: 50%" one on 2.
_NO_STATE = re.compile(
    r"(?:[0-9][ \t]*(?:[-–—/&+]|to\b|or\b|and\b)[ \t]*(?:or[ \t]+)?"
    r"|\b(?:questions?|q|steps?|parts?|sections?|trials?|items?|points?)\s*[.#]?\s*)\Z",
    re.IGNORECASE,
)
# The last lookaheads keep "no idea" and "no-one" from being taken for "no". What else the line says
# is read too.
_KNOWLEDGE = re.compile(
    r"knowledge\s*[:=]?\s*\[?\s*(yes|no)\b(?![ \t]*(?:/|or\b)[ \t]*(?:yes|no)\b)"
    r"(?![ \t]*\?|[-–'’]\w|[ \t]+(?!(?:and|as|because|but|for|he|it|she|since|they)\b)\w)"
    r"(?P<rest>[^\n]*)",
    re.IGNORECASE,
)
#: Characters before a match that are looked at.
_BEFORE = 40


def _plain(text: str) -> str:
    """Without the emphasis marks that chat models like to add."""
    return re.sub(r"[*_`]+", "", text)


def _only(found: set[Any], what: str, errors: list[str]) -> Any:
    """The single value found; notes an error when there is none or more than one."""
    if len(found) == 1:
        return next(iter(found))
    errors.append(f"{what} not found" if not found else f"{what} given more than once, differently")
    return None


class Study1(Study1Design, Study):
    """Knowledge attribution."""

    answer_model = Study1Answer
    raw_input_columns = tuple(Study1Trial.model_fields)
    probability_input_columns = tuple(Study1Trial.model_fields)
    query_names = (*(f"state{state}" for state in STATES), "knowledge")

    def derived_columns(self, trial: Study1Trial) -> dict[str, Any]:
        return {}

    def parse(self, response: str | None) -> Study1Answer:
        text = _plain(response or "")
        errors: list[str] = []
        initial = _only(set(_INITIAL.findall(text)), "initial answer", errors)
        if initial is not None and initial not in {"0", "1", "2", "3"}:
            errors.append(f"initial answer {initial[:20]} is not one of 0, 1, 2, 3")
            initial = None
        bets: dict[int, float | None] = {}
        said = [
            (int(match[1]), float(match[2]))
            for match in _BET.finditer(text)
            if not _NO_STATE.search(text[max(0, match.start() - _BEFORE) : match.start()])
        ]
        for state in STATES:
            found = {bet for key, bet in said if key == state}
            bet = _only(found, f"percentage of {state}", errors)
            if bet is not None and bet > 100:
                errors.append(f"percentage of {state} is {bet:g}, above 100")
                bet = None
            bets[state] = bet
        words = {
            word.lower()
            for match in _KNOWLEDGE.finditer(text)
            for word in (match[1], *re.findall(r"\b(?:yes|no)\b", match["rest"], re.IGNORECASE))
        }
        knowledge = _only(words, "knowledge answer", errors)
        in_form = 1.0 if _FORM.fullmatch(response or "") else 0.8
        return Study1Answer(
            Prior_A=None if initial is None else int(initial),
            probability_0=bets[0],
            probability_1=bets[1],
            probability_2=bets[2],
            probability_3=bets[3],
            Knowledge_A=knowledge,
            extraction_confidence=0.0 if errors else in_form,
            extraction_errors="; ".join(errors) or None,
        )

    def probability_columns(self) -> tuple[str, ...]:
        bets = [f"state{state}_prob_{percent}" for state in STATES for percent in PERCENTAGES]
        summaries = [
            f"state{state}_{summary}" for state in STATES for summary in ("mean", "std", "entropy")
        ]
        return (*bets, *summaries, "prob_knowledge_yes", "prob_knowledge_no", "entropy_knowledge")

    def probabilities(
        self, distributions: Mapping[str, Mapping[str, float] | None]
    ) -> dict[str, float | None]:
        values: dict[str, float | None] = dict.fromkeys(self.probability_columns())
        for state in STATES:
            distribution = distributions.get(f"state{state}")
            if distribution is None:
                continue
            bets = {
                percent: distribution[option]
                for percent, option in zip(PERCENTAGES, PERCENT_OPTIONS, strict=True)
            }
            for percent, probability in bets.items():
                values[f"state{state}_prob_{percent}"] = probability
            mean, std = mean_and_std({float(percent): p for percent, p in bets.items()})
            values[f"state{state}_mean"] = mean
            values[f"state{state}_std"] = std
            values[f"state{state}_entropy"] = entropy(bets.values())
        knowledge = distributions.get("knowledge")
        if knowledge is not None:
            values["prob_knowledge_yes"] = knowledge["yes"]
            values["prob_knowledge_no"] = knowledge["no"]
            values["entropy_knowledge"] = entropy(knowledge.values())
        return values

    def probability_groups(self) -> Mapping[str, tuple[str, ...]]:
        bets = {
            f"state{state}": tuple(f"state{state}_prob_{percent}" for percent in PERCENTAGES)
            for state in STATES
        }
        return {**bets, "knowledge": ("prob_knowledge_yes", "prob_knowledge_no")}

    def answer_checks(
        self, answer: Mapping[str, Any], percentage_tolerance: float
    ) -> Sequence[str]:
        bets = [answer[f"probability_{state}"] for state in STATES]
        if any(bet is None for bet in bets):
            return []
        total = sum(bets)
        if abs(total - 100) > percentage_tolerance:
            return [f"percentages sum to {total:g}, not 100"]
        return []
