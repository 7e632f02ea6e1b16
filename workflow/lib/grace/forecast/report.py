"""What `snakemake forecast` says of hours, money and storage, in words and tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from grace.cluster.plan import pod_plan
from grace.cluster.plan.placement import adapter_gib
from grace.cluster.plan.policy import number
from grace.cluster.plan.policy_report import columns
from grace.cluster.plan.timeouts import AROUND_MIN
from grace.forecast.actual import Comparison, table
from grace.forecast.estimate import ANSWER_TOKENS, Forecaster
from grace.forecast.job_estimates import ReplicationEstimate
from grace.forecast.model_size import model_size
from grace.forecast.reading import reading_seconds
from grace.forecast.storage import Storage, model_storage
from grace.forecast.workload import LEFT_OPEN
from grace.settings.config import ModelEntry
from grace.settings.project import Project

#: Labels of the jobs of a run that ask models, by model and replication.
AskingJobs = Mapping[str, Mapping[int, Collection[str]]]


@dataclass(frozen=True)
class ModelForecast:
    """A model's replications, all that are to run.

    Attributes:
        estimate: Of one replication on its first tag; None where it is not known, which `why` says.
        each: Seconds of each replication, in their order; empty where they are not known.
        at_once: Replications that run at a time.
        price: Of an hour of one GPU; None where the cluster names none.
        weights: Bytes of the model's weights and its adapter; None where they are not known.
    """

    model: str
    replications: int
    estimate: ReplicationEstimate | None
    each: tuple[float, ...]
    why: str
    at_once: int
    price: float | None
    storage: Storage
    weights: float | None

    @property
    def hours(self) -> tuple[float, ...]:
        """Of each replication."""
        around = AROUND_MIN * 60 if self.estimate and self.estimate.gpus else 0.0
        return tuple((seconds + around) / 3600 for seconds in self.each)

    @property
    def elapsed(self) -> float | None:
        """Hours by the clock, once its pods have nodes."""
        if self.estimate is None:
            return None
        rounds = range(0, len(self.hours), self.at_once)
        return sum(max(self.hours[start : start + self.at_once]) for start in rounds)

    @property
    def gpu_hours(self) -> float | None:
        return None if self.estimate is None else sum(self.hours) * self.estimate.gpus

    @property
    def cost(self) -> float | None:
        if self.price is None or self.gpu_hours is None:
            return None
        return self.price * self.gpu_hours


def model_forecasts(
    project: Project, found: Forecaster, jobs: AskingJobs | None = None
) -> list[ModelForecast]:
    """One for each model of the run, on its first tag; of these `jobs` alone, if they are given."""
    forecasts = []
    for model, allowed in project.placements.items():
        if jobs is not None and model not in jobs:
            continue
        first = next(iter(allowed), None)
        estimate = found.replication(model, first)
        # On one machine jobs that ask a model run one after the other.
        at_once = pod_plan.at_once(project, model, first) if first else 1
        each: tuple[float, ...] = ()
        if estimate is not None:
            all_of_it = {job.label for job in estimate.jobs}
            indices = project.config.replication_indices
            asked = dict.fromkeys(indices, all_of_it) if jobs is None else jobs[model]
            each = tuple(_seconds(estimate, asked, at_once, len(indices)))
        size = model_size(project.entries[model], first, project.root)
        forecasts.append(
            ModelForecast(
                model,
                len(project.config.replication_indices if jobs is None else jobs[model]),
                estimate,
                each,
                "" if estimate else found.why_unknown(model, first),
                at_once,
                project.cluster.gpus[first.tag].price_per_hour if first else None,
                model_storage(project, model, found.asked),
                _on_disk(project.entries[model], size.weights_bytes) if size else None,
            )
        )
    return forecasts


def _seconds(
    estimate: ReplicationEstimate, asked: Mapping[int, Collection[str]], at_once: int, of: int
) -> Iterator[float]:
    """Seconds of each replication, of which there are `of`, as far as they are `asked`.

    Distributions are measured by those that start first, and by none where one has them already;
    the others find them in the journal.
    """
    there = {
        job.label
        for job in estimate.jobs
        if job.kept and sum(job.label in labels for labels in asked.values()) < of
    }
    for place, labels in enumerate(asked.values()):
        later = {job.label for job in estimate.jobs if job.kept} if place >= at_once else set()
        yield estimate.taking(labels, there | later)


def _on_disk(entry: ModelEntry, weights_bytes: float) -> float:
    """Bytes of a base and of the adapter on it, if there is one."""
    return weights_bytes + adapter_gib(entry, weights_bytes / 2**30) * 2**30


def text(project: Project, found: Forecaster, compared: Sequence[Comparison] = ()) -> str:
    """Hours, money and storage, and how sure that is; then what past jobs took."""
    rows = model_forecasts(project, found)
    parts = [
        f"Hours and storage, on each model's first tag of the cluster '{project.config.cluster}' or"
        " on this machine's cores:",
        columns(_model_lines(rows), left=2),
        _totals(project, rows),
        "What that is made of, a job each, in one replication:",
        columns(_job_lines(rows), left=3),
        _notes(rows),
        *_extraction(project, found),
    ]
    unknown = [f"{row.model}: its hours are not known, as {row.why}." for row in rows if row.why]
    if unknown:
        parts.append("\n".join(unknown))
    if compared:
        parts += [
            "Forecast against actual, of jobs that asked all of it themselves. `calibrated` is held"
            " to all jobs but the line's own:",
            columns(table(compared), left=2),
        ]
    return "\n\n".join(parts)


def _extraction(project: Project, found: Forecaster) -> list[str]:
    """What the reading of raw answers asks of the model that reads them, if one does."""
    if not project.extraction.asks_model:
        return []
    works = [
        found.reading(model, study)
        for model in project.models
        for study, experiments in project.asked.items()
        if "exp1" in experiments
    ]
    times = len(project.config.replication_indices)
    requests, read = (
        times * sum(getattr(work, name) for work in works) for name in ("requests", "read_tokens")
    )
    new = times * sum(work.new_tokens for work in works)
    if project.reader is None:
        where = "by a server as fast as public services promise"
        took: list[float | None] = [found.reading_seconds(work) for work in works]
    else:
        placement = next(iter(project.reader.placements), None)
        where = f"by {project.reader.key}, {placement.tag if placement else 'on cores'}"
        took = [reading_seconds(project, model, placement) for model in project.models]
    known = [one for one in took if one is not None]
    hours = f"~{_hours(times * sum(known) / 3600)}" if len(known) == len(took) else "unknown"
    some = project.extraction.method == "rules-then-model"
    price = project.extraction.price if project.extraction.asks_api else None
    cost = "" if price is None else f", {price.cost(read, new):,.2f} at `price`"
    return [
        f"Reading answers ({project.extraction.method}): ~{requests:,} requests,"
        f" ~{read:,} tokens read and ~{new:,.0f} sampled, {hours} hours {where}{cost}, beside"
        " the above. Further tries are not counted"
        + (f"; that rules leave {LEFT_OPEN:.0%} of answers open is assumed." if some else ".")
    ]


def brief(project: Project, rows: Sequence[ModelForecast]) -> list[str]:
    """A line for each model, and one for all of them."""
    lines = []
    for row in rows:
        runs = f"{row.replications} replication{'s' if row.replications > 1 else ''}"
        if row.estimate is None:
            lines.append(f"{row.model}: {runs}; hours are not known, as {row.why}")
            continue
        cost = "" if row.cost is None else f", {row.cost:,.2f} at `price_per_hour`"
        gpu_hours = f", {_hours(row.gpu_hours)} GPU-hours" if row.gpu_hours else ""
        stored = row.storage.results * row.replications + row.storage.journal(row.replications)
        jobs = row.estimate.jobs
        sure = "" if all(job.calibration.jobs for job in jobs) else ", not calibrated"
        lines.append(
            f"{row.model}: {runs} in {_hours(row.elapsed)} hours on {row.estimate.on}{gpu_hours}"
            f"{cost}, {_gigabytes(stored)} GB{sure}"
        )
    reading = ["Answers are read by a model, too: see `snakemake forecast`."]
    return [*lines, _totals(project, rows), *(reading if project.extraction.asks_model else [])]


def _model_lines(rows: Sequence[ModelForecast]) -> list[tuple[str, ...]]:
    head = ("model", "on", "replications", "at once", "hours first", "hours", "GPU-hours")
    priced = any(row.cost is not None for row in rows)
    lines = [(*head, *(("cost",) if priced else ()), "results GB", "journal GB", "weights GB")]
    for row in rows:
        cost = ("-" if row.cost is None else f"{row.cost:,.2f}",) if priced else ()
        gpu_hours = row.gpu_hours if row.estimate is None or row.estimate.gpus else 0
        lines.append(
            (
                row.model,
                row.estimate.on if row.estimate else "?",
                str(row.replications),
                str(row.at_once),
                _hours(row.hours[0] if row.hours else None),
                _hours(row.elapsed),
                "-" if gpu_hours == 0 else _hours(gpu_hours),
                *cost,
                _gigabytes(row.storage.results * row.replications),
                _gigabytes(row.storage.journal(row.replications)),
                "?" if row.weights is None else _gigabytes(row.weights),
            )
        )
    return lines


def _job_lines(rows: Sequence[ModelForecast]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = [
        ("model", "job", "calibrated by", "requests", "tokens read", "tokens sampled", "minutes")
    ]
    for row in rows:
        for job in row.estimate.jobs if row.estimate else ():
            mark = "~" if job.work.estimated else ""
            new = "-"
            if job.experiment == "exp1":
                new = f"{'' if job.measured else '~'}{job.work.new_tokens:,.0f}"
            lines.append(
                (
                    job.model,
                    job.label,
                    job.calibration.text,
                    f"{job.work.requests:,}",
                    f"{mark}{job.work.read_tokens:,}",
                    new,
                    number(job.seconds / 60),
                )
            )
        if row.estimate and row.estimate.start_s:
            start = number(row.estimate.start_s / 60)
            lines.append((row.model, "start of the server", "not calibrated", "", "", "", start))
    return lines


def _totals(project: Project, rows: Sequence[ModelForecast]) -> str:
    known = [row for row in rows if row.estimate is not None]
    gpu_hours = sum(row.gpu_hours or 0 for row in known)
    elapsed = [row.elapsed or 0 for row in known]
    in_turn = project.cluster.models_in_sequence
    clock = sum(elapsed) if in_turn else max(elapsed, default=0)
    how = "one model after the other" if in_turn else "all models side by side"
    line = f"In all {_hours(clock)} hours by the clock, {how}, once pods have their nodes"
    if gpu_hours:
        line += f"; {number(gpu_hours)} GPU-hours"
        most = project.cluster.policy.max_gpu_hours
        line += f" of a budget of {number(most)}" if most is not None else ""
    costs = [row.cost for row in known if row.cost is not None]
    if costs:
        line += f"; {sum(costs):,.2f} at `price_per_hour`"
    results = sum(row.storage.results * row.replications for row in rows)
    journal = sum(row.storage.journal(row.replications) for row in rows)
    weights = sum(row.weights or 0 for row in rows)
    return (
        f"{line}. Storage: {_gigabytes(results)} GB of results, {_gigabytes(journal)} GB of"
        f" journal, {_gigabytes(weights)} GB of weights."
    )


def _notes(rows: Sequence[ModelForecast]) -> str:
    jobs = [job for row in rows if row.estimate for job in row.estimate.jobs]
    lines = []
    if any(job.work.estimated for job in jobs):
        lines.append(
            "~ before tokens read: the model's tokeniser is not on this machine; estimated."
        )
    if any(job.experiment == "exp1" and not job.measured for job in jobs):
        lines.append(
            f"~ before tokens sampled: no answer is known yet; {ANSWER_TOKENS} tokens each are"
            " assumed, of models that reason as many as they may."
        )
    if any(not job.calibration.jobs for job in jobs):
        lines.append(
            "Not calibrated: arithmetic alone, which may be off by a factor of two or more; a run"
            " with `limit` on the same hardware calibrates it."
        )
    return "\n".join(lines) or "All of it is held to past jobs."


def _hours(value: float | None) -> str:
    return "?" if value is None else number(value)


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:,.3g}"
