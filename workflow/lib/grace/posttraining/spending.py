"""What the steps of recipes take: noted while they compute, held against the budget before it.

A step counts from the moment at which it needs a model: the seconds of its process by the clock,
times its GPUs. What the journal answers, or a training that is found done, costs nothing. The notes
lie in `journal_dir/costs`, a file for each try, written every `BEAT_S` seconds: a try that is
killed or fails has been paid for, too, and results that are deleted give no money back. Between
steps a machine may be paid for and idle; that is not counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

from grace.digests import digest
from grace.errors import BudgetError, GraceError, JournalError
from grace.forecast.recipe_steps import (
    SECONDS_AN_HOUR,
    RecipeSite,
    arithmetic,
    estimate,
    kind_of,
    money,
)
from grace.posttraining.budget import RecipeBudget
from grace.provenance import environment
from grace.results.records import read_json, write_json

#: The folder of the notes, in `journal_dir`.
FOLDER = "costs"
BEAT_S = 30.0
#: Least seconds of work, and least share of a step's answers, that say how fast the next will be.
LEAST_S, LEAST_SHARE = 0.5, 0.5


@dataclass(frozen=True)
class Try:
    """One process that computed for a step.

    Attributes:
        seconds: By the clock, as far as it was noted.
        on: What computed, as forecasts name it, such as `1 x a100` or `4 cores`.
        price: Of an hour of one GPU, as it was then; None where nobody said one.
        done: The step ended well.
        beat: When it was noted last, in seconds since 1970, and 0 once it has ended.
        forecast_s: What was forecast of it beforehand; None where it was not known.
        start_s, work_s: What the arithmetic says of it afterwards; None where it says nothing of
            the next.
    """

    recipe: str
    step: str
    seed: int | None
    started: str
    seconds: float
    gpus: int
    on: str
    price: float | None
    done: bool
    beat: float = 0.0
    forecast_s: float | None = None
    start_s: float | None = None
    work_s: float | None = None

    @property
    def gpu_hours(self) -> float:
        return self.seconds * self.gpus / SECONDS_AN_HOUR

    @property
    def usd(self) -> float | None:
        return money(self.gpu_hours, self.price)


def ledger_of(journal_dir: str, results: str, recipe: str) -> str:
    """The folder of the tries of a recipe of a folder of results."""
    return str(Path(journal_dir) / FOLDER / f"{recipe}-{digest(results)[:8]}")


def read_ledger(folder: str) -> list[Try]:
    """All tries of a recipe, in their order. What is no try is left out."""
    found = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            values = read_json(path)
            one = Try(**values)
            if one.seconds >= 0 and one.gpus >= 0:
                found.append(one)
        except (GraceError, OSError, TypeError, ValueError):
            continue
    return sorted(found, key=lambda one: one.started)


def spent_in(tries: Iterable[Try]) -> tuple[float, float | None]:
    """GPU-hours and money of them; None where one has no price."""
    known = list(tries)
    costs = [one.usd for one in known]
    usd = None if None in costs else sum(cost or 0.0 for cost in costs)
    return sum(one.gpu_hours for one in known), usd


def taken_up(tries: Iterable[Try], now: float) -> tuple[float, float | None]:
    """As `spent_in`, but of those under way now at least what was forecast of them."""
    return spent_in(
        replace(one, seconds=max(one.seconds, one.forecast_s or 0.0))
        if now - one.beat < 3 * BEAT_S
        else one
        for one in tries
    )


def ratios(ledger: str, on: Collection[str]) -> dict[str, tuple[float, int]]:
    """By how much past work took longer than the arithmetic says, by kind of step, and how many.

    The recipe's own steps on this hardware where there are any, else those of other recipes.
    """
    own = read_ledger(ledger)
    folder = Path(ledger).parent
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    others = [one for path in paths if str(path) != ledger for one in read_ledger(str(path))]
    found: dict[str, tuple[float, int]] = {}
    for tries in (others, own):
        by_kind: dict[str, list[float]] = {}
        for one in tries:
            if one.on in on and one.done and one.work_s and one.start_s is not None:
                worked = one.seconds - one.start_s
                if worked >= LEAST_S:
                    by_kind.setdefault(kind_of(one.step), []).append(worked / one.work_s)
        found |= {kind: (median(each), len(each)) for kind, each in by_kind.items()}
    return found


class Spending:
    """A step that may cost something; a context manager around its work.

    `begin` is called when it is about to compute, and raises `BudgetError` where that is beyond the
    recipe's budget: then nothing was started. `settings` are the rule's; without `spending` in them
    nothing is noted.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        values = settings.get("spending")
        self._values = values
        self._began: float | None = None
        self._over = threading.Event()
        self._beating: threading.Thread | None = None
        self._share = 1.0
        if values is not None:
            self._site = RecipeSite.load(values["site"])
            self._budget = RecipeBudget(**values["budget"])
            self._ledger = str(values["ledger"])
            self._step, self._seed = str(values["step"]), values["seed"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._began is None:
            return
        self._end_beating()
        self._note(done=kind is None, ended=True)

    def begin(self) -> None:
        """Hold the step against the budget, and begin to count; once."""
        if self._values is None or self._began is not None:
            return
        tries = read_ledger(self._ledger)
        found = estimate(self._site, self._step, self._seed)
        self._forecast = found.seconds
        self._on = found.on
        left = max(0.0, (found.seconds or 0.0) - tried_s(tries, self._step, self._seed))
        hours = left * found.gpus / SECONDS_AN_HOUR
        spent, usd = taken_up(tries, time.time())
        over = self._budget.exceeded(spent, usd, hours, money(hours, found.price))
        if over is not None:
            which = self._step if self._seed is None else f"{self._step} of seed {self._seed}"
            raise BudgetError(
                f"recipe '{self._site.recipe}': {which} would be beyond its budget: {over}. It was"
                " not started, and all that is finished is kept. Raise `budget` in"
                " config/recipes.yaml and run the same command again, or stop here."
            )
        self._began, self._started = time.monotonic(), environment.now()
        self._file = Path(self._ledger) / (
            f"{self._step}-{'all' if self._seed is None else self._seed}-"
            f"{digest([self._started, os.getpid(), os.uname().nodename])[:12]}.json"
        )
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._note(done=False)
        except OSError as error:
            raise JournalError(
                f"{self._file.parent}: what steps take cannot be noted ({error.strerror})."
            ) from None
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    def asked(self, share: float) -> None:
        """Of its answers this share is its own, and not the journal's."""
        self._share = share

    def found_done(self) -> None:
        """Nothing was computed after all."""
        if self._began is None:
            return
        self._end_beating()
        self._began = None
        self._file.unlink(missing_ok=True)

    def _end_beating(self) -> None:
        self._over.set()
        if self._beating is not None:
            self._beating.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            # A note that cannot be written is made up for by the next.
            with suppress(OSError, GraceError):
                self._note(done=False)

    def _note(self, *, done: bool, ended: bool = False) -> None:
        assert self._began is not None
        said = None
        if done and self._share >= LEAST_SHARE:
            said = arithmetic(self._site, self._step, self._seed)
        one = Try(
            recipe=self._site.recipe,
            step=self._step,
            seed=self._seed,
            started=self._started,
            seconds=round(time.monotonic() - self._began, 3),
            gpus=self._site.gpus(self._step),
            on=self._on,
            price=self._site.price,
            done=done,
            beat=0.0 if ended else time.time(),
            forecast_s=self._forecast,
            start_s=said[0] if said else None,
            work_s=said[1] * self._share if said else None,
        )
        write_json(self._file, vars(one))


def tried_s(tries: Sequence[Try], step: str, seed: int | None) -> float:
    """Seconds of tries of a step that did not end well, since one that did.

    What they answered or trained is kept, so that less is left to do.
    """
    seconds = 0.0
    for one in tries:
        if (one.step, one.seed) == (step, seed):
            seconds = 0.0 if one.done else seconds + one.seconds
    return seconds
