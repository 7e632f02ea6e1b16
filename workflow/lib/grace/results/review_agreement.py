"""What filled-in review sheets say: how often answers were read as a person reads them.

Two numbers: the share of answers read rightly, and Cohen's kappa, which takes off the agreement
that two readers of these answers would have by chance.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grace.errors import RecordError
from grace.results.records import replacing
from grace.results.review import (
    CHECKED,
    IDENTITY_COLUMNS,
    NONE,
    RIGHT,
    field_names,
    filled,
    read_sheet_rows,
)
from grace.studies.answers import FieldForm
from grace.studies.study import Study

#: `what` of an agreement on whole answers; `model_key` of one over all models.
ALL_FIELDS, ALL_MODELS = "all fields", ""
COLUMNS = (
    "study", "model_key", "what", "answers", "checked", "right", "share", "low", "high", "kappa",
    "kappa_low", "kappa_high",
)  # fmt: skip
_Z95 = 1.959963984540054
#: Today's rows by the values of `IDENTITY_COLUMNS`.
CurrentRows = Mapping[tuple[str, ...], Mapping[str, str]]
Category = tuple[str, ...]


@dataclass(frozen=True)
class ReviewAgreement:
    """In how many checked answers what was read is right.

    Attributes:
        model_key: `ALL_MODELS` for all of them together.
        what: A field, or `ALL_FIELDS`.
        answers: On the sheet.
        checked: Of these, those that a person looked at.
        right: Of these, those read rightly.
        by_chance: Agreement of two readers by chance: the sum over readings of the product of both
            readers' shares of it; None where nothing is checked.
    """

    study: str
    model_key: str
    what: str
    answers: int
    checked: int
    right: int
    by_chance: float | None = None

    @property
    def share(self) -> float | None:
        """The share read rightly, None where nothing is checked."""
        return self.right / self.checked if self.checked else None

    def interval(self) -> tuple[float, float]:
        """Lower and upper 95 % end of the share (Wilson 1927), for answers drawn at random."""
        n, p = self.checked, self.right / self.checked
        centre = (p + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
        half = _Z95 * math.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n**2)) / (1 + _Z95**2 / n)
        return max(0.0, centre - half), min(1.0, centre + half)

    def kappa(self) -> tuple[float, float, float] | None:
        """Cohen's kappa (1960) and the ends of its 95 % interval.

        The interval is Wilson's of the share, with agreement by chance as it was found: that of
        Fleiss, Cohen and Everitt (1969) has no width where all is read rightly, as mostly here.
        None where it is not defined: both readers gave one and the same reading to everything.
        """
        if self.share is None or self.by_chance is None or self.by_chance >= 1:
            return None
        low, high = self.interval()
        found = [(p - self.by_chance) / (1 - self.by_chance) for p in (self.share, low, high)]
        return found[0], found[1], found[2]

    def cells(self) -> list[object]:
        """A row of `COLUMNS`; empty where there is no number."""
        counts = [self.study, self.model_key, self.what, self.answers, self.checked, self.right]
        if not self.checked:
            return [*counts, *[""] * 6]
        return [*counts, self.share, *self.interval(), *(self.kappa() or [""] * 3)]

    def said(self) -> str:
        """It in words."""
        whose = f"{self.study}, {self.model_key or 'all models'}, {self.what}"
        if not self.checked:
            return f"{whose}: none of {self.answers} answers is checked yet"
        low, high = self.interval()
        text = f"{whose}: {self.right} of {self.checked} read rightly, {self.share:.1%}"
        kappa = self.kappa()
        more = "" if kappa is None else "; kappa {:.2f} [{:.2f}, {:.2f}]".format(*kappa)
        return f"{text} [{low:.1%}, {high:.1%}]{more}"


def agreement(study: Study, path: Path, current: CurrentRows) -> tuple[list[ReviewAgreement], list[str]]:  # fmt: skip
    """How often what the results hold is what a sheet's person says, and what could not be used.

    A row counts where `checked` says anything; a field in which nothing is filled in was read
    rightly. First over all models, then for each, whole answers and fields. Raises `RecordError`,
    with row and column, for a sheet that is filled in wrongly.
    """
    names = field_names(study)
    sheet = read_sheet_rows(path)
    _check_columns(path, sheet[0], names)
    pairs: dict[tuple[str, str], list[tuple[Category, Category]]] = {}
    answers: Counter[str] = Counter()
    problems: list[str] = []
    seen: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(sheet, start=2):
        answers.update([row["model_key"], ALL_MODELS])
        key = tuple(row[name] for name in IDENTITY_COLUMNS)
        _check_row(path, number, row, study, seen.setdefault(key, number))
        if not filled(row):
            continue
        now = current.get(key)
        if now is None:
            problems.append(f"row {number}: its answer is not in the results any more; not counted")
            continue
        said = _said(path, number, row, study.answer_forms(now))
        readings = {name: (_plain(said.get(name, now[name])), _plain(now[name])) for name in names}
        whole = (tuple(one for one, _ in readings.values()), tuple(r for _, r in readings.values()))
        fields = {name: ((one,), (other,)) for name, (one, other) in readings.items()}
        for what, pair in ({ALL_FIELDS: whole} | fields).items():
            for model in (ALL_MODELS, row["model_key"]):
                pairs.setdefault((model, what), []).append(pair)
    return [
        _compared(study.name, model, what, answers[model], pairs.get((model, what), []))
        for model in sorted(answers)
        for what in (ALL_FIELDS, *names)
        if (model, what) in pairs or (model, what) == (ALL_MODELS, ALL_FIELDS)
    ], problems


def _compared(
    study: str, model: str, what: str, answers: int, pairs: Sequence[tuple[Category, Category]]
) -> ReviewAgreement:
    right = sum(one == other for one, other in pairs)
    return ReviewAgreement(study, model, what, answers, len(pairs), right, _by_chance(pairs))


def _by_chance(pairs: Sequence[tuple[Category, Category]]) -> float | None:
    if not pairs:
        return None
    person, reader = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    return math.fsum(person[each] * reader[each] for each in person) / len(pairs) ** 2


def _plain(value: str) -> str:
    """A value as it is compared: numbers by what they are, words in whatever case."""
    try:
        return repr(float(value))
    except ValueError:
        return value.strip().casefold()


def _check_columns(path: Path, row: Mapping[str, str], names: Sequence[str]) -> None:
    wanted = {f"{RIGHT}{name}" for name in names}
    found = {name for name in row if name.startswith(RIGHT)}
    for column in sorted(wanted ^ found):
        what = "is missing" if column in wanted else "is of no field of this study"
        raise RecordError(
            f"{path}: column {column} {what}. Fill in cells only, and leave the first row as it"
            " was; `snakemake review_sheet` writes a new sheet where this one is moved away."
        )


def _check_row(
    path: Path, number: int, row: Mapping[str, str], study: Study, first: int
) -> None:
    """Raise `RecordError` for a row that is not one of the sheet's, or half filled in."""
    if row["study"] != study.name:
        raise RecordError(
            f"{path}, row {number}, column study: is '{row['study'][:40]}', but this is the sheet"
            f" of {study.name}. Undo the change."
        )
    if first != number:
        raise RecordError(f"{path}, row {number}: is row {first} once more. Delete one of them.")
    corrected = next((name for name in row if name.startswith(RIGHT) and row[name]), None)
    if corrected is not None and not row[CHECKED]:
        raise RecordError(
            f"{path}, row {number}, column {CHECKED}: is empty, but {corrected} is filled in. Write"
            " anything into it once you have looked at the whole answer."
        )


def _said(
    path: Path, number: int, row: Mapping[str, str], forms: Iterable[FieldForm]
) -> dict[str, str]:
    """What a person says is right, by field. Raises `RecordError` for what no answer can be."""
    found = {}
    for form in forms:
        column = f"{RIGHT}{form.name}"
        text = row[column].lstrip("'").strip()
        if not text:
            continue
        if text.casefold() == NONE:
            found[form.name] = ""
            continue
        value, allowed = _value(text, form)
        if value is None:
            raise RecordError(
                f"{path}, row {number}, column {column}: is {text[:40]!r}, but must be {allowed},"
                f" or `{NONE}` where the answer gives nothing. Empty: it was read rightly."
            )
        found[form.name] = value
    return found


def _value(text: str, form: FieldForm) -> tuple[str | None, str]:
    """A value as tables hold it, None for one that cannot be, and what can."""
    if form.allowed is not None:
        named = {_plain(str(one)): str(one) for one in form.allowed}
        return named.get(_plain(text)), "one of " + ", ".join(map(str, form.allowed))
    if form.type == "text":
        return text, "a text"
    ends = [form.minimum, form.maximum]
    within = "" if None in ends else f" from {form.minimum:g} to {form.maximum:g}"
    words = ("a whole number" if form.type == "integer" else "a number") + within
    try:
        number = float(text.rstrip("% ").replace(",", "."))
    except ValueError:
        return None, words
    low = -math.inf if form.minimum is None else form.minimum
    high = math.inf if form.maximum is None else form.maximum
    whole = form.type != "integer" or number.is_integer()
    fits = math.isfinite(number) and low <= number <= high and whole
    return (repr(number) if fits else None), words


def current_rows(study: str, rows: Iterable[Mapping[str, str]]) -> CurrentRows:
    """Rows of structured tables by what identifies them on a sheet."""
    return {
        tuple({**row, "study": study}[column] for column in IDENTITY_COLUMNS): row for row in rows
    }


def write_agreements(path: Path, found: Iterable[ReviewAgreement]) -> None:
    """Write a table of `COLUMNS`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(one.cells() for one in found)
