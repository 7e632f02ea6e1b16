"""The pods that a configured run needs, before there is a run. Pure.

What the rules ask for one by one, here by group: the same sizes (`grace.cluster.sizes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from grace.cluster import sizes
from grace.cluster.placement import Placement, needs_gpu, place
from grace.cluster.pods import PodRequest, dns_name
from grace.settings.config import ModelEntry
from grace.settings.project import Project

#: The rules behind each group.
RULES: dict[sizes.Group, tuple[str, ...]] = {
    "inference": ("plan", "generate", "score", "collect"),
    "tables": ("tabulate", "structure", "probabilities", "validate"),
    "report": ("merge", "reference", "analysis_study1", "analysis_study2", "report"),
}
COMMAND = ("snakemake",)
"""Stands for what runs in a pod where only its size matters."""


def parallelism(entry: ModelEntry, placement: Placement | None) -> int:
    """Replications of a model that may run at once, as far as the model goes."""
    gpus = placement.gpus if placement else entry.gpus
    return entry.replication_parallelism or (3 if gpus <= 1 else 1)


def inference_memory_mb(entry: ModelEntry, placement: Placement | None) -> int:
    """Memory of a job that computes with a model; its first attempt's, without /dev/shm."""
    if not needs_gpu(entry):
        return sizes.CPU_MODEL_MB
    return sizes.mib_to_mb((placement or place(entry, "")).memory_mib)


def inference_minutes(project: Project, model: str) -> int:
    """Minutes of each job that computes with a model: its part of a replication's `runtime_min`."""
    around = 2 * sizes.JOBS["inference"].minutes
    return sizes.shared(project.entries[model].runtime_min - around, _computing(project))


def _computing(project: Project) -> int:
    """Jobs of a replication that compute with the model."""
    return len(project.config.studies) * len(project.config.experiments)


def inference_pod(
    project: Project, model: str, replication: int | None, placement: Placement | None,
    command: Sequence[str] = COMMAND,
) -> PodRequest:  # fmt: skip
    """The pod of one replication; of any replication for None."""
    entry = project.entries[model]
    around = 2 * sizes.JOBS["inference"].minutes
    minutes = _computing(project) * inference_minutes(project, model) + around
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
        runtime_min=minutes,
        at_once=at_once(project, model, placement),
    )


def at_once(project: Project, model: str, placement: Placement | None) -> int:
    """Replications of the model that run at once where they are placed so."""
    first = next(iter(project.placements[model]), None)
    most = parallelism(project.entries[model], first)
    peak = project.cluster.peak_gpus
    if placement is not None and peak is not None:
        most = min(most, max(1, peak // placement.gpus))
    return min(most, len(project.config.replication_indices))


def fallback_pods(project: Project) -> list[PodRequest]:
    """A pod of each model on every further tag that it may move to."""
    indices = project.config.replication_indices
    return [
        replace(
            inference_pod(project, model, indices[0], placement),
            name=dns_name(f"grace-{model}-on-{placement.tag}"),
        )
        for model, allowed in project.placements.items()
        for placement in allowed[1:]
    ]


def pods(project: Project) -> list[PodRequest]:
    """Every pod of the run, on the first tag of each model. Raises `ConfigError`: a misfit."""
    replications = project.config.replication_indices
    found = []
    for model, allowed in project.placements.items():
        first = next(iter(allowed), None)
        found += [inference_pod(project, model, index, first) for index in replications]
    studies, experiments = len(project.config.studies), project.config.experiments
    # `tabulate` and `structure` for experiment 1, `probabilities` for 2; `validate`.
    tables = studies * (2 * ("exp1" in experiments) + ("exp2" in experiments)) + 1
    found += [
        _plain(project, "tables", f"{model}-{index}", tables, model, index)
        for model in project.models
        for index in replications
    ]
    # `merge` and an analysis of each study; `reference`, `report`.
    found.append(_plain(project, "report", "all", 2 * studies + 2))
    return found


def _plain(
    project: Project, group: sizes.Group, name: str, jobs: int,
    model: str | None = None, replication: int | None = None,
) -> PodRequest:  # fmt: skip
    size = sizes.JOBS[group]
    return PodRequest(
        name=dns_name(f"grace-{group}-{name}"),
        run=project.config.results,
        rule=group,
        model=model,
        replication=replication,
        command=list(COMMAND),
        placement=None,
        cores=1,
        mem_mb=size.mem_mb,
        runtime_min=jobs * size.minutes,
    )


def needed(
    found: Iterable[PodRequest], jobs: Iterable[tuple[str, str | None, str | None]]
) -> list[PodRequest]:
    """Those pods that some job needs; jobs by rule, model and replication."""
    groups = {rule: group for group, rules in RULES.items() for rule in rules}
    wanted = {
        (groups[rule], model, replication) for rule, model, replication in jobs if rule in groups
    }
    of_all = {group for group, _, _ in wanted}
    return [
        pod
        for pod in found
        if (pod.rule, pod.model, None if pod.replication is None else str(pod.replication))
        in wanted
        or (pod.model is None and pod.rule in of_all)
    ]
