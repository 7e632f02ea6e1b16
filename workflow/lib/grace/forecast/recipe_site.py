"""Where the recipes of a project are computed, and what of it jobs are given."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from grace.cluster.plan.placement import Placement, apply, needs_gpu
from grace.cluster.plan.sizes import CPU_CORES
from grace.cluster.plan.training_places import TrainingPlace
from grace.errors import ConfigError
from grace.forecast import hardware as machines
from grace.forecast.model_size import model_size
from grace.forecast.recipe_steps import RecipeSite
from grace.forecast.recipe_texts import recipe_numbers, recipe_texts
from grace.posttraining.budget import budget_of
from grace.posttraining.checkpoints import TRAINS
from grace.posttraining.recipe_runs import RecipeRun
from grace.posttraining.spending import ledger_of, ratios
from grace.settings.project import Project


def site_of(
    project: Project, run: RecipeRun, cores: int = CPU_CORES, tag: str | None = None
) -> RecipeSite:
    """Where a recipe's steps are computed: on a tag, or on the first of its base and trainings."""
    ledger = ledger_of(project.config.journal_dir, project.config.results, run.name)
    placed, place, unfit = _places(project, run, tag)
    entry = apply(run.base_entry, placed) if placed else run.base_entry
    price = run.recipe.budget.usd_per_hour
    if placed is not None and price is None:
        price = project.cluster.gpus[placed.tag].price_per_hour
    asking = training = None
    why = unfit
    if placed is not None and place is not None:
        asking = machines.of_gpus(project.cluster.gpus[placed.tag], placed)
        training = machines.of_gpus(project.cluster.gpus[place.placement.tag], place.placement)
        if asking is None or training is None:
            why = f"config/clusters.yaml says no `tflops` and `bandwidth_gb_s` of '{placed.tag}'"
    elif not needs_gpu(entry):
        asking = training = machines.of_cores(cores)
    size = model_size(entry, placed, project.root)
    if size is None:
        why = why or f"config/models.yaml says no `parameters_b` of '{run.base}'"
    site = RecipeSite(
        recipe=run.name,
        folder=run.folder,
        numbers=recipe_numbers(run),
        texts=recipe_texts(run),
        served=entry.engine_spec.runs_server,
        concurrency=project.config.requests.concurrency,
        size=size,
        asking=asking,
        training=training,
        asking_gpus=placed.gpus if placed else 0,
        training_gpus=1 if place else 0,
        four_bits={kind: place.methods[kind] == "qlora" if place else
                   run.recipe.sft.method == "qlora" for kind in TRAINS.values()},
        micro_batch={kind: place.micro_batch[kind] if place else 1 for kind in TRAINS.values()},
        price=price,
        why=why,
    )  # fmt: skip
    return site if asking is None or training is None else held(site, ledger)


@lru_cache(maxsize=16)
def _site(project: Project, recipe: str, cores: int) -> dict[str, Any]:
    return site_of(project, project.trainings[recipe], cores).dump()


def spending_settings(
    project: Project, recipe: str, step: str, seed: int | None, cores: int
) -> dict[str, Any]:
    """What `grace.posttraining.spending.Spending` is given of a step, as plain values."""
    return {
        "ledger": ledger_of(project.config.journal_dir, project.config.results, recipe),
        "budget": budget_of(project.trainings[recipe].recipe).dump(),
        "site": _site(project, recipe, cores),
        "step": step,
        "seed": seed,
    }


def _places(
    project: Project, run: RecipeRun, tag: str | None
) -> tuple[Placement | None, TrainingPlace | None, str]:
    """Where the base is asked and trained, None on cores; or why it can be nowhere."""
    try:
        asked, trained = project.recipe_placements[run.name], project.training_places[run.name]
    except ConfigError as error:
        return None, None, str(error)
    asked = [one for one in asked if one.tag == tag] or asked
    trained = [one for one in trained if one.placement.tag == tag] or trained
    return next(iter(asked), None), next(iter(trained), None), ""


def held(site: RecipeSite, ledger: str) -> RecipeSite:
    """The same, held to what past steps took on the same hardware, this recipe's or others'."""
    on = {kind.name for kind in (site.asking, site.training) if kind is not None}
    return replace(site, held=ratios(ledger, on))
