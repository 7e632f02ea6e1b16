"""The jobs of a run as a person thinks of them: model, replication and stage, and why they run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap

#: Stages in their order, each with its steps; a step that is in none belongs to the last.
STAGES = {
    "plan": ("plan",),
    "experiment 1": ("generate",),
    "experiment 2": ("score",),
    "training": (
        "instructions", "answers", "judge", "sample", "select", "sft", "candidates", "judge_pairs",
        "pairs", "dpo", "online_candidates", "online_judge", "online_pairs", "online_dpo",
        "evaluate",
    ),
    "tables": (),
}  # fmt: skip
LAST = "tables"
#: Row of the jobs that belong to no model.
OF_ALL = "all models"
#: Reasons, and steps of one reason, that are listed; more are counted.
MOST_REASONS, MOST_STEPS = 12, 4
_STAGE_OF = {step: stage for stage, steps in STAGES.items() for step in steps}
#: What a table's row is of: a model or recipe and, where rows are not of whole models, which one.
Row = tuple[str, str]


@dataclass(frozen=True)
class PlannedJob:
    """A job that a run needs.

    Attributes:
        jobid: Snakemake's number.
        step: The step's name (`grace.steps`), or the rule's where it is somebody else's.
        of: The model or recipe that it belongs to; None for all of them.
        which: Its replication, or a recipe's training seed or evaluated model; "" for none.
        study: The study, where it is of one.
        round: Of its online rounds the number, "" for a job of none.
        recipe: Whether it trains, or evaluates what was trained.
        speaks: Whether somebody asks for it to read what it logs, as of a check.
        message: What it is going to do, as its rule says it.
        reason: Why it runs, in words; "" if only because others run before it.
    """

    jobid: int
    step: str
    of: str | None = None
    which: str = ""
    study: str | None = None
    round: str = ""
    recipe: bool = False
    speaks: bool = False
    message: str = ""
    reason: str = ""

    @property
    def what(self) -> str:
        """Such as "score study1 of pico, replication 0"."""
        named = " ".join(part for part in (self.step, self.study) if part)
        if self.of is None:
            return named
        found = f"{named} of {self.of}" + (f", {self.counts} {self.which}" if self.which else "")
        return found + (f", round {self.round}" if self.round else "")

    @property
    def counts(self) -> str:
        """What `which` is of."""
        if not self.which.isdigit():
            return "model"  # `base`, or a checkpoint
        return "seed" if self.recipe else "replication"

    @property
    def stage(self) -> str:
        """A key of `STAGES`."""
        return _STAGE_OF.get(self.step, LAST)

    @property
    def row(self) -> Row:
        """Its row in a table that has one for each replication."""
        return (OF_ALL, "") if self.of is None else (self.of, self.which)


def plural(number: int, noun: str) -> str:
    """Such as "1 job" and "1,200 jobs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def counted(jobs: Sequence[PlannedJob]) -> list[str]:
    """Lines of a table: how many jobs each model and replication has at each stage.

    Replications of a model that have the same jobs share a line.
    """
    counts: dict[Row, Counter[str]] = {}
    for job in jobs:
        counts.setdefault(job.row, Counter())[job.stage] += 1
    shared: dict[tuple[str, tuple[tuple[str, int], ...]], list[str]] = {}
    for (of, which), stages in sorted(counts.items(), key=lambda item: _order(item[0])):
        shared.setdefault((of, tuple(sorted(stages.items()))), []).append(which)
    used = [stage for stage in STAGES if any(stage in stages for stages in counts.values())]
    rows = [["model", "replication", *used]]
    for (of, same), named in shared.items():
        found = dict(same)
        cells = [f"{len(named) * found[name]:,}" if name in found else "" for name in used]
        rows.append([of, ranges(named), *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _order(row: Row) -> tuple[bool, list[tuple[int, str]], list[tuple[int, str]]]:
    of, which = row
    return of == OF_ALL, _numbers_by_value(of), _numbers_by_value(which)


def _numbers_by_value(name: str) -> list[tuple[int, str]]:
    """So that "m2" comes before "m10"."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)]


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows by name and number, that of all models last."""
    return sorted(rows, key=_order)


def ranges(names: Sequence[str]) -> str:
    """Numbers that follow each other as "0-4"; anything else as it is, such as "0, 2-4"."""
    parts: list[list[str]] = []
    for name in names:
        follows = parts and name.isdigit() and parts[-1][-1].isdigit()
        if follows and int(name) == int(parts[-1][-1]) + 1:
            parts[-1].append(name)
        else:
            parts.append([name])
    return ", ".join(one[0] if len(one) == 1 else f"{one[0]}-{one[-1]}" for one in parts)


def why(jobs: Sequence[PlannedJob], width: int) -> list[str]:
    """Lines that say why the jobs run: each reason once, with the jobs that have it."""
    reasons: dict[str, Counter[str]] = {}
    studies: dict[tuple[str, str], set[str | None]] = {}
    for job in jobs:
        reasons.setdefault(job.reason, Counter())[job.step] += 1
        studies.setdefault((job.reason, job.step), set()).add(job.study)
    for (reason, step), of in studies.items():  # named where it is one
        if len(of) == 1 and (study := next(iter(of))):
            reasons[reason][f"{step} {study}"] = reasons[reason].pop(step)
    followers = reasons.pop("", Counter[str]())
    by_size = sorted(reasons.items(), key=lambda item: -item[1].total())
    lines = [_reason(words, steps) for words, steps in by_size[:MOST_REASONS]]
    if more := by_size[MOST_REASONS:]:
        total = sum(steps.total() for _, steps in more)
        lines.append(f"{plural(len(more), 'further reason')}: {plural(total, 'job')}")
    if followers:
        lines.append(_reason("their inputs come from jobs of this run", followers))
    return [
        text
        for line in lines
        for text in wrap(
            line, width=max(40, width), initial_indent="  ", subsequent_indent="    ",
            break_long_words=False, break_on_hyphens=False,
        )
    ]  # fmt: skip


def _reason(words: str, steps: Counter[str]) -> str:
    named = [f"{step} {number:,}" for step, number in steps.most_common(MOST_STEPS)]
    if len(steps) > MOST_STEPS:
        named.append(f"{sum(sorted(steps.values())[:-MOST_STEPS]):,} others")
    if steps.total() == 1:
        return f"{words}: {next(iter(steps))}"
    return f"{words}: {plural(steps.total(), 'job')} ({', '.join(named)})"
