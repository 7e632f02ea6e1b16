"""Strict and loose verifiers of answers, after IFEval (Zhou et al. 2023, arXiv 2311.07911).

Strict: the rule holds of the answer as it stands. Loose: it holds of one of eight forms of it, in
which the first line, the last line and asterisks are each kept or removed. Whatever the rule, an
answer without a word, a refusal, and one that says the instruction again or goes on with another
task does not do what is asked: else "I cannot do that" would pass for a text without the word lamp.
Case of words is ignored where the rule is not about case. What an answer says is not judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

from grace.posttraining.declared_checks import DeclaredCheck, number_of
from grace.posttraining.instruction_bank import normalised

Found = Literal["right", "form", "content"]
"""`form`: what is asked for is there, in another form or place, or with more around it."""
Arguments = Mapping[str, str]
Kind = Literal[
    "right", "empty", "truncated", "refusal", "another task", "wrong format", "wrong content"
]
#: The kinds of failure, in the order in which an answer is held against them.
FAILURES: tuple[Kind, ...] = (
    "empty", "truncated", "refusal", "another task", "wrong format", "wrong content",
)  # fmt: skip

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_ENUMERATOR = re.compile(r"(?:^|(?<=\s))(?:\d{1,3}[.)]|[-*\u2022])\s+")
_SENTENCE_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s|$)")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"\u201c])(?:(?i:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|approx|jr|sr)|[A-HJ-Z])$"
)
_OPENING, _CLOSING = "\"'\u201c\u2018(", "\"'\u201d\u2019).!?\u2026"
_QUOTES = (
    ('"', '"'), ("\u201c", "\u201d"), ("\u201e", "\u201c"), ("\u00ab", "\u00bb"),
    ("'", "'"), ("\u2018", "\u2019"),
)  # fmt: skip
_REFUSAL = re.compile(
    r"\W*(?:as an ai\b|(?:i'?m|i am|we are|we're) (?:very |so |really )?sorry\b(?!\s+to\s+hear)"
    r"|sorry, (?:but )?i\b"
    r"|(?:unfortunately,? |but )?(?:i|we) (?:cannot|can't|can not|can\u2019t|am unable to"
    r"|am not able to|'m not able to|won't|will not|do not feel able to)"
    r" (?:help|assist|answer|do|provide|fulfil|fulfill|comply|complete|write|respond|follow|give)\b"
    r"|unfortunately,? (?:this|that) is (?:nothing|not something) (?:that )?i can\b)",
    re.I,
)
#: Of a further task, after the end of a line or sentence.
_CUE = re.compile(
    r"(?:\n|[.!?][\"'\u201d\u2019)]*)\s*(?:instruction|answer|task|question)\s*\d*\s*:", re.I
)
#: An item of a list has no more words.
_ITEM_WORDS = 4
#: A shorter instruction may well be part of its answer.
_RESTATED_WORDS = 4


def words(text: str) -> list[str]:
    """The words of a text, casefolded; what hyphens or apostrophes join is one."""
    return [word.casefold().replace("\u2019", "'") for word in _WORD.findall(text)]


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with a letter; an unfinished last one counts."""
    found, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        before = text[start : end.start()]
        if end[0].startswith(".") and len(end[0]) == 1 and _ABBREVIATION.search(before):
            continue
        found.append(text[start : end.end()].strip())
        start = end.end()
    found.append(text[start:].strip())
    return [one for one in found if any(map(str.isalpha, one))]


def _word_count(answer: str, given: Arguments) -> Found:
    return "right" if len(words(answer)) == number_of(given["number"]) else "content"


def _sentence_count(answer: str, given: Arguments) -> Found:
    return "right" if len(sentences(answer)) == number_of(given["number"]) else "content"


def _holds(answer: str, text: str) -> bool:
    """Whether these words stand in the answer, one after the other."""
    whole, part = words(answer), words(text)
    places = range(len(whole) - len(part) + 1)
    return any(whole[place : place + len(part)] == part for place in places)


def _contains(answer: str, given: Arguments) -> Found:
    return "right" if _holds(answer, given["text"]) else "content"


def _lacks(answer: str, given: Arguments) -> Found:
    return "content" if _holds(answer, given["text"]) else "right"


def _lower_case(answer: str, given: Arguments) -> Found:
    letters = [letter for letter in answer if letter.isalpha()]
    return "right" if letters and not any(map(str.isupper, letters)) else "form"


def _upper_case(answer: str, given: Arguments) -> Found:
    letters = [letter for letter in answer if letter.isalpha()]
    return "right" if letters and not any(map(str.islower, letters)) else "form"


def _items(text: str) -> list[list[str]]:
    """What may be meant by a list: its items, and the same with the last "and" taken for a comma.

    Without marks between them, words are the items.
    """
    pieces = [one.strip(" \t.:") for one in re.split(r"[,;\n]", _ENUMERATOR.sub("\n", text))]
    pieces = [re.sub(r"^(?:and|then)\s+", "", one, flags=re.I) for one in pieces if one]
    if len(pieces) == 1 and " and " not in pieces[0].casefold():
        return [pieces[0].split()]
    if not pieces:
        return [[]]
    return [pieces, [*pieces[:-1], *re.split(r"\s+and\s+", pieces[-1], flags=re.I)]]


def _list(answer: str, given: Arguments) -> Found:
    """So many different items, then the word that ends them."""
    number, last = number_of(given["number"]), re.escape(given["text"].strip())
    ending = re.search(rf"(?:^|[\s,;.:]){last}[.!\"']*$", answer.strip(), re.I)
    before = answer.strip()[: ending.start()] if ending else answer
    before = re.sub(r"[\s,;.:]+(?:and|then)?[\s,;.:]*$", "", before, flags=re.I)
    for found in _items(before):
        named = {" ".join(words(item)) for item in found}
        plain = all(0 < len(words(item)) <= _ITEM_WORDS for item in found)
        if len(found) == len(named) == number and plain:
            return "right" if ending else "form"
    return "content"


def _begins(answer: str, given: Arguments) -> Found:
    asked, first = words(given["text"]), _WORD.search(answer)
    if words(answer)[: len(asked)] == asked and first is not None:
        return "right" if answer[: first.start()].strip() in ("", *_OPENING) else "form"
    return "form" if _holds(answer, given["text"]) else "content"


def _ends(answer: str, given: Arguments) -> Found:
    asked, found = words(given["text"]), list(_WORD.finditer(answer))
    if found and words(answer)[-len(asked) :] == asked:
        return "right" if not answer[found[-1].end() :].strip().strip(_CLOSING) else "form"
    return "form" if _holds(answer, given["text"]) else "content"


def _repeat(answer: str, given: Arguments) -> Found:
    """The text so many times, then the last, and no other word."""
    asked = [*words(given["text"]) * number_of(given["number"]), *words(given["last"])]
    if words(answer) == asked:
        return "right"
    return "form" if _holds(answer, " ".join(asked)) else "content"


def _quoted(answer: str, given: Arguments) -> Found:
    """One quotation from beginning to end; an apostrophe within a word is no mark."""
    text = answer.strip()
    for opening, closing in _QUOTES:
        if len(text) > 1 and text.startswith(opening) and text.endswith(closing):
            inside = re.sub(r"(?<=\w)['\u2019](?=\w)", "", text[1:-1])
            return "right" if words(inside) and not set(inside) & {opening, closing} else "form"
    return "form"


def _exact(answer: str, given: Arguments) -> Found:
    """Just this text; quotation marks around it and a full stop are no difference."""

    def plain(text: str) -> str:
        return " ".join(text.casefold().split()).strip(f"{_OPENING}{_CLOSING}")

    if plain(answer) == plain(given["text"]):
        return "right"
    return "form" if _holds(answer, given["text"]) else "content"


#: By the names under which banks declare them.
RULES: Mapping[str, Callable[[str, Arguments], Found]] = {
    "word-count": _word_count,
    "sentence-count": _sentence_count,
    "contains": _contains,
    "lacks": _lacks,
    "lower-case": _lower_case,
    "upper-case": _upper_case,
    "list": _list,
    "begins": _begins,
    "ends": _ends,
    "repeat": _repeat,
    "quoted": _quoted,
    "exact": _exact,
}


def loose_forms(answer: str) -> Iterator[str]:
    """The eight forms of an answer that IFEval's loose accuracy looks at, the answer first."""
    lines = answer.split("\n")
    for keep_marks, first, last in product((True, False), (0, 1), (0, 1)):
        text = "\n".join(lines[first : len(lines) - last]).strip()
        yield text if keep_marks else text.replace("*", "")


def refuses(answer: str) -> bool:
    """Whether an answer begins by declining."""
    return _REFUSAL.match(answer.replace("\u2019", "'")) is not None


def goes_on(answer: str, instruction: str) -> bool:
    """Whether an answer says the instruction again, or has the cue of a further task."""
    asked = normalised(instruction)
    restated = len(asked.split()) >= _RESTATED_WORDS and asked in normalised(answer)
    return restated or _CUE.search(answer) is not None


@dataclass(frozen=True)
class Checked:
    """The verdicts on an answer, and the kind of its failure, `right` where strict holds."""

    strict: bool
    loose: bool
    kind: Kind


def check(
    answer: str, instruction: str, declared: DeclaredCheck, values: Mapping[str, str], *,
    truncated: bool = False,
) -> Checked:  # fmt: skip
    """Check an answer to an instruction with these values. A truncated one is taken as it is."""
    rule, given = RULES[declared.rule], declared.filled(values)

    def found(text: str) -> Found:
        if not words(text) or goes_on(text, instruction):
            return "content"
        return rule(text, given)

    declined = refuses(answer)
    first = found(answer)
    strict = first == "right" and not declined
    loose = strict or (not declined and any(found(one) == "right" for one in loose_forms(answer)))
    if strict:
        return Checked(True, True, "right")
    kind: Kind
    if not words(answer):
        kind = "empty"
    elif truncated:
        kind = "truncated"
    elif declined:
        kind = "refusal"
    elif goes_on(answer, instruction):
        kind = "another task"
    else:
        kind = "wrong format" if loose or first == "form" else "wrong content"
    return Checked(False, loose, kind)
