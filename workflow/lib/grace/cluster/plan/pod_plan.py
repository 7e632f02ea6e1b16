"""The pods that a configured run needs, before there is a run. Pure.

What the rules ask for one by one, here by group: the same sizes (`grace.steps`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from grace import steps
from grace.cluster.plan import reading_pods, sizes, timeouts, training_pods
from grace.cluster.plan.placement import Placement, needs_gpu, placement_for
from grace.cluster.plan.pods import PodRequest, dns_name
from grace.settings.config import ModelEntry
from grace.settings.fields import hosts_of
from grace.settings.project import Project

COMMAND = ("snakemake",)
"""Stands for what runs in a pod where only its size matters."""


def parallelism(entry: ModelEntry, placement: Placement | None) -> int:
    """Replications of a model that may run at once, as far as the model goes."""
    gpus = placement.gpus if placement else entry.gpus
    return entry.replication_parallelism or (3 if gpus <= 1 else 1)


def inference_memory_mb(entry: ModelEntry, placement: Placement | None) -> int:
    """Memory of a job that computes with a model; its first attempt's, without /dev/shm."""
    if not needs_gpu(entry):
        return entry.engine_spec.cpu_memory_mb
    return sizes.mib_to_mb((placement or placement_for(entry, "")).memory_mib)


def inference_minutes(project: Project, model: str, study: str, experiment: str) -> int:
    """Minutes after which a job that computes with a model is ended."""
    return timeouts.asking_minutes(project, model)[study, experiment]


def inference_pod(
    project: Project, model: str, replication: int | None, placement: Placement | None,
    command: Sequence[str] = COMMAND,
) -> PodRequest:  # fmt: skip
    """The pod of one replication; of any replication for None."""
    entry = project.entries[model]
    minutes = sum(timeouts.asking_minutes(project, model).values())
    name = model if replication is None else f"{model}-{replication}"
    return PodRequest(
        name=dns_name(f"grace-{name}"),
        run=project.config.results,
        rule="inference",
        model=model,
        replication=replication,
        command=list(command),
        placement=placement,
        cores=sizes.CLIENT_CORES if needs_gpu(entry) else sizes.CPU_CORES,
        mem_mb=inference_memory_mb(entry, placement),
        disk_mb=sizes.DISK_MB,
        runtime_min=minutes + steps.pod_minutes("inference", project.asked),
        expected_min=timeouts.expected(project, model, placement),
        at_once=at_once(project, model, placement),
        hosts=hosts_of(entry.base_url),
    )


def at_once(project: Project, model: str, placement: Placement | None) -> int:
    """Replications of the model that run at once where they are placed so."""
    first = next(iter(project.placements[model]), None)
    most = parallelism(project.entries[model], first)
    most = within_peak(project, most, placement)
    return min(most, len(project.config.replication_indices))


def within_peak(project: Project, most: int, placement: Placement | None) -> int:
    """At most so many pods placed so, that the cluster's `peak_gpus` hold; one at least."""
    peak = project.cluster.peak_gpus
    if placement is None or peak is None:
        return most
    return min(most, max(1, peak // placement.gpus))


def fallback_pods(project: Project) -> list[PodRequest]:
    """A pod of each model on every further tag that it may move to."""
    indices = project.config.replication_indices
    return (
        [
            replace(
                inference_pod(project, model, indices[0], placement),
                name=dns_name(f"grace-{model}-on-{placement.tag}"),
            )
            for model, allowed in project.placements.items()
            for placement in allowed[1:]
        ]
        + [
            replace(
                tables_pod(project, model, indices[0], placement),
                name=dns_name(f"grace-tables-{model}-on-{placement.tag}"),
            )
            for model in project.models
            for placement in (project.reader.placements[1:] if project.reader else ())
        ]
        + training_pods.fallback_training_pods(project)
    )


def expected_minutes(project: Project) -> dict[tuple[str, str], float]:
    """Minutes that a pod is expected to take on its first tag, by group and model, if known."""
    found = {
        ("inference", model): timeouts.expected(project, model, next(iter(allowed), None))
        for model, allowed in project.placements.items()
    }
    if project.reader is not None:
        first = next(iter(project.reader.placements), None)
        found |= {
            ("tables", model): reading_pods.expected_minutes(project, model, first)
            for model in project.models
        }
    known = {pod: minutes for pod, minutes in found.items() if minutes is not None}
    return known | training_pods.expected(project)


def pods(project: Project) -> list[PodRequest]:
    """Every pod of the run, on the first tag of each model. Raises `ConfigError` where a
    model fits no tag.
    """
    replications = project.config.replication_indices
    found = training_pods.training_pods(project)
    for model, allowed in project.placements.items():
        first = next(iter(allowed), None)
        found += [inference_pod(project, model, index, first) for index in replications]
    read_on = next(iter(project.reader.placements), None) if project.reader else None
    found += [
        tables_pod(project, model, index, read_on)
        for model in project.models
        for index in replications
    ]
    found.append(_plain(project, "report", "all"))
    return found


def tables_pod(
    project: Project, model: str, replication: int, placement: Placement | None
) -> PodRequest:
    """The pod of a replication's tables; with the model, where one of the run's own reads."""
    plain = _plain(project, "tables", f"{model}-{replication}", model, replication)
    reader = project.reader
    if not project.extraction.asks_model:
        return plain
    if reader is None:
        return replace(plain, reads_answers=True, hosts=hosts_of(project.extraction.base_url))
    jobs = steps.STEPS["extract"].jobs_in_pod(project.stages)
    more = reading_pods.reading_minutes(project, model) - steps.STEPS["extract"].minutes
    most = parallelism(reader.entry, placement)
    return replace(
        plain,
        reads_answers=True,
        reader=reader.key,
        placement=placement,
        cores=sizes.CLIENT_CORES if needs_gpu(reader.entry) else sizes.CPU_CORES,
        mem_mb=max(plain.mem_mb, reading_pods.reading_memory_mb(project, placement)),
        disk_mb=sizes.DISK_MB,
        runtime_min=(plain.runtime_min or 0) + jobs * more,
        expected_min=reading_pods.expected_minutes(project, model, placement),
        at_once=within_peak(project, most, placement),
    )


def _plain(
    project: Project, group: steps.Group, name: str,
    model: str | None = None, replication: int | None = None,
) -> PodRequest:  # fmt: skip
    return PodRequest(
        name=dns_name(f"grace-{group}-{name}"),
        run=project.config.results,
        rule=group,
        model=model,
        replication=replication,
        command=list(COMMAND),
        placement=None,
        cores=1,
        mem_mb=steps.pod_memory(group),
        runtime_min=steps.pod_minutes(group, project.stages),
    )


def needed(
    found: Iterable[PodRequest], jobs: Iterable[tuple[str, str | None, str | None]]
) -> list[PodRequest]:
    """Those pods that some job needs; jobs by rule, model and replication.

    Of steps of recipes by rule, recipe and training seed.
    """
    known = [(steps.of_rule(rule), first, second) for rule, first, second in jobs]
    of_recipes = {
        (step.group or step.name, recipe, seed)
        for step, recipe, seed in known
        if step is not None and step.of_recipe
    }
    wanted = {
        (step.group, model, replication)
        for step, model, replication in known
        if step is not None and step.group is not None and not step.of_recipe
    }
    of_all = {group for group, _, _ in wanted}
    return [
        pod
        for pod in found
        if (pod.rule, pod.recipe, _text(pod.training_seed)) in of_recipes
        or (pod.rule, pod.model, _text(pod.replication)) in wanted
        or (pod.model is None and pod.recipe is None and pod.rule in of_all)
    ]


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
