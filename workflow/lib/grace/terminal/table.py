"""The table of a running workflow, as rich draws it; imported only where a terminal can show it.

Names of models are text from outside, which `Text` never reads as markup.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from grace.terminal.plan import OF_ALL, STAGES, Row, in_order
from grace.terminal.progress import Progress, StageCount, TimeLeft, clock, left_in_words

#: Lines of the terminal that are not the table's rows, and jobs at work that are named.
_AROUND, MOST_NAMED = 9, 3


def table(
    progress: Progress, now: float, height: int, far: Mapping[int, int], left: TimeLeft | None
) -> RenderableType:
    """The state of a run.

    Args:
        progress: The state.
        now: Seconds since the run began; the clock of `progress`.
        height: Lines of the terminal.
        far: Per cent that running jobs say of themselves, by their numbers.
        left: Time until the run is done.
    """
    room = max(3, height - _AROUND)
    rows, hidden = _rows(progress, room)
    used = [stage for stage in STAGES if any(stage in cells for _, _, cells in rows)]
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    grid.add_column("model", overflow="ellipsis", no_wrap=True)
    grid.add_column("replication", justify="right", no_wrap=True)
    for stage in used:
        # Wide enough for what it shows later: columns that jump are hard to read.
        wide = len("done") if stage == "plan" else len("0/2, 45 %")
        grid.add_column(stage, justify="right", no_wrap=True, min_width=wide)
    for of, which, cells in rows:
        grid.add_row(Text(of), Text(which), *(_cell(cells.get(stage), far) for stage in used))
    lines: list[RenderableType] = [Text(), grid]
    if hidden:
        lines.append(Text(hidden, style="dim"))
    return Group(*lines, Text(), *_at_work(progress, now, far), _last_line(progress, now, left))


def _rows(
    progress: Progress, room: int
) -> tuple[list[tuple[str, str, dict[str, StageCount]]], str]:
    """What fits: a row for each replication, or each model, or of those at work alone."""
    cells = progress.cells
    if len(cells) <= room:
        return [(*row, cells[row]) for row in in_order(cells)], ""
    by_model: dict[str, list[Row]] = {}
    for row in in_order(cells):
        by_model.setdefault(row[0], []).append(row)
    found = []
    for of, rows in by_model.items():
        ready = sum(_ready(cells[row]) for row in rows)
        which = "" if of == OF_ALL else f"{ready:,} of {len(rows):,}"
        found.append((of, which, _summed([cells[row] for row in rows])))
    if len(found) <= room:
        return found, ""
    shown = sorted(found, key=lambda row: _rank(row[2]))[: room - 1]
    names = {of for of, _, _ in shown}
    others = [row for row in found if row[0] not in names]
    ready = sum(_ready(row[2]) for row in others)
    hidden = f"and {len(others):,} more models, of which {ready:,} are done"
    return [row for row in found if row[0] in names], hidden


def _summed(rows: list[dict[str, StageCount]]) -> dict[str, StageCount]:
    found: dict[str, StageCount] = {}
    for cells in rows:
        for stage, cell in cells.items():
            into = found.setdefault(stage, StageCount())
            into.total += cell.total
            into.done += cell.done
            into.failed += cell.failed
            into.running |= cell.running
    return found


def _ready(cells: dict[str, StageCount]) -> bool:
    return all(cell.done == cell.total for cell in cells.values())


def _rank(cells: dict[str, StageCount]) -> int:
    """Of what is shown where not all can be: what failed and what runs before what waits."""
    if any(cell.failed for cell in cells.values()):
        return 0
    if any(cell.running for cell in cells.values()):
        return 1
    return 3 if _ready(cells) else 2


def _cell(cell: StageCount | None, far: Mapping[int, int]) -> Text:
    if cell is None:
        return Text()
    if cell.done == cell.total:
        return Text("done" if cell.total < 100 else f"done {cell.total:,}", style="green")
    text = f"{cell.done:,}/{cell.total:,}"
    if cell.failed:
        return Text(f"{text}, {cell.failed:,} failed", style="red")
    if cell.running:
        percents = [far[job] for job in cell.running if job in far]
        inside = f", {percents[0]} %" if len(percents) == len(cell.running) == 1 else " …"
        return Text(f"{text}{inside}", style="cyan")
    return Text(text, style="dim" if cell.done == 0 else "")


def _at_work(progress: Progress, now: float, far: Mapping[int, int]) -> list[Text]:
    """The jobs that run, the first first."""
    running = sorted(progress.began.items(), key=lambda item: item[1])
    lines = []
    for jobid, began in running[:MOST_NAMED]:
        line = f"{progress.jobs[jobid].what}: "
        if jobid in far:
            line += f"{far[jobid]} %, "
        lines.append(Text(f"{line}{clock(now - began)}", overflow="ellipsis", no_wrap=True))
    if len(running) > MOST_NAMED:
        lines.append(Text(f"and {len(running) - MOST_NAMED:,} more jobs at work"))
    return lines


def _last_line(progress: Progress, now: float, left: TimeLeft | None) -> Text:
    parts = [f"{progress.done:,} of {progress.total:,} jobs done"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    parts.append(clock(now))
    if words := left_in_words(left):
        parts.append(words)
    return Text(", ".join(parts), style="bold")
