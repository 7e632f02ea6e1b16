"""How fast the trial browser is with many answers: a page made of a finished run, in Chromium.

    make run
    PYTHONPATH=scripts python -m bench.browsing results --answers 100000

The run's models are copied under other names until there are so many answers, with other numbers
and a dozen more words in each answer. Times are by the page's own clock, from a click (a change of
the address) until the table is drawn; CPU seconds are of its process, which other work on the
machine changes less. Each is taken on a page that has just been opened, and once more on it.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "workflow" / "lib")]

import psutil  # noqa: E402
from headless import Browser, browser  # noqa: E402

from grace.settings.project import Project  # noqa: E402
from grace.trial_browser.page import page  # noqa: E402
from grace.trial_browser.study_data import ReplicationFiles, StudyFiles, study_data  # noqa: E402

WORDS = ("letter", "cake", "guest", "poem", "the", "a", "door", "lamp", "river", "stone", "never")
EXPERIMENTS = {"exp1": "structured", "exp2": "probabilities"}


def copied(file: Path, target: Path, model: str, draw: random.Random) -> None:
    """A table or records under another model's name, with other numbers and longer answers."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".json":
        records = json.loads(file.read_text(encoding="utf-8"))
        for record in records:
            record["model_key"] = model
        target.write_text(json.dumps(records), encoding="utf-8")
        return
    with (
        file.open(encoding="utf-8", newline="") as source,
        target.open("w", encoding="utf-8", newline="") as copy,
    ):
        rows = csv.DictReader(source)
        writer = csv.DictWriter(copy, list(rows.fieldnames or ()))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _changed(cell, draw) for name, cell in row.items()} | {
                "model_key": model,
                **({"model_response": f"{row['model_response']} {_more(draw)}"}
                   if row.get("model_response") else {}),
            })  # fmt: skip


def _more(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=12))


def _changed(cell: str, draw: random.Random) -> str:
    """Another number, where it is one that is not whole."""
    try:
        return str(float(cell) * draw.uniform(0.5, 1.0)) if "." in cell else cell
    except ValueError:
        return cell


def many(results: Path, folder: Path, least: int) -> tuple[Path, int]:
    """A page of at least so many answers, of all studies of a finished run; and how many."""
    project = Project(ROOT, {"results": str(results)}, {})
    sources = [results / model / f"replication-{number}" for model, number in project.replications]
    studies = project.studies
    answers = sum(
        len(json.loads((source / f"{name}_exp1.json").read_text(encoding="utf-8")))
        for source in sources
        for name in studies
    )
    copies = -(-least // answers)
    draw = random.Random(1)
    found: dict[str, StudyFiles] = {}
    for name in studies:
        lists: dict[str, list[ReplicationFiles]] = {experiment: [] for experiment in EXPERIMENTS}
        for number in range(copies):
            for source in sources:
                model = f"{source.parent.name}-{number}"
                own = folder / model / source.name
                for experiment, kind in EXPERIMENTS.items():
                    files = [f"{name}_{kind}.csv", f"{name}_{experiment}.json"]
                    for file in files:
                        copied(source / file, own / file, model, draw)
                    lists[experiment].append(ReplicationFiles(*(own / file for file in files)))
        reference = results / "analysis-ready" / f"reference_{name}.csv"
        found[name] = StudyFiles(lists["exp1"], lists["exp2"], reference)
    path = folder / "trials.html"
    models = sorted(
        {source.table.parent.parent.name for one in found.values() for source in one.exp1}
    )
    data = (study_data(study, found[name]) for name, study in studies.items())
    with path.open("w", encoding="utf-8", newline="") as output:
        output.writelines(page(ROOT / "scripts", data, {}, models))
    return path, copies * answers


class Timed:
    """Chromium with a page, and the processes whose CPU time counts."""

    def __init__(self, opened: Browser, address: str) -> None:
        self._browser = opened
        self._address = address

    def cpu_s(self) -> float:
        """CPU seconds so far of all processes of the browser."""
        total = 0.0
        for process in psutil.Process().children(recursive=True):
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total

    def open(self, study: str) -> float:
        """Milliseconds until the table of a study is there."""
        self._browser.open(f"{self._address}#{study}")
        return float(self._browser.js("Number(document.documentElement.dataset.opened)"))

    def go(self, place: str) -> tuple[float, float]:
        """Milliseconds by the clock, and of CPU, until an address is shown."""
        before = self.cpu_s()
        took = self._browser.js(
            "new Promise((done) => { const start = performance.now();"
            " document.addEventListener('shown', () => requestAnimationFrame(() => setTimeout(() =>"
            " done(performance.now() - start))), {once: true});"
            f" location.hash = {json.dumps(place)}; }})"
        )
        return float(took), 1000 * (self.cpu_s() - before)


def actions(study: str, columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """What a person does, each with two addresses: the first time, and once more."""
    found = {
        "search a word": ("?q=letter", "?q=cake"),
        "search a phrase": ('?q="the poem"', '?q="a river"'),
        "search two words": ("?q=letter%20stone", "?q=lamp%20door"),
        "filter a model": ("?f=model_key~is~pico-1", "?f=model_key~is~pico-2"),
        "filter flags": ("?f=quality_flags~filled~", "?f=quality_flags~empty~"),
    }
    for name in columns:
        found[f"filter {name}"] = (f"?f={name}~filled~", f"?f={name}~empty~")
        found[f"sort by {name}"] = (f"?sort={name}", f"?sort={name}:desc")
    return {name: (f"#{study}{one}", f"#{study}{two}") for name, (one, two) in found.items()}


def measured(path: Path, study: str, delay_s: float, only: str) -> Iterable[dict[str, Any]]:
    """Every action on a page opened so many seconds before, and at once again."""
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile) / "p") as opened:
        opened.size(1400, 900)
        timed = Timed(opened, path.as_uri())
        opening = [timed.open(study) for _ in range(3)]
        yield {"action": "open", "first_ms": max(opening), "again_ms": min(opening)}
        names = opened.js("[...document.querySelectorAll('#columns label')].map("
                          "(one) => one.querySelector('input').dataset.column)")  # fmt: skip
        for action, (first, again) in actions(study, names).items():
            if only not in action:
                continue
            timed.open(study)
            time.sleep(delay_s)
            once, more = timed.go(first), timed.go(again)
            yield {
                "action": action, "first_ms": once[0], "first_cpu_ms": once[1],
                "again_ms": more[0], "again_cpu_ms": more[1],
            }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--page", type=Path, help="a page that is made already")
    parser.add_argument("--study", default="study1")
    parser.add_argument("--delay", type=float, default=1.0, help="seconds before the first click")
    parser.add_argument("--only", default="", help="actions with this in their name")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = given.page
        if path is None or not path.exists():
            made, answers = many(given.results, Path(folder), given.answers)
            print(f"{answers:,} answers, {made.stat().st_size / 1e6:.1f} MB")
            if path is not None:
                shutil.move(made, path)
            path = path or made
        print(f"{'action':44}{'first ms':>10}{'CPU':>8}{'again':>8}{'CPU':>8}")
        for row in measured(path.absolute(), given.study, given.delay, given.only):
            keys = ("first_ms", "first_cpu_ms", "again_ms", "again_cpu_ms")
            shown = [f"{row[key]:.0f}" if key in row else "" for key in keys]
            print(f"{row['action']:44}{shown[0]:>10}{shown[1]:>8}{shown[2]:>8}{shown[3]:>8}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
