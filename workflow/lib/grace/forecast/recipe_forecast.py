"""What the recipes of a run are to take: hours and money of every step, and their budgets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grace.cluster.plan.policy import number
from grace.cluster.plan.policy_report import columns
from grace.cluster.plan.sizes import CPU_CORES
from grace.errors import BudgetError
from grace.forecast import trainings
from grace.forecast.recipe_site import site_of
from grace.forecast.recipe_steps import (
    EVALUATE,
    SHARED,
    StepEstimate,
    estimate,
    evaluations,
    rule_of,
    seeded,
    shares_server,
)
from grace.models.adapter_record import RECORD
from grace.posttraining.budget import RecipeBudget, budget_of
from grace.posttraining.checkpoints import DPO, SFT, TRAINS, online, pairs_folder, stages_of
from grace.posttraining.recipe_runs import RecipeRun
from grace.posttraining.spending import ledger_of, read_ledger, spent_in
from grace.settings.project import Project

#: A job of a recipe: its recipe, its step, and its training seed if it has one.
RecipeJob = tuple[str, str, int | None]


@dataclass(frozen=True)
class RecipeForecast:
    """A recipe's steps that are to be done, its budget, and what it has cost so far."""

    recipe: str
    budget: RecipeBudget
    steps: tuple[StepEstimate, ...]
    why: str
    spent_gpu_hours: float
    spent_usd: float | None

    @property
    def known(self) -> bool:
        return all(step.seconds is not None for step in self.steps)

    @property
    def hours(self) -> float:
        return sum(step.seconds or 0.0 for step in self.steps) / 3600

    @property
    def gpu_hours(self) -> float:
        return sum(step.gpu_hours or 0.0 for step in self.steps)

    @property
    def usd(self) -> float | None:
        """Money; None where an hour has no price."""
        each = [step.usd for step in self.steps]
        return None if None in each else sum(one or 0.0 for one in each)

    def over(self) -> str | None:
        """How the budget would be exceeded; None where it is not."""
        return self.budget.exceeded(self.spent_gpu_hours, self.spent_usd, self.gpu_hours, self.usd)


def jobs_of(project: Project) -> list[RecipeJob]:
    """All jobs of the recipes of a run that take time, whether they are done or not."""
    found: list[RecipeJob] = []
    for name, run in project.trainings.items():
        found += [(name, step, None) for step in SHARED]
        for seed in run.seeds:
            stages = run.needed(project.checkpoints_wanted, seed)
            found += [(name, step, seed) for step in seeded(stages)]
        found += [
            (name, step, None) for step in evaluations(run.evaluated(project.checkpoints_wanted))
        ]
    return found


def recipe_forecasts(
    project: Project, jobs: Collection[RecipeJob], cores: int = CPU_CORES
) -> list[RecipeForecast]:
    """A forecast for each recipe with jobs."""
    found = []
    for name, run in project.trainings.items():
        order = _order(project, run)
        own = [(step, seed) for recipe, step, seed in jobs if recipe == name]
        ordered = sorted((one for one in own if one in order), key=order.index)
        if not ordered:
            continue
        site = site_of(project, run, cores)
        steps = tuple(
            estimate(site, step, seed, starts=(shares_server(step), seed) not in ordered)
            for step, seed in ordered
        )
        spent = read_ledger(ledger_of(project.config.journal_dir, project.config.results, name))
        hours, usd = spent_in(spent)
        found.append(RecipeForecast(name, budget_of(run.recipe), steps, site.why, hours, usd))
    return found


def _order(project: Project, run: RecipeRun) -> list[tuple[str, int | None]]:
    return [
        *((step, None) for step in SHARED),
        *((step, seed) for seed in run.seeds for step in seeded(stages_of(run.recipe))),
        *((step, None) for step in evaluations(run.evaluated(project.checkpoints_wanted))),
    ]


def undone(project: Project) -> list[RecipeJob]:
    """Those of `jobs_of` whose files are not there; what is stale is not looked for."""
    return [
        job
        for job in jobs_of(project)
        if not Path(_output(project.trainings[job[0]], job)).exists()
    ]


def _output(run: RecipeRun, job: RecipeJob) -> str:
    """The last file that a job writes."""
    _, step, seed = job
    if step.startswith(EVALUATE):
        return f"{run.folder}/evaluation/{step.removeprefix(EVALUATE).strip()}.json"
    if seed is None:
        return f"{run.folder}/{'judged' if step == 'judge' else step}.json"
    rule, _, number = step.partition(" ")
    stage = online(int(number)) if number else DPO
    folder = f"{run.folder}/seed-{seed}"
    if rule in TRAINS:
        return f"{folder}/{SFT if rule == SFT else stage}/{RECORD}"
    name = "candidates" if rule.endswith("candidates") else "judged"
    return f"{folder}/{pairs_folder(stage)}{name}.json"


def table(forecasts: Sequence[RecipeForecast]) -> str:
    """Every step with hours and money, then each recipe's sum beside its budget."""
    priced = any(step.usd is not None for one in forecasts for step in one.steps)
    head = ("recipe", "step", "seed", "on", "calibrated by", "hours", "GPU-hours")
    lines: list[tuple[str, ...]] = [(*head, *(("USD",) if priced else ()))]
    for forecast in forecasts:
        for step in forecast.steps:
            cost = (_cell(step.usd, 2),) if priced else ()
            by = (
                f"{step.past} step{'s' if step.past > 1 else ''}" if step.past else "not calibrated"
            )
            lines.append(
                (
                    step.recipe, step.step, "-" if step.seed is None else str(step.seed), step.on,
                    by, "?" if step.seconds is None else number(step.seconds / 3600),
                    "?" if step.gpu_hours is None else number(step.gpu_hours), *cost,
                )
            )  # fmt: skip
    return "\n".join([columns(lines, left=5), *sums(forecasts)])


def _cell(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:,.{digits}f}"


def sums(forecasts: Iterable[RecipeForecast]) -> list[str]:
    """A line for each recipe: all its steps, what it has cost, its budget."""
    lines = []
    for one in forecasts:
        if one.why:
            lines.append(f"{one.recipe}: hours are not known, as {one.why}.")
            continue
        cost = "" if one.usd is None else f", {one.usd:,.2f} USD"
        line = f"{one.recipe}: {number(one.hours)} hours, {number(one.gpu_hours)} GPU-hours{cost}"
        if not any(step.gpus for step in one.steps):
            line += " (on cores, which cost nothing here)"
        if one.spent_gpu_hours or one.spent_usd:
            line += f", beside {number(one.spent_gpu_hours)} GPU-hours that it has taken"
        lines.append(f"{line}; budget: {one.budget}.")
    return lines


NOTE = (
    "Hours of steps are arithmetic and not measured (docs/forecast.md): answers as long as they may"
    " be, all of them judged and trained on, until the steps before say how many there are."
)


def text(project: Project, cores: int) -> str:
    """What `snakemake forecast` says of recipes: all that is not there yet. Empty without."""
    if not project.trainings:
        return ""
    jobs = undone(project)
    found = recipe_forecasts(project, jobs, cores)
    head = "Training, before the studies (what is there is kept, and not in this table):"
    if not found:
        return f"{head} nothing is left to do."
    counts = _counts(jobs)
    told = [head, *trainings.lines(project.trainings, counts, {}), "", table(found), NOTE]
    over = over_budget(found)
    return "\n".join([*told, *([over] if over else [])])


def preview(project: Project, jobs: Collection[RecipeJob]) -> str:
    """What a dry-run says of the jobs of recipes that it shows."""
    found = recipe_forecasts(project, jobs)
    taking: dict[tuple[str, str], str] = {}
    for forecast in found:
        by_kind: dict[str, list[StepEstimate]] = {}
        for one in forecast.steps:
            by_kind.setdefault(rule_of(one.step), []).append(one)
        taking |= {(forecast.recipe, step): _taking(each) for step, each in by_kind.items()}
    told = trainings.lines(project.trainings, _counts(jobs), taking)
    over = over_budget(found)
    return "\n".join([*told, *(f"  {line}" for line in sums(found)), *([over] if over else [])])


def _taking(steps: Sequence[StepEstimate]) -> str:
    """Hours and money of all jobs of a step; empty where they are not known."""
    if any(step.seconds is None for step in steps):
        return ""
    hours = number(sum(step.seconds or 0.0 for step in steps) / 3600)
    costs = [step.usd for step in steps]
    paid = "" if None in costs else f", {sum(cost or 0.0 for cost in costs):,.2f} USD"
    return f"{hours} hours on {steps[0].on}{paid}"


def _counts(jobs: Iterable[RecipeJob]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for recipe, step, _ in jobs:
        counts[recipe, rule_of(step)] = counts.get((recipe, rule_of(step)), 0) + 1
    return counts


def over_budget(forecasts: Sequence[RecipeForecast]) -> str:
    """Which recipes are forecast to be beyond their budgets, and what to do; empty where none."""
    lines = [f"recipe '{one.recipe}': {over}." for one in forecasts if (over := one.over())]
    if not lines:
        return ""
    return "\n".join(
        [
            "Beyond the budget (`budget` in config/recipes.yaml):",
            *(f"  {line}" for line in lines),
            "To do: raise the budget; or lower `seeds`, `online_rounds`, `instructions.train`,"
            " `pairs.candidates`, `answers.max_tokens` or `epochs`; or name a faster tag in"
            " `gpus`.",
        ]
    )


def refuse_beyond_budget(project: Project, jobs: Collection[RecipeJob]) -> None:
    """Raise `BudgetError`, with the table, where the jobs of a run are beyond a recipe's budget."""
    found = recipe_forecasts(project, jobs)
    if over := over_budget(found):
        raise BudgetError(f"Nothing was started.\n{table(found)}\n{over}")
